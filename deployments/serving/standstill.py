"""Ends a worker that stands still, so that its supervisor can start another.

The event loop sets a timer anew once a second. The timer belongs to C code that needs neither the
loop nor the interpreter's lock: when it runs out, since a model hangs or holds the lock, it writes
all threads' tracebacks to standard error and ends the process at once. What was answered is in the
telemetry's spool or goes with the last flush interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

EXIT = 70  # of a worker whose scoring threads stand still; one whose loop does ends with 1
_BEAT = 1.0  # seconds, at most


class Standstill:
    """Watches one event loop, and by `busy` the threads that score beside it: for how many seconds
    the oldest of their calls has been running. `beat` is a file whose time of change tells the
    supervisor that the worker lives, since a process that is stopped cannot end itself."""

    def __init__(
        self, seconds: float, busy: Callable[[], float] = lambda: 0.0, beat: Path | None = None
    ) -> None:
        self._seconds = seconds
        self._busy = busy
        self._path = beat
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; call it in the loop's thread."""
        self._loop = loop
        self._beat()

    def stop(self) -> None:
        """Watch no more."""
        if self._next is not None:
            self._next.cancel()
        faulthandler.cancel_dump_traceback_later()

    def _beat(self) -> None:
        if self._busy() > self._seconds:
            log.error("a scoring thread stands still for %.0f s: this worker ends", self._seconds)
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            os._exit(EXIT)
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=sys.__stderr__ or 2)
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.touch()
        assert self._loop is not None
        self._next = self._loop.call_later(min(_BEAT, self._seconds / 4), self._beat)
