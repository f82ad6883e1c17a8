"""Stopping a fit that cannot be asked to stop.

A thread cannot be killed. What CPython can do is raise an exception in it before its next bytecode
(`PyThreadState_SetAsyncExc`), so code that comes back to Python between steps ends there: boosted
trees between two trees, an L-BFGS between two steps, any loop of a user's own trainer. One call
into C that takes minutes, such as the decomposition of a large matrix, ends when it ends.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from models.families.base import FitTimeout

_AGAIN = 0.25  # seconds: code that swallowed the exception, as a destructor does, gets it anew


class _Stop(BaseException):
    """Not an Exception, so that no library takes it for a fault of its own."""


@contextmanager
def stopped_after(seconds: float | None) -> Iterator[None]:
    """Raise FitTimeout inside the block once `seconds` have passed; None: never."""
    if seconds is None:
        yield
        return
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    over = threading.Event()

    def watch() -> None:
        wait = max(seconds, 0.0)
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_Stop))
            wait = _AGAIN

    watcher = threading.Thread(target=watch, name="fit-watchdog", daemon=True)
    watcher.start()
    try:
        try:
            yield
        finally:
            _end(over, lock, thread)
    except _Stop:
        _end(over, lock, thread)
        raise FitTimeout(
            f"a fit may take {seconds:.3g} s and was stopped: give more seconds or fewer rows"
        ) from None


def _end(over: threading.Event, lock: threading.Lock, thread: ctypes.c_ulong) -> None:
    """From here on nothing is raised any more, and what was not yet raised is withdrawn."""
    while True:
        try:
            with lock:
                over.set()
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
            return
        except _Stop:  # it arrived on the way here
            continue
