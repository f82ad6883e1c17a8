"""The drill as a whole: which faults, in which order, on which servers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from deployments import environment
from deployments.drill import cases, work
from deployments.drill.cases import Result, tried
from deployments.drill.points import RETRAIN, ROLLBACK, SHORT
from deployments.drill.world import World
from deployments.processes import StackFault, free_port

Case = Callable[[], tuple[float, "cases.checks.Found"]]


@contextmanager
def model(place: Path | None = None) -> Iterator[World]:
    """A Prefect server, and the small model made; the folder goes at the end unless it is given."""
    with ExitStack() as stack:
        where = place or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        from deployments.stack import prefect_server

        os.environ.pop("PREFECT_API_URL", None)
        environment.prepare()
        stack.enter_context(prefect_server(where / "prefect", free_port()))
        world = World(where, work.server())
        world.make()
        yield world


def chosen(faults: Sequence[str], short: bool) -> list[str]:
    """Names of the faults to try, of those that there are. Raises StackFault."""
    every = names()
    if not faults:
        return [name for name in every if name in SHORT] if short else every
    found = [name for name in every if any(word in name for word in faults)]
    if not found:
        raise StackFault(
            f"a fault is one of {', '.join(every)}, or a part of such a name; got "
            f"{', '.join(faults)}: correct it"
        )
    return found


def names() -> list[str]:
    return [point.said for point in (*RETRAIN, *ROLLBACK)] + ["the clock jumps by a year"]


def drill(
    faults: Sequence[str] = (),
    *,
    short: bool = False,
    times: int = 1,
    place: Path | None = None,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Try each fault `times` times; `tell` hears of each as it ends."""
    wanted = chosen(faults, short)
    results = []
    with model(place) as world:
        points = {point.said: point for point in (*RETRAIN, *ROLLBACK)}
        for name in wanted:
            case: Case
            if name in points:
                case = partial(cases.killed_at, world, points[name])
                name = f"kill -9 {name}"  # noqa: PLW2901 - as it is shown
            else:
                case = partial(cases.clock_jump, world)
            result = tried(name, case, times)
            tell(result)
            results.append(result)
    return results
