"""Trials in processes of this machine, each place a process of its own.

One pool of several processes would be lost whole when one of them is killed. So a trial that takes
its process down is one failed trial, and one that cannot be stopped is ended with its process.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner

from tasks.cluster import node
from tasks.cluster.remote import Nodes
from tasks.cluster.store import Mark

log = logging.getLogger(__name__)


class Processes(Nodes):
    """`count` processes; a context manager. They are ready for trials when it is entered."""

    tries = 1  # nothing here but the trial itself kills its process

    def __init__(self, count: int, given: Mapping[str, Any], flow: str) -> None:
        self._given, self._flow = given, flow
        self._free = list(range(count))
        self._runners: list[ProcessPoolTaskRunner | None] = [None] * count
        self._at: dict[int, tuple[int, Any]] = {}  # trial -> its place and future

    def __enter__(self) -> Processes:
        try:
            runners = [self._runner(place) for place in range(len(self._runners))]
            shared = {key: self._given[key] for key in ("retrain", "token")} | {"flow": self._flow}
            asked = [
                runner.submit(node.ready_task, {**shared, "place": place})
                for place, runner in enumerate(runners)
            ]
            for future in asked:
                future.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for place, _ in list(self._at.values()):
            self._end(place, kill=True)  # nobody waits for what runs still
        for place in range(len(self._runners)):
            self._end(place)

    def submit(self, number: int, attempt: int) -> Any:
        place = self._free.pop()
        parameters = {**self._given, "number": number, "attempt": attempt}
        future = self._runner(place).submit(node.trial, parameters)
        self._at[number] = place, future
        return future

    def _runner(self, place: int) -> ProcessPoolTaskRunner:
        """The place's own, which has one process, started with its first task."""
        runner = self._runners[place]
        if runner is None:
            runner = self._runners[place] = ProcessPoolTaskRunner(
                max_workers=1, initializer=_end_with, initargs=(os.getpid(),)
            ).__enter__()
        return runner

    def stop(self, future: Any, mark: Mark | None) -> None:
        if mark is not None:
            with suppress(ProcessLookupError):
                os.kill(mark.pid, signal.SIGKILL)
        else:  # it has not said which process it is in, or not for long
            for place, other in self._at.values():
                if other is future:
                    self._kill(place)

    def free(self, number: int) -> None:
        place, future = self._at.pop(number, (None, None))
        if place is None:
            return
        # its record may be there a moment before the process says so: then the process is whole
        wrapped = future.wrapped_future
        if wrapped.done() and wrapped.exception() is not None:
            self._end(place)
        self._free.append(place)

    def _end(self, place: int, *, kill: bool = False) -> None:
        runner, self._runners[place] = self._runners[place], None
        if runner is None:
            return
        if kill:
            self._kill_of(runner)
        try:
            runner.__exit__(None, None, None)
        except Exception:  # of a pool that is broken already
            log.debug("a process that was lost did not end in order", exc_info=True)

    def _kill(self, place: int) -> None:
        if (runner := self._runners[place]) is not None:
            self._kill_of(runner)

    @staticmethod
    def _kill_of(runner: ProcessPoolTaskRunner) -> None:
        executor = runner._executor
        for process in list((getattr(executor, "_processes", None) or {}).values()):
            process.kill()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a pool's own would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
