"""Stopping a fit that cannot be asked to stop.

A thread cannot be killed. What CPython can do is raise an exception in it before its next bytecode
(`PyThreadState_SetAsyncExc`), so code that comes back to Python between steps ends there: boosted
trees between two trees, an L-BFGS between two steps, any loop of a user's own trainer. One call
into C that takes minutes, such as the decomposition of a large matrix, ends when it ends.

The exception may arrive at any bytecode, so what runs before it is withdrawn must survive it: only
locks written in C are held there (an Event's own lock could be left locked), and all of it lies in
one function, since a context manager has bytecode of its own between the block and its exit.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from models.families.base import FitTimeout

T = TypeVar("T")

_AGAIN = 0.5  # seconds: code that swallowed the exception, as a destructor does, gets it anew


class _Stop(BaseException):
    """Not an Exception, so that no library takes it for a fault of its own."""


def within(seconds: float | None, work: Callable[[], T]) -> T:
    """What `work()` answers; FitTimeout is raised inside it once `seconds` have passed.

    None: it may take for ever. Raises what `work` raises.
    """
    if seconds is None:
        return work()
    watchdog = _Watchdog(threading.get_ident(), seconds)
    try:
        try:
            try:
                watchdog.thread.start()
                return work()
            finally:
                watchdog.disarm()
        finally:  # once more, in case the exception came on the way to the first
            watchdog.disarm()
    except _Stop:
        watchdog.disarm()
        raise FitTimeout(
            f"a fit may take {seconds:.3g} s and was stopped: give more seconds or fewer rows"
        ) from None
    finally:
        watchdog.end()


class _Watchdog:
    """A thread that raises _Stop in another one until it is disarmed."""

    def __init__(self, ident: int, seconds: float) -> None:
        self.thread = threading.Thread(target=self._watch, name="fit-watchdog", daemon=True)
        self._ident = ctypes.c_ulong(ident)
        self._wait = min(max(seconds, 0.0), threading.TIMEOUT_MAX)
        self._armed = True
        self._lock = threading.Lock()
        self._running = threading.Lock()  # held until the end: what the thread sleeps on
        self._running.acquire()

    def _watch(self) -> None:
        while not self._running.acquire(timeout=self._wait):
            with self._lock:
                if not self._armed:
                    return
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self._ident, ctypes.py_object(_Stop))
            self._wait = _AGAIN

    def disarm(self) -> None:
        """From here on nothing is raised any more, and what was not yet raised is withdrawn."""
        while True:
            try:
                with self._lock:
                    self._armed = False
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._ident, None)
                return
            except _Stop:  # it arrived on the way here
                continue

    def end(self) -> None:
        """Let the thread go; after `disarm`."""
        self._running.release()
