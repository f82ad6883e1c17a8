"""Replayed pipelines: problems whose space is conditional and whose every score is a real fit.

    from tests.benchmarks.tuner.pipelines import NAMES, problem

The log loss of every configuration of `pipelines_space.SPACE` on rows kept back, for each data set,
lies in `pipelines.npz`, which `python -m tests.benchmarks.tuner.build_pipelines` fits; PIPELINES.md
says of what. There is no noise: the same configuration always has the same loss, and regret is 0 at
the best of the table and 1 at the median of the space's uniform draws.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.records import Params, Scalar
from models.space import Space
from tests.benchmarks.tuner.pipelines_space import SPACE
from tests.benchmarks.tuner.problems import Problem

TABLE = Path(__file__).with_name("pipelines.npz")
NAMES = tuple(f"pipelines-{name}" for name in ("phoneme", "satimage", "splice", "spambase"))
DEV = NAMES[:3]  # settings may be chosen on these; the last is for the end

Key = tuple[tuple[str, Scalar], ...]


class Replayed:
    """Losses by configuration; NaN is a fit that failed."""

    def __init__(self, places: Mapping[Key, int], losses: NDArray[np.float32]) -> None:
        self.places, self.losses = places, losses

    def true(self, params: Params) -> float:
        return float(self.losses[self.places[key(params)]])

    def noisy(self, params: Params, rng: np.random.Generator) -> float:
        return self.true(params)


def key(params: Params) -> Key:
    return tuple(sorted(params.items()))


def problem(name: str) -> Problem:
    """The problem called 'pipelines-dataset'. Raises SystemExit for one that there is not."""
    if name not in NAMES:
        raise SystemExit(f"no pipelines are called {name!r}: use one of {', '.join(NAMES)}")
    return replay(name, SPACE, read(TABLE, SPACE)[name.partition("-")[2]])


def replay(name: str, space: Space, losses: NDArray[np.float32]) -> Problem:
    """A problem of the losses (n,) of a finite space's configurations, in their order."""
    places, chances = walked(space)
    low, middle = float(np.nanmin(losses)), median(losses, chances)
    return Problem(name, space, low, middle, Replayed(places, losses))


@functools.lru_cache(maxsize=4)
def _walked(text: str) -> tuple[dict[Key, int], NDArray[np.float64]]:
    space = Space.from_json(json.loads(text))
    every = list(space.configurations())
    counts = {p.name: p.size() for p in space.parameters}
    chances = [1 / np.prod([counts[name] for name in params]) for params in every]
    return {key(params): place for place, params in enumerate(every)}, np.array(chances)


def walked(space: Space) -> tuple[dict[Key, int], NDArray[np.float64]]:
    """Place of every configuration, and the chance (n,) that a uniform draw of the cube is it."""
    return _walked(json.dumps(space.to_json()))


def median(losses: NDArray[np.float32], chances: NDArray[np.float64]) -> float:
    """The loss that half of the uniform draws reach; a failed one is worse than any.

    >>> median(np.array([3.0, 1.0, np.nan]), np.array([0.2, 0.4, 0.4]))
    3.0
    """
    order = np.argsort(losses)  # NaN last
    place = int(np.searchsorted(np.cumsum(chances[order]), 0.5))
    return float(losses[order[place]])


def digest(space: Space) -> str:
    """What a table was fitted for: it is of no use to a space that has changed since."""
    return hashlib.sha256(json.dumps(space.to_json()).encode()).hexdigest()[:16]


def read(path: Path, space: Space) -> dict[str, NDArray[np.float32]]:
    """Losses (n,) by data set. Raises SystemExit when the file is missing or of another space."""
    if not path.exists():
        raise SystemExit(f"the pipelines' scores are wanted at {path}, got nothing: {_REMEDY}")
    with np.load(path, allow_pickle=False) as file:
        found: dict[str, Any] = {name: file[name] for name in file.files}
    of = str(found.pop("space", ""))
    if of != digest(space):
        raise SystemExit(
            f"the pipelines' scores in {path} are of the space {digest(space)}, got {of!r}: "
            f"{_REMEDY}"
        )
    return found


_REMEDY = "fit them with `python -m tests.benchmarks.tuner.build_pipelines`"
