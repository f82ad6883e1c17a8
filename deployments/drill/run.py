"""The drill as a whole: which faults, in which order, on which servers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from deployments import environment, stack
from deployments.drill import cases, outer, work
from deployments.drill.cases import Result, tried
from deployments.drill.parts import Part
from deployments.drill.points import RETRAIN, ROLLBACK, SHORT
from deployments.drill.world import World
from deployments.processes import StackFault, free_port

CLOCK = "the clock jumps by a year"
MACHINES = "a machine is lost, two others look at once"
FAIL_OVER = "PostgreSQL fails over (patroni, etcd)"


@contextmanager
def model(place: Path | None = None) -> Iterator[tuple[World, Part]]:
    """The small model, made, and its Prefect server; the folder goes at the end unless given."""
    environment.prepare()
    with ExitStack() as ends:
        where = place or Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        home = where / "prefect"
        home.mkdir(parents=True, exist_ok=True)
        server = stack.prefect_command(home, free_port())
        prefect = ends.enter_context(Part(server).running())
        ends.enter_context(_pointed_at(f"{server.url}/api", home))
        world = World(where, work.server())
        world.make()
        yield world, prefect


@contextmanager
def _pointed_at(url: str, home: Path) -> Iterator[None]:
    names = ("PREFECT_API_URL", "PREFECT_HOME")
    before = {name: os.environ.pop(name, None) for name in names}
    environment.point_prefect_at(url, home)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def faults() -> Mapping[str, Callable[[World, Part], outer.Outcome]]:
    """Each fault by its name, in the order in which they are tried."""
    from deployments.drill import failover

    every: dict[str, Callable[[World, Part], outer.Outcome]] = {
        f"kill -9 {point.said}": partial(_killed_at, point) for point in (*RETRAIN, *ROLLBACK)
    }
    every[CLOCK] = lambda world, _: cases.clock_jump(world)
    every[MACHINES] = lambda world, _: cases.two_machines(world)
    return {**every, **outer.FAULTS, FAIL_OVER: failover.failed_over}


def _killed_at(point: cases.Point, world: World, _: Part) -> outer.Outcome:
    return cases.killed_at(world, point)


def chosen(words: Sequence[str], *, short: bool, patroni: bool) -> list[str]:
    """Names of the faults to try. Raises StackFault for words that no name has."""
    every = list(faults())
    if words:
        if found := [name for name in every if any(word in name for word in words)]:
            return found
        raise StackFault(
            f"a fault is one of {'; '.join(every)}, or a part of such a name; got "
            f"{', '.join(words)}: correct it"
        )
    if patroni:
        return [FAIL_OVER]
    if short:
        return [name for name in every if name.removeprefix("kill -9 ") in SHORT]
    return [name for name in every if name != FAIL_OVER]


def drill(
    words: Sequence[str] = (),
    *,
    short: bool = False,
    patroni: bool = False,
    times: int = 1,
    place: Path | None = None,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Try each fault `times` times; `tell` hears of each as it ends."""
    wanted, every, results = chosen(words, short=short, patroni=patroni), faults(), []
    with model(place) as (world, prefect):
        for name in wanted:
            results.append(tried(name, partial(every[name], world, prefect), times))
            tell(results[-1])
    return results
