"""The process above the workers: starts them, starts them anew, and says so.

A worker that ends by itself (killed, out of memory, crashed in native code, standing still) is
started anew at once; one that ends again and again within a minute waits longer each time, up to
half a minute, while the others go on. A worker that has grown beyond `serving.memory_mb` is
replaced: its successor answers before it ends. One that does not beat any more, stopped or stuck,
is killed. What has happened is in `state.json` of the workers' folder, for `/metrics`.

The socket is bound here and shared by all workers. No thread runs here, so that it may fork.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.serving.balance import Share
from deployments.serving.metrics import FOLDER

log = logging.getLogger(__name__)

_STEADY = 60.0  # seconds that a worker lives when its end is not the fault of its beginning
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # before the second start in a row, then doubled
_READY = 60.0  # seconds that a successor has to answer
_HELPER_SILENT = 10.0  # seconds
_TICK = 0.5
_STOPS = (signal.SIGTERM, signal.SIGINT)

__all__ = ["FOLDER", "Backoff", "Supervisor", "beat_file", "end_with_parent", "listen", "why"]

_fork = multiprocessing.get_context("fork")


def beat_file(folder: str | Path, pid: int) -> Path:
    """What a worker touches while it lives."""
    return Path(folder) / f"beat-{pid}"


def listen(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """A socket that listens. Raises OSError when the port is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening


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


