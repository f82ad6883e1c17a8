"""A search after four earlier ones, as the fifth retrain of a model is.

What came before is one of

    shifted     the same task moved: its loss plus a smooth random function of the configuration
                (sixteen random cosines over the unit cube, length scale 0.5) whose standard
                deviation is a quarter of (median - best), drawn anew for each earlier search
    suite       other data sets of the same suite, so the same space and another task
    unrelated   other data sets of the suite with every parameter's scale turned by a random share
                of its range: what was good there is good here only by chance

Each earlier search starts from the memory of the one before, and has 25 trials unless another
number is wanted; figures of another number are kept under a mode of their own (`mode`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.records import Params
from models.search.controller import Controller
from models.search.proposing import Settings
from models.space import Space
from tests.benchmarks.tuner.problems import LISTS, Problem, problem, run_one

KINDS = ("shifted", "suite", "unrelated")
EARLIER = 4
TRIALS = 25
AMOUNT = 0.25
SCALE = 0.5
WAVES = 16


@dataclass(frozen=True)
class Moved:
    """The loss of `task` plus a smooth function: frequencies (w, d), phases (w,), height."""

    task: Problem
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]
    height: float

    def change(self, params: Params) -> float:
        waves = np.cos(self.frequencies @ self.task.space.encode(params) + self.phases)
        return float(self.height * np.sqrt(2 / len(waves)) * waves.sum())

    def noisy(self, params: Params, rng: np.random.Generator) -> float:
        return self.task.noisy(params, rng) + self.change(params)

    def true(self, params: Params) -> float:
        return self.task.true(params) + self.change(params)


@dataclass(frozen=True)
class Turned:
    """The loss of `task` at a configuration whose unit coordinates are turned by `shares` (d,)."""

    task: Problem
    shares: NDArray[np.float64]

    def turn(self, params: Params) -> dict[str, Any]:
        space: Space = self.task.space
        return space.decode((space.encode(params) + self.shares) % 1.0)

    def noisy(self, params: Params, rng: np.random.Generator) -> float:
        return self.task.noisy(self.turn(params), rng)

    def true(self, params: Params) -> float:
        return self.task.true(self.turn(params))


def earlier(task: Problem, kind: str, seed: int) -> list[Problem]:
    """The tasks of the four searches before; a function of its arguments alone."""
    rng = np.random.default_rng([zlib.crc32(f"{task.name} {kind}".encode()), seed])
    if kind == "shifted":
        return [_moved(task, rng) for _ in range(EARLIER)]
    suite = task.name.split("-", 1)[0]
    others = [
        name
        for each in LISTS.values()
        for name in each
        if name.split("-", 1)[0] == suite and name != task.name
    ]
    if not others:
        raise SystemExit(f"{task.name} has no other data set in its suite: use `shifted`")
    order = rng.permutation(len(others))
    chosen = [problem(others[order[k % len(others)]]) for k in range(EARLIER)]
    return chosen if kind == "suite" else [_turned(each, rng) for each in chosen]


def mode(kind: str, trials: int) -> str:
    """What the rows of a search after earlier ones of `trials` each are kept under.

    >>> mode("shifted", 25), mode("shifted", 50)
    ('shifted', 'shifted-50')
    """
    return kind if trials == TRIALS else f"{kind}-{trials}"


def memory(
    task: Problem,
    kind: str,
    seed: int,
    settings: Settings | None = None,
    *,
    trials: int = TRIALS,
) -> dict[str, Any]:
    """What the controller remembers after the four earlier searches of `trials` each."""
    state: dict[str, Any] | None = None
    for number, before in enumerate(earlier(task, kind, seed)):
        own = 1_000 * (number + 1) + seed
        controller = Controller(task.space, seed=own, memory=state, settings=settings)
        run_one(before, controller, trials, own, champion_at=())
        state = controller.memory
    assert state is not None
    return state


def _moved(task: Problem, rng: np.random.Generator) -> Problem:
    change = Moved(
        task,
        rng.normal(size=(WAVES, len(task.space))) / SCALE,
        rng.uniform(0, 2 * np.pi, WAVES),
        AMOUNT * (task.median - task.best),
    )
    return replace(task, name=f"{task.name} moved", source=change)


def _turned(task: Problem, rng: np.random.Generator) -> Problem:
    shares = rng.uniform(0.25, 0.75, len(task.space))
    return replace(task, name=f"{task.name} turned", source=Turned(task, shares))
