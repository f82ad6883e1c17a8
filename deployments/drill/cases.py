"""The faults: each begins with the same model, ends with its stores judged, and is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess

from deployments.drill import checks, work
from deployments.drill.points import RETRAIN, ROLLBACK, Point
from deployments.drill.world import NOW, World
from deployments.processes import StackFault

LATER = timedelta(minutes=5)  # when `reconcile` looks, by the clock that is passed in
_PATIENCE = 600.0  # seconds for one process


class Skipped(Exception):
    """This machine cannot have the fault: why."""


@dataclass
class Result:
    """One fault: how often it was tried, the slowest recovery, and what was found amiss."""

    fault: str
    tried: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    skipped: str = ""  # why it could not be tried here

    def add(self, seconds: float, found: checks.Found) -> None:
        self.tried += 1
        self.seconds = max(self.seconds, seconds)
        self.lost += found.lost
        self.doubled += found.doubled

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled)


def ended(process: ForkServerProcess, world: World, seconds: float = _PATIENCE) -> int:
    """How a process ended; one that does not is killed, and that is a fault of its own."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise StackFault(f"it was still at work after {seconds:g} s: {world.said()}")
    return int(process.exitcode)


def done(world: World, flow: str, **more: object) -> None:
    """One process without a fault, to its end."""
    if ended(work.start(world.context, world.job(flow, **more)), world) != 0:  # type: ignore[arg-type]
        raise StackFault(f"{flow} failed: {world.said()}")


def recovered(world: World, now: timedelta = LATER) -> float:
    """Seconds that `reconcile` took, as a process of its own."""
    began = time.monotonic()
    done(world, "reconcile", now=NOW + now)
    return time.monotonic() - began


def killed_at(world: World, point: Point) -> tuple[float, checks.Found]:
    """`kill -9` at one moment of a check that retrains, or of a roll-back; then reconcile."""
    world.again()
    back = point in ROLLBACK
    if back:
        done(world, "watch")
    flow, now = ("rollback", NOW + LATER / 2) if back else ("watch", NOW)
    code = ended(work.start(world.context, world.job(flow, now, point=point)), world)
    if code != -9:
        raise StackFault(f"the process was to die {point.said}, and ended with {code}: "
                         f"{world.said()}")  # fmt: skip
    seconds = recovered(world)
    return seconds, world.judged(back=back)


def during(
    world: World,
    point: Point,
    fault: Callable[[ForkServerProcess], None],
    mended: Callable[[], None] = lambda: None,
    kept: Collection[str] = (),
) -> tuple[float, checks.Found]:
    """A fault of another process while a check retrains: it waits at `point` for `fault` to have
    happened, goes on, and ends well or badly; then all is mended, and reconcile looks."""
    job = world.job("watch", point=point, action="wait")
    process = work.start(world.context, job)
    deadline = time.monotonic() + _PATIENCE
    while not work.reached(job).exists():
        if not process.is_alive() or time.monotonic() > deadline:
            raise StackFault(f"the process did not come to the point {point.said}: {world.said()}")
        time.sleep(0.05)
    fault(process)
    began = time.monotonic()
    work.go_on(job).touch()
    mended()
    ended(process, world)
    recovered(world)
    return time.monotonic() - began, world.judged(kept)


def clock_jump(world: World) -> tuple[float, checks.Found]:
    """Killed among its trials; then the clock is wrong by a year, forth and back, for a look."""
    world.again()
    point = next(p for p in RETRAIN if p.said == "after the second trial is noted")
    if ended(work.start(world.context, world.job("watch", point=point)), world) != -9:
        raise StackFault(f"the process did not die: {world.said()}")
    seconds = recovered(world, timedelta(days=365))
    done(world, "reconcile", now=NOW - timedelta(days=365))
    done(world, "reconcile", now=NOW + LATER)
    return seconds, world.judged()


def two_machines(world: World) -> tuple[float, checks.Found]:
    """A third machine died among its trials, and has been silent for its lease; then two others
    look at the same moment. One of them carries on."""
    from monitoring.claims import Claims
    from monitoring.tables import claim_beats

    world.again()
    point = next(p for p in RETRAIN if p.said == "after the second trial is noted")
    job = world.job("watch", point=point, host="the-first")
    if ended(work.start(world.context, job), world) != -9:
        raise StackFault(f"the process did not die: {world.said()}")
    began = time.monotonic()
    done(world, "reconcile", now=NOW + LATER, host="the-second")  # too early: it may only be slow
    with world.surroundings(), Claims(world.config().store_url) as book:
        early = book.running(world.config().name)
        with book.database.write() as connection:
            past = claim_beats.c.at - int(3e8)
            connection.execute(claim_beats.update().values(at=past))
    both = [
        work.start(world.context, world.job("reconcile", NOW + LATER, host=host))
        for host in ("the-second", "the-third")
    ]
    codes = [ended(process, world) for process in both]
    found = world.judged()
    if early is None:
        found.doubled.append("a window was taken from an owner that was heard of just before")
    if any(codes):
        found.lost.append(f"the two ended with {codes}: {world.said()}")
    return time.monotonic() - began, found


def tried(fault: str, case: Callable[[], tuple[float, checks.Found]], times: int = 1) -> Result:
    """Run one fault; what keeps it from ending counts as lost."""
    result = Result(fault)
    for _ in range(times):
        try:
            result.add(*case())
        except Skipped as skipped:
            result.skipped = str(skipped)
            break
        except Exception as broken:
            result.tried += 1
            result.lost.append(f"{type(broken).__name__}: {broken}"[:1_500])
    return result
