"""Warm processes: forked from one that has imported everything, each works off one job at a time.

What a job does to its process stays there. One that kills it, hangs in it or fills its memory has
failed, the others go on, and the next process is forked from the clean one in some milliseconds.
Messages are JSON: nothing that a job sends is ever executed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

Job = Mapping[str, Any]

_START_SECONDS = 180.0  # until a process says that it is ready: the first waits for all imports
_LAST_WORDS = 10.0  # seconds that a process has to send its logs before it ends


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may take."""

    seconds: float = 600.0  # for one job; then the process is killed
    memory_mb: float = 2_000.0  # resident, looked at after each job; then another takes its place
    jobs: int = 50  # then too: libraries keep what they have opened, such as MLflow its databases


@dataclass(frozen=True, slots=True)
class Done:
    """How one job ended. `fault` says why it has no result; `told` is what it said on its way."""

    job: Job
    result: Any = None
    fault: str = ""
    told: Any = None
    crashed: bool = False  # the process ended, or was killed for its time
    seconds: float = 0.0  # of wall clock
    cpu_seconds: float = 0.0  # of the process, with all its threads
    memory_mb: float = 0.0  # resident after the job


@dataclass
class _Process:
    process: BaseProcess
    line: Connection
    since: float  # of its job, or of its start
    ready: bool = False
    job: Job | None = None
    told: Any = None


@dataclass
class Pool:
    """`size` processes that run `work` (as module:function), forked with `preload` imported.

    `work(job, tell)` returns what JSON holds; with `tell` it may say something before it is done,
    which outlives its process. `around`, a context manager by the same notation, is entered once in
    each process. A pool is used by one thread, once.
    """

    work: str
    size: int
    preload: Sequence[str] = ()
    around: str | None = None
    limits: Limits = Limits()
    on_told: Callable[[Job, Any], None] | None = None  # what a job says before it is done
    clock: Callable[[], float] = time.monotonic
    _living: list[_Process] = field(default_factory=list, init=False)
    _leaving: list[_Process] = field(default_factory=list, init=False)

    def run(self, jobs: Iterator[Job]) -> Iterator[Done]:
        """Each job's end, as they come; the next job is asked for when a process is free."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(self.preload))
        job = next(jobs, None)
        try:
            while True:
                while job is not None and len(self._living) < self.size:
                    self._living.append(self._started(context))
                for one in [p for p in self._living if p.ready and p.job is None]:
                    if job is not None:
                        self._give(one, job)
                        job = next(jobs, None)
                if job is None and all(p.job is None for p in self._living):
                    return
                yield from self._heard()
        finally:
            self._end()

    def _started(self, context: ForkServerContext) -> _Process:
        here, there = context.Pipe()
        process = context.Process(
            target=_main, args=(there, self.work, self.around, self.limits), daemon=True
        )
        process.start()
        there.close()
        return _Process(process, here, self.clock())

    def _give(self, one: _Process, job: Job) -> None:
        one.job, one.told, one.since = job, None, self.clock()
        with contextlib.suppress(OSError):  # it has just ended: `_heard` sees that
            _send(one.line, job)

    def _heard(self) -> Iterator[Done]:
        """Wait for a word of any process, or for the end of one's time."""
        due = min(p.since + self._allowed(p) for p in self._living if p.job or not p.ready)
        self._reap()
        lines = [one.line for one in self._living]
        spoke = multiprocessing.connection.wait(lines, max(0.0, due - self.clock()))
        for one in list(self._living):
            if one.line in spoke:
                yield from self._message(one)
            elif self.clock() - one.since >= self._allowed(one) and (one.job or not one.ready):
                yield from self._lost(one, killed=True)

    def _allowed(self, one: _Process) -> float:
        return self.limits.seconds if one.ready else _START_SECONDS

    def _message(self, one: _Process) -> Iterator[Done]:
        try:
            word = json.loads(one.line.recv_bytes())
        except (EOFError, OSError):
            yield from self._lost(one)
            return
        if word["kind"] == "ready":
            one.ready = True
        elif word["kind"] == "told":
            one.told = word["said"]
            if self.on_told is not None and one.job is not None:
                self.on_told(one.job, one.told)
        else:
            assert one.job is not None
            done = Done(
                one.job,
                word["result"],
                word["fault"],
                one.told,
                seconds=self.clock() - one.since,
                cpu_seconds=word["cpu"],
                memory_mb=word["memory"],
            )
            one.job, one.since = None, self.clock()
            if word["leaving"]:
                self._living.remove(one)
                self._leaving.append(one)
            yield done

    def _reap(self) -> None:
        """Those that leave send what they have to send, and end by themselves, mostly."""
        for one in list(self._leaving):
            if not one.process.is_alive() or self.clock() - one.since > _LAST_WORDS:
                _close(one, 0.0)
                self._leaving.remove(one)

    def _lost(self, one: _Process, *, killed: bool = False) -> Iterator[Done]:
        lasted = self.clock() - one.since
        _close(one, 0.0)
        self._living.remove(one)
        if not one.ready:
            raise RuntimeError(
                f"a process for checks must start within {_START_SECONDS:.0f} s; it "
                f"{'did not' if killed else 'ended: ' + _why(one.process.exitcode)}: see its "
                "messages above, and whether memory is left"
            )
        if one.job is not None:
            why = f"took longer than {self.limits.seconds:g} s" if killed else (
                f"ended its process ({_why(one.process.exitcode)})"
            )  # fmt: skip
            yield Done(one.job, None, why, one.told, crashed=True, seconds=lasted)

    def _end(self) -> None:
        for one in self._living:
            if one.job is None:
                with contextlib.suppress(OSError):
                    one.line.send_bytes(b"null")
        for one in self._living + self._leaving:
            _close(one, _LAST_WORDS if one.job is None else 0.0)
        self._living.clear()
        self._leaving.clear()


def _close(one: _Process, patience: float) -> None:
    one.process.join(patience)
    if one.process.is_alive():
        one.process.kill()
        one.process.join()
    one.line.close()


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit {code}"


def _send(line: Connection, value: Any) -> None:
    line.send_bytes(json.dumps(value).encode())


def named(place: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def memory_mb() -> float:
    """Resident memory of this process in MB; where it cannot be read, the highest there was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _end_with_parent() -> None:
    """A job whose parent was killed has nobody to tell its result: it ends soon, hung or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        time.sleep(_LAST_WORDS)
        os._exit(1)


def _main(line: Connection, work: str, around: str | None, limits: Limits) -> None:
    """The life of one process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it in order
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with named(around)() if around else contextlib.nullcontext():
        function = named(work)
        _send(line, {"kind": "ready"})
        for number in itertools.count(1):
            try:
                job = json.loads(line.recv_bytes())
            except (EOFError, OSError):  # the parent is gone
                return
            if job is None:
                return
            before = time.process_time()
            result, fault = None, ""
            try:
                result = function(job, lambda said: _send(line, {"kind": "told", "said": said}))
            except Exception as raised:
                fault = f"{type(raised).__name__}: {raised}"[:2_000]
            memory = memory_mb()
            word = {
                "kind": "done",
                "result": result,
                "fault": fault,
                "cpu": time.process_time() - before,
                "memory": memory,
                "leaving": number >= limits.jobs or memory > limits.memory_mb,
            }
            try:
                _send(line, word)
            except OSError:
                return
            if word["leaving"]:
                return
