"""Start the parts in order, watch over them until told to stop, and stop them in order."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from deployments import stack
from deployments.processes import StackFault
from deployments.up.events import Events
from deployments.up.jobs import Jobs, trainings, webhooks
from deployments.up.overview import Observer
from deployments.up.part import Part
from deployments.up.place import Place, held
from deployments.up.plan import Model, Plan, Wishes, check, check_ports, homes, plan

_TICK = 0.25
_WRITE = 2.0  # seconds between two records, when nothing has happened
_PATIENCE = 30.0  # seconds for other commands that use our Prefect server


class Screen(Protocol):
    """Whoever shows what `told` says, several times a second."""

    def show(self, state: dict[str, Any]) -> None: ...


class Up:
    """One run of it all; `stop` may be called from a signal handler."""

    def __init__(self, place: Place, models: Sequence[Model], wishes: Wishes, events: Events):
        self.place = place
        self.models = tuple(models)
        self.wishes = wishes
        self.events = events
        self.phase = "starting"
        self.started = datetime.now(UTC)
        self.ready_in: float | None = None
        self._over = threading.Event()
        self._hurry = threading.Event()
        self._plan: Plan | None = None
        self._observer: Observer | None = None
        self._written = float("-inf")
        self._unwritten = ""  # why the record could not be written
        self._screen: Screen | None = None

    def stop(self) -> None:
        """End in order; asked again, at once."""
        if self._over.is_set():
            self._hurry.set()
            for part in self._plan.parts if self._plan else []:
                part.kill()
        self._over.set()

    def run(self, screen: Screen) -> None:
        """Until `stop`. Raises StackFault when something cannot be started."""
        self._screen = screen
        check(self.models)
        with held(self.place, [m.config for m in self.models]), ExitStack() as ending:
            self._tick(write=True)  # from here on `down` knows whom to stop
            check_ports(self.models)
            began = time.monotonic()
            with _alone(homes(self.place, self.models)) as released:
                self._plan = plan(self.place, self.models, self.wishes, self._changed)
                for note in self._plan.notes:
                    self.events.tell("ports", note)
                ending.callback(self._end, self._plan)
                self._start(self._plan, ending, released)
            if self._over.is_set():
                return
            self.phase = "running"
            self.ready_in = time.monotonic() - began
            self.events.tell("up", f"everything is healthy after {self.ready_in:.1f} s")
            self._begin_jobs(self._plan, ending)
            while not self._over.wait(_TICK):
                self._tick()

    def _start(self, chosen: Plan, ending: ExitStack, released: Callable[[], None]) -> None:
        ending.enter_context(_announced(chosen))
        for number, parts in enumerate(chosen.stages):
            for part in parts:
                part.start()
            self._until_well(parts)
            if self._over.is_set():
                return
            if number == 0:
                released()
                self._observer = Observer(self.models, chosen.api, self.events.tell)
                ending.callback(self._observer.stop)
                self._observer.start()

    def _begin_jobs(self, chosen: Plan, ending: ExitStack) -> None:
        lacking = [m for m in self.models if not _served(m)]
        jobs = list(webhooks(chosen))
        if self.wishes.train:
            jobs += trainings(lacking)
        else:
            for model in lacking:
                self.events.tell(
                    model.name,
                    f"no champion yet, so its server answers nobody: run `everfit train "
                    f"{model.path}` in another terminal, or start with --train",
                )
        assert self._observer is not None
        work = Jobs(jobs, chosen, self.events.tell, self._observer.training)
        ending.callback(work.stop)
        work.start()

    def _until_well(self, parts: Sequence[Part]) -> None:
        while not self._over.wait(_TICK):
            self._tick()
            failed = [p for p in parts if p.state.state == "failed"]
            if failed:
                why = failed[0].words or failed[0].state.detail
                raise StackFault(f"{failed[0].server.name} did not start: {why}")
            if all(p.took is not None for p in parts):
                return

    def _end(self, chosen: Plan) -> None:
        self.phase = "stopping"
        began = time.monotonic()
        for parts in chosen.stopping:
            if chosen.ours and any(p.key == "prefect" for p in parts):
                self._wait_for_others(chosen)
            threads = [threading.Thread(target=part.stop, daemon=True) for part in parts]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self._tick()
                time.sleep(_TICK / 5)
        self.phase = "stopped"
        self.events.tell("up", f"everything is stopped after {time.monotonic() - began:.1f} s")
        self._tick(write=True)

    def _wait_for_others(self, chosen: Plan) -> None:
        """Other commands that have found our Prefect server may end first."""
        deadline, told = time.monotonic() + _PATIENCE, False
        while _used(chosen) and time.monotonic() < deadline and not self._hurry.is_set():
            if not told:
                self.events.tell(
                    "prefect",
                    f"another everfit command uses it: waits up to {_PATIENCE:.0f} s for its end",
                )
                told = True
            self._tick()
            time.sleep(_TICK)

    def _changed(self, part: Part) -> None:
        """Tell what a person wants to know of a part; called by its thread."""
        now = part.state
        if now.state == "healthy":
            took = f" after {part.took:.1f} s" if part.took and not now.restarts else ""
            detail = f", {now.detail}" if now.detail else ""
            self.events.tell(part.key, f"healthy{took}{detail}: {part.page}")
        elif now.state in ("unwell", "restarting", "failed"):
            self.events.tell(part.key, f"{now.state}: {now.detail}")
        elif now.state == "stopped" and part.stopped_in is not None:
            self.events.tell(part.key, f"stopped after {part.stopped_in:.1f} s")
        self._written = float("-inf")

    def _tick(self, *, write: bool = False) -> None:
        state = self.told()
        now = time.monotonic()
        if write or now - self._written > _WRITE:
            self._written = now
            try:
                self.place.write(state)
                self._unwritten = ""
            except OSError as fault:  # a full disk must not end what watches over the servers
                if str(fault) != self._unwritten:
                    self.events.tell("up", f"its record cannot be written: {fault}")
                self._unwritten = str(fault)
        if self._screen is not None:
            self._screen.show(state)

    def told(self) -> dict[str, Any]:
        """All of it as plain values: for the record, the screen and `everfit status`."""
        parts = [part.told_as() for part in self._plan.parts] if self._plan else []
        known = self._observer.now if self._observer else {}
        return {
            "pid": os.getpid(),
            "phase": self.phase,
            "started": self.started.isoformat(timespec="seconds"),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ready_seconds": self.ready_in,
            "home": str(self.place.folder),
            "prefect": self._plan.api if self._plan else None,
            "exports": dict(self.wishes.exports),
            "parts": parts,
            "models": [
                {"name": m.name, "config": str(m.path), "url": m.config.server_url}
                | known.get(m.name, {})
                for m in self.models
            ],
        }


def _served(model: Model) -> bool:
    from tasks.overview import has_champion

    return has_champion(model.config)


@contextmanager
def _alone(places: Iterable[Path]) -> Iterator[Callable[[], None]]:
    """No other command starts a Prefect server there meanwhile, until the yielded function is
    called; those that want to then find ours. Raises StackFault when one is just starting its own.
    """
    with ExitStack() as stack:
        for home in sorted(places):
            home.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((home / "start.lock").open("a", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StackFault(
                    f"another everfit command starts a Prefect server in {home} just now: let it "
                    "end, then start this again"
                ) from None
        yield stack.close


@contextmanager
def _announced(chosen: Plan) -> Iterator[None]:
    """Have the other commands on these models find our Prefect server while it runs."""
    if not chosen.ours:
        yield
        return
    places = homes(chosen.place, chosen.models)
    try:
        for home in places:
            stack.record_server(home, chosen.api, os.getpid())
        yield
    finally:
        for home in places:
            (home / "server.json").unlink(missing_ok=True)


def _used(chosen: Plan) -> bool:
    for home in homes(chosen.place, chosen.models):
        try:
            with (home / "users.lock").open("a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal call `stop` while the block runs."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