def end_with_parent() -> None:
    """Have this process end in good order when the one above is gone, which was killed: a worker
    would hold the port for ever."""
    threading.Thread(target=_watch_parent, name="parent", daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        log.error("the supervisor is gone: this process ends")
        os.kill(os.getpid(), signal.SIGTERM)


class Child:
    """A process of ours, and since when it lives."""

    def __init__(self, name: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.born = time.monotonic()
        self.process = _fork.Process(name=name, target=_begin, args=(name, target, arguments))
        self.process.start()

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def end(self, seconds: float) -> None:
        """Tell it to end, and make it."""
        self.process.terminate()
        self.process.join(seconds)
        if self.alive:
            log.warning("%s does not end in good order: killed", self.process.name)
            self.process.kill()
            self.process.join()

    def memory_mb(self) -> float:
        """Its resident memory; 0 when nobody can say."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        except OSError:  # a system without /proc
            command = ["ps", "-o", "rss=", "-p", str(self.pid)]
            found = subprocess.run(  # noqa: S603 - ours
                command, capture_output=True, text=True, check=False
            ).stdout
            return int(found) / 1024 if found.strip().isdigit() else 0.0


def _begin(name: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(OSError):  # for whoever looks with ps or top
        Path("/proc/self/comm").write_text(name[:15])
    # What the process above does at a signal is not for its children: one that is told to end while
    # it starts has answered nothing, and may end at once.
    signal.set_wakeup_fd(-1)
    for number in (*_STOPS, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal's Ctrl-C the process above decides
    target(*arguments)


class Supervisor:
    """Keeps `workers` processes that run `work(number, socket)`, and `helpers` beside them by name,
    until SIGTERM or SIGINT. `memory_mb` is what a worker may grow to, looked at every `sample`
    seconds; `drain` what it has to end in good order."""

    def __init__(
        self,
        listening: socket.socket,
        work: Callable[[int, socket.socket], None],
        *,
        workers: int,
        folder: Path,
        hang_seconds: float,
        drain: float,
        memory_mb: float | None = None,
        sample: float = 5.0,
        share: Path | None = None,
        helpers: dict[str, Callable[[], None]] | None = None,
    ) -> None:
        self._listening = listening
        self._work = work
        self._wanted = workers
        self._folder = folder
        self._hang_seconds = hang_seconds
        self._drain = drain
        self._memory_mb = memory_mb
        self._sample = sample
        self._share = share
        self._helpers = helpers or {}
        self._workers: dict[int, Child] = {}
        self._beside: dict[str, Child] = {}
        self._backoff = Backoff()
        self._due: dict[int | str, float] = {}  # who is started again, and when
        self._restarts: Counter[str] = Counter()
        self._stop = self._reload = False

    def serve(self) -> None:
        """Until a signal says stop. Then all end in good order."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        before = {n: signal.signal(n, self._told) for n in (*_STOPS, signal.SIGHUP)}
        try:
            for name in self._helpers:
                self._start(name)
            for number in range(self._wanted):
                self._start(number)
            self._tell()
            looked = time.monotonic()
            while not self._stop:
                self._wait(read)
                self._look()
                if time.monotonic() - looked >= self._sample:
                    looked = time.monotonic()
                    self._replace_the_large()
        finally:
            self._end_all()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(read)
            os.close(write)

    def _told(self, number: int, _frame: Any) -> None:
        if number in _STOPS:
            self._stop = True
        else:
            self._reload = True

    def _wait(self, signals: int) -> None:
        """Until somebody ends, a signal comes, or the time for a look has come."""
        ends = [child.process.sentinel for child in (*self._workers.values(), *self._all_beside())]
        ready, _, _ = select.select([signals, *ends], [], [], _TICK)
        if signals in ready:
            os.read(signals, 4096)

    def _all_beside(self) -> list[Child]:
        return list(self._beside.values())

    def _start(self, who: int | str) -> Child:
        if isinstance(who, str):
            child = self._beside[who] = Child(f"everfit-{who}", self._aside, (who,))
            return child
        child = Child(f"everfit-worker{who + 1}", self._work, (who, self._listening))
        self._workers[who] = child
        return child

    def _aside(self, who: str) -> None:
        """What a helper's process does: it answers nobody, so that the port is not its to hold."""
        self._listening.close()
        self._helpers[who]()

    def _look(self) -> None:
        for who, child in [*self._workers.items(), *self._beside.items()]:
            if not child.alive:
                self._fallen(who, child)
        now = time.monotonic()
        for who in [who for who, due in self._due.items() if due <= now]:
            del self._due[who]
            self._start(who)
            self._tell()
        self._kill_the_silent()
        if self._reload:
            self._reload = False
            for number in list(self._workers):
                self._replace(number, "reload")

    def _fallen(self, who: int | str, child: Child) -> None:
        lived = time.monotonic() - child.born
        child.process.join()
        code = child.process.exitcode
        place = who if isinstance(who, int) else -1 - list(self._helpers).index(who)
        wait = self._backoff.after(place, lived)
        self._due[who] = time.monotonic() + wait
        if isinstance(who, int):
            del self._workers[who]
            self._restarts[why(code)] += 1
            if self._share is not None:
                Share.ended(self._share, who)
        else:
            del self._beside[who]
        name = f"worker {who + 1}" if isinstance(who, int) else who
        log.error(
            "%s ended after %.1f s (%s); it starts again in %.1f s", name, lived, why(code), wait
        )
        beat_file(self._folder, child.pid).unlink(missing_ok=True)
        self._tell()

    def _kill_the_silent(self) -> None:
        """One that is stopped cannot end itself, and would keep its share of connections."""
        limit = 1.5 * self._hang_seconds
        limits = [(child, limit) for child in self._workers.values()]
        # helpers beat whatever they do; stopped in the midst of it, one may hold the store
        limits += [(child, min(limit, _HELPER_SILENT)) for child in self._beside.values()]
        for child, most in limits:
            with contextlib.suppress(OSError):
                silent = time.time() - beat_file(self._folder, child.pid).stat().st_mtime
                if silent > most and child.alive:
                    log.error("%s is silent for %.0f s: killed", child.process.name, silent)
                    child.process.kill()
                    child.process.join(_TICK)

    def _replace_the_large(self) -> None:
        if self._memory_mb is None:
            return
        for number, child in list(self._workers.items()):
            if child.memory_mb() > self._memory_mb:
                log.warning("worker %d has grown beyond %g MB", number + 1, self._memory_mb)
                self._replace(number, "memory")

    def _replace(self, number: int, reason: str) -> None:
        """By a successor that answers before the old one is told to end."""
        old = self._workers[number]
        successor = self._start(number)
        deadline = time.monotonic() + _READY
        while not beat_file(self._folder, successor.pid).exists():
            if time.monotonic() > deadline or self._stop or not successor.alive:
                break
            time.sleep(0.05)
        old.end(self._drain)
        beat_file(self._folder, old.pid).unlink(missing_ok=True)
        self._restarts[reason] += 1
        self._tell()

    def _end_all(self) -> None:
        """The workers first: what they still have to write, the helpers take."""
        self._listening.close()
        for children in (self._workers.values(), self._beside.values()):
            for child in children:
                child.process.terminate()
            until = time.monotonic() + self._drain
            for child in children:
                child.end(max(until - time.monotonic(), 0.0))

    def _tell(self) -> None:
        """Write `state.json`, whole or not at all."""
        alive = sum(child.alive for child in self._workers.values())
        state = {"workers": self._wanted, "alive": alive, "restarts": dict(self._restarts)}
        fresh = self._folder / "state.tmp"
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps(state), encoding="utf-8")
            os.replace(fresh, self._folder / "state.json")
