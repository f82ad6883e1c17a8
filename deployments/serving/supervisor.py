"""The process above the workers: starts them, starts them anew, and says so.

A worker that ends by itself (killed, out of memory, crashed in native code, standing still) is
started anew at once; one that ends again and again within a minute waits longer each time, up to
half a minute, while the others go on. A worker that has grown beyond `serving.memory_mb` is
replaced: its successor answers before it ends. One that does not beat any more, stopped or stuck,
is killed. What has happened is in `state.json` of the workers' folder, for `/metrics`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from granian import Granian

from deployments.serving.metrics import FOLDER

log = logging.getLogger(__name__)

_STEADY = 60.0  # seconds that a worker lives when its end is not the fault of its beginning
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # before the second start in a row, then doubled
_READY = 60.0  # seconds that a successor has to answer
_TICK = 0.5


__all__ = ["FOLDER", "Backoff", "Supervisor", "beat_file", "why"]


def beat_file(folder: str | Path, pid: int) -> Path:
    """What a worker touches while it lives."""
    return Path(folder) / f"beat-{pid}"


class Backoff:
    """When a worker that has ended is started again."""

    def __init__(self) -> None:
        self._falls: Counter[int] = Counter()  # ends in a row, by worker

    def after(self, worker: int, lived: float) -> float:
        """Seconds to wait before `worker`, which has lived so many seconds, starts again.

        >>> backoff = Backoff()
        >>> [backoff.after(0, 1.0) for _ in range(4)], backoff.after(0, 3600.0)
        ([0.0, 0.5, 1.0, 2.0], 0.0)
        """
        self._falls[worker] = self._falls[worker] + 1 if lived < _STEADY else 1
        falls = self._falls[worker]
        return 0.0 if falls < 2 else min(_FIRST_WAIT * 2.0 ** (falls - 2), _LONGEST_WAIT)


def why(exit_code: int | None) -> str:
    """The end of a process in a word.

    >>> why(-9), why(-11), why(70), why(1)
    ('SIGKILL', 'SIGSEGV', 'exit 70', 'exit 1')
    """
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit {exit_code}"


class Supervisor(Granian):
    """Granian, but for what it does when a worker has ended."""

    def __init__(self, *arguments: Any, folder: Path, hang_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, respawn_failed_workers=True, **options)
        self._folder = folder
        self._hang_seconds = hang_seconds
        self._backoff = Backoff()
        self._due: dict[int, float] = {}  # worker: when it is started again
        self._restarts: Counter[str] = Counter()

    def startup(self, spawn_target: Any, target_loader: Any) -> None:
        super().startup(spawn_target, target_loader)
        self._tell()

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        while True:
            self.main_loop_interrupt.wait(_TICK)
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                return
            for worker in self._ended():
                lived = time.monotonic() - self.wrks[worker].birth
                self._fallen(worker, self.wrks[worker].inner.exitcode, lived)
            now = time.monotonic()
            for worker in [w for w, due in self._due.items() if due <= now]:
                del self._due[worker]
                self._respawn_workers([worker], spawn_target, target_loader)
                self._tell()
            self._kill_the_silent()
            if self.reload_signal:
                self._reload(spawn_target, target_loader)
            if self.rss_signal:
                self.rss_signal = False
                self._handle_rss_signal(spawn_target, target_loader)
                self._watch_workers_rss()

    def _ended(self) -> list[int]:
        """Workers that have ended by themselves since we looked last."""
        ended = []
        while self.interrupt_children:
            ended.append(self.interrupt_children.pop(0))
        return ended

    def _fallen(self, worker: int, exit_code: int | None, lived: float) -> None:
        wait = self._backoff.after(worker, lived)
        self._restarts[why(exit_code)] += 1
        self._due[worker] = time.monotonic() + wait
        log.error(
            "worker %d ended after %.1f s (%s); it starts again in %.1f s",
            worker + 1,
            lived,
            why(exit_code),
            wait,
        )
        self._tell()

    def _kill_the_silent(self) -> None:
        """A worker that is stopped cannot end itself, and would keep its share of connections."""
        for worker in self.wrks:
            with contextlib.suppress(OSError):
                silent = time.time() - beat_file(self._folder, worker._id()).stat().st_mtime
                if silent > 1.5 * self._hang_seconds and worker.is_alive():
                    log.error("worker %d is silent for %.0f s: killed", worker.idx + 1, silent)
                    worker.inner.kill()  # not `worker.kill`: it is to be started again
                    worker.join(_TICK)

    def _respawn_workers(
        self, workers: Any, spawn_target: Any, target_loader: Any, delay: float = 0
    ) -> None:
        """As granian does; but with a `delay`, which asks for a successor that answers first, wait
        until it does. Only then is the old one told to end."""
        if not delay:
            super()._respawn_workers(workers, spawn_target, target_loader)
            return
        for worker in workers:
            old = self.wrks[worker]
            successor = self._spawn_worker(
                idx=worker, target=spawn_target, callback_loader=target_loader
            )
            successor.start()
            deadline = time.monotonic() + _READY
            while not beat_file(self._folder, successor._id()).exists():
                if time.monotonic() > deadline or self.interrupt_signal:
                    break
                time.sleep(0.05)
            self.wrks[worker] = successor
            old.terminate()
            old.join(self.workers_kill_timeout)
            if old.is_alive():
                old.kill()
                old.join()
            self._restarts["memory"] += 1
            self._tell()

    def _tell(self) -> None:
        """Write `state.json`, whole or not at all."""
        alive = sum(worker.is_alive() for worker in self.wrks)
        state = {"workers": self.workers, "alive": alive, "restarts": dict(self._restarts)}
        fresh = self._folder / "state.tmp"
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps(state), encoding="utf-8")
            os.replace(fresh, self._folder / "state.json")
