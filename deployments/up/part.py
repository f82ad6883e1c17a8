"""One part: a child process that is started, asked how it is, and started anew when it fails."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from deployments.processes import Child, last_words, spawn
from deployments.stack import Server
from deployments.up.health import Health, Probe

STEADY = 60.0  # seconds that a process lives when its end is not the fault of its beginning
LONGEST_WAIT = 30.0  # seconds before it is started again
START = 300.0  # seconds that a start may take; a busy machine takes a minute
EXTERNAL = 30.0  # seconds that a server of somebody else has to answer for the first time
LARGEST_LOG = 20_000_000  # bytes: one that is larger at a start is put aside, over the one before
MISSES = 3  # answers in a row that fail before a part counts as standing still

_TICK = 0.1
_ASK_STARTING, _ASK = 0.25, 2.0  # seconds between two questions


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a part. States: waiting, starting, healthy, unwell, restarting, stopping,
    stopped, failed. `since` is seconds since 1970."""

    state: str = "waiting"
    detail: str = ""
    since: float = 0.0
    ready: bool = False
    restarts: int = 0
    pid: int | None = None


def backoff(falls: int) -> float:
    """Seconds to wait after so many ends in a row.

    >>> [backoff(n) for n in (1, 2, 3, 10)]
    [1.0, 2.0, 4.0, 30.0]
    """
    return min(2.0 ** (falls - 1), LONGEST_WAIT)


class Part:
    """Runs `server` in a thread of its own until `stop`; `told` hears of each change of state.

    A part that is up for the first time and ends before it is well has `failed`, since its start
    would fail again; later it is started again and again, with a wait that grows. One that has not
    answered for `hang` seconds is standing still, and is killed; while it is `excused`, what it
    works for being down, these do not count. With `external` it is somebody else's server: asked,
    and never started.
    """

    def __init__(
        self,
        key: str,
        server: Server,
        probe: Probe,
        *,
        asks: str = "",
        page: str = "",
        hang: float = 60.0,
        grace: float = 10.0,
        external: bool = False,
        before: Callable[[], None] = lambda: None,
        excused: Callable[[], bool] = lambda: False,
        told: Callable[[Part], None] = lambda _: None,
    ) -> None:
        self.key = key
        self.server = server
        self.asks = asks or server.url + server.health  # what whoever doubts it may ask
        self.page = page or server.url
        self.external = external
        self.state = State(since=time.time())
        self.told = told
        self.began: float | None = None  # monotonic, of the first start
        self.took: float | None = None  # seconds until it was well for the first time
        self.stopped_in: float | None = None
        self.words = ""  # the end of the log of one that could not start
        self._probe = probe
        self._hang = hang
        self._grace = grace
        self._before = before
        self._excused = excused
        self._over = threading.Event()
        self._child: Child | None = None
        self._thread = threading.Thread(target=self._run, name=f"part-{key}", daemon=True)

    def start(self) -> None:
        self.began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Tell it to end, wait until it has; what is left after the grace is killed."""
        at = time.monotonic()
        self._over.set()
        if self.state.state in ("stopped", "failed"):
            return
        self._set("stopping")
        child = self._child
        if child is not None:
            child.stop(self._grace)
        if self.began is not None:
            self._thread.join()
        if self._child is not None and self._child is not child:  # it was just being started
            self._child.stop(self._grace)
        if self._child is not None:
            atexit.unregister(self._child.stop)
        self.stopped_in = time.monotonic() - at
        self._set("stopped", ready=False, pid=None)

    def kill(self) -> None:
        """End at once, in no order."""
        self._over.set()
        if self._child is not None:
            self._child.kill()

    def told_as(self) -> dict[str, Any]:
        """For the record and for programs."""
        now = self.state
        return {
            "part": self.key,
            "state": now.state,
            "ready": now.ready,
            "detail": now.detail,
            "since": now.since,
            "restarts": now.restarts,
            "pid": now.pid,
            "url": self.server.url,
            "page": self.page,
            "asks": self.asks,
            "log": "" if self.external else str(self.server.log),
            "external": self.external,
            "start_seconds": self.took,
        }

    def _run(self) -> None:
        falls = 0
        while not self._over.is_set():
            self._set("starting", ready=False)
            began = time.monotonic()
            try:
                self._begin()
                reason = self._watch()
            except Exception as fault:  # no process, no log: a full disk, too many files
                reason = f"{type(fault).__name__}: {fault}"
            if self._over.is_set() or reason is None:
                return
            if self._child is not None:
                self._child.kill()
                atexit.unregister(self._child.stop)
                self._child = None
            if self.took is None:
                self._set("failed", reason, pid=None)
                return
            falls = falls + 1 if time.monotonic() - began < STEADY else 1
            wait = backoff(falls)
            self._set(
                "restarting",
                f"{reason}; starts again in {wait:g} s",
                ready=False,
                restarts=self.state.restarts + 1,
                pid=None,
            )
            self._over.wait(wait)

    def _begin(self) -> None:
        if self.external:
            return
        self._before()
        server = self.server
        with suppress(FileNotFoundError):
            if server.log.stat().st_size > LARGEST_LOG:
                server.log.replace(server.log.with_name(f"{server.log.name}.1"))
        self._child = spawn(
            server.name, server.command, url=server.url, log=server.log, env=server.env
        )
        atexit.register(self._child.stop, 2.0)
        self._set("starting", pid=self._child.process.pid)

    def _watch(self) -> str | None:
        """Why it has to be started again; None when it was told to stop."""
        began = time.monotonic()
        well, asked, missed, first_miss = False, float("-inf"), 0, 0.0
        while not self._over.wait(_TICK):
            if self._child is not None and not self._child.alive:
                return self._ended(well)
            now = time.monotonic()
            if now - asked < (_ASK if well else _ASK_STARTING):
                continue
            found, asked = self._probe(), time.monotonic()
            if self._child is not None and not self._child.alive:
                return self._ended(well)  # and another that answers in its place is not it
            if found.well:
                well, missed = True, 0
                self._healthy(found, now)
                continue
            if not well:
                allowed = EXTERNAL if self.external else START
                if asked - began > allowed:
                    return f"not well after {allowed:.0f} s ({found.detail})"
                continue
            missed += 1
            if missed >= 2:
                self._set("unwell", found.detail, ready=False)
            if missed == 1 or self._excused():
                first_miss = asked
            if missed >= MISSES and asked - first_miss > self._hang and not self.external:
                return f"stood still for {asked - first_miss:.0f} s ({found.detail})"
        return None

    def _healthy(self, found: Health, now: float) -> None:
        if self.took is None and self.began is not None:
            self.took = now - self.began
        self._set("healthy", found.detail, ready=found.ready)

    def _ended(self, well: bool) -> str:
        assert self._child is not None
        code = self._child.process.returncode
        how = f"ended by signal {code - 128}" if code > 128 else f"ended with code {code}"
        if well:
            return how
        words = last_words(self._child.log)
        self.words = f"{how}: {words}"
        return f"{how}: {words.splitlines()[-1].strip()}"

    def _set(self, state: str, detail: str = "", **changes: Any) -> None:
        before = self.state
        since = before.since if state == before.state else time.time()
        now = {
            "ready": before.ready,
            "restarts": before.restarts,
            "pid": before.pid,
        } | changes
        self.state = State(state, detail, since, **now)
        # what is wrong with an unwell part may read otherwise at each look, and is told once
        if before.state != state or (before.detail != detail and state != "unwell"):
            self.told(self)
