"""Proposals that widen the front: the expected gain of a random weighing of all its metrics.

Knowles, *ParEGO* (2006): each proposal draws weights, and looks for what improves the largest of
the weighed losses (an augmented Chebyshev norm, which reaches concave fronts too). Here each metric
has a predictor of its own (`models.performance`), learnt from all trials of this and of earlier
searches, so what is known of latencies is not lost in a sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.performance.foretelling import Performance
from models.performance.seen import Seen, is_ratio, seen
from models.records import Params, Scalar, Trial
from models.search.acquisition import neighbours
from models.search.base import Key, generator, key
from models.search.objectives import Objective, known
from models.search.pareto import non_dominated
from models.space import Categorical, Space

Array = NDArray[np.float64]

_STREAM = 1_000_033
_UNIFORM, _NEAR, _DRAWS = 300, 300, 64  # points of the whole space, near the front; draws of each
_SUM = 0.05  # of the weighed sum, beside the largest weighed loss (Knowles's rho)
_HOPELESS = 0.05  # probability of keeping a limit, below which a point counts last
_WIDTH = 0.1
_LEAST = 3  # configurations of a family, from which what is foretold beats the mean of all
_MOST = 80  # trials of a family that are learnt from


class Frontier:
    """Proposes for a front of the goal's metrics; pure in (trials, past, seed, number)."""

    def __init__(
        self,
        space: Space,
        goal: Objective,
        *,
        seed: int,
        past: Sequence[Seen] = (),
        rows: int = 0,
        search: str = "now",
    ) -> None:
        self.space, self.goal, self.seed = space, goal, seed
        self.past, self.rows, self.search = tuple(past), rows, search

    def propose(
        self, trials: Sequence[Trial], pending: Sequence[Params] = ()
    ) -> dict[str, Scalar] | None:
        """The next trial's parameters, or None while too little is known of any family."""
        names = self.goal.named
        here = seen(trials, self.search)
        levels = _levels(here, names)
        levels = levels[np.isfinite(levels).all(axis=1)]
        if len(levels) < 2 or len(names) < 2:
            return None
        rng = generator(self.seed, len(trials) + len(pending), _STREAM)
        low, width = _ranges(levels)
        performance = Performance([*self.past, *here], names, most=_MOST, least=_LEAST)
        taken = {key(trial.params) for trial in trials} | {key(params) for params in pending}
        points = self._points(trials, levels, rng, taken)
        told = [
            performance.levels(points, name, rows=self.rows, search=self.search, noise=False)
            for name in names
        ]
        mean = np.column_stack([_loss(name, m) for name, (m, _) in zip(names, told, strict=True)])
        deviation = np.column_stack([d for _, d in told])
        if not np.isfinite(mean).all(axis=1).any():
            return None
        new = ~np.isfinite(mean)  # of a family that is hardly known anything may be expected
        mean = np.where(new, levels.mean(axis=0), mean)
        deviation = np.where(new, levels.std(axis=0), deviation)
        weights = rng.dirichlet(np.ones(len(names)))
        best = float(_weighed((levels - low) / width, weights).min())
        draws = rng.standard_normal((_DRAWS, 1, len(names)))  # the same for all points
        drawn = (mean + deviation * draws - low) / width
        gain = np.maximum(best - _weighed(drawn, weights), 0.0).mean(axis=0)
        value = np.log(gain + 1e-12) - 30.0 * self._hopeless(performance, points)
        return points[int(np.argmax(value))]

    def _points(
        self, trials: Sequence[Trial], levels: Array, rng: np.random.Generator, taken: set[Key]
    ) -> list[dict[str, Scalar]]:
        """Points of the whole space, and neighbours of the front, none of them taken."""
        complete = [trial for trial in trials if trial.status == "complete"]
        ahead = non_dominated(levels) if len(levels) == len(complete) else np.ones(0, dtype=bool)
        front = [t.params for t, here in zip(complete, ahead, strict=False) if here]
        units = rng.random((_UNIFORM, len(self.space)))
        if front:
            listed = [isinstance(p, Categorical) for p in self.space.parameters]
            counts = [len(p.choices) if isinstance(p, Categorical) else 1
                      for p in self.space.parameters]  # fmt: skip
            around = neighbours(
                self.space.encode_many(front),
                np.array(listed),
                np.array(counts),
                _NEAR,
                _WIDTH,
                rng,
                self.space.active_mask(front),
            )
            units = np.vstack([units, around])
        found: dict[Key, dict[str, Scalar]] = {}
        for params in self.space.decode_many(units):
            if (name := key(params)) not in taken:
                found.setdefault(name, params)
        return list(found.values())

    def _hopeless(self, performance: Performance, points: Sequence[Params]) -> Array:
        """1 where a limit is almost certainly broken."""
        out = np.zeros(len(points))
        for limit in self.goal.limits:
            chances = performance.keeps(points, limit, rows=self.rows, search=self.search)
            out = np.maximum(out, chances < _HOPELESS)  # NaN is not
        return out


def _levels(trials: Sequence[Seen], names: Sequence[str]) -> Array:
    """Losses (n, m), logarithms of ratios; NaN where a figure is missing."""
    rows = [
        [_level(name, trial.figures.get(name, float("nan"))) for name in names] for trial in trials
    ]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(names))


def _level(name: str, value: float) -> float:
    level = float(np.log(max(value, 1e-12))) if is_ratio(name) else value
    return float(_loss(name, np.array([level]))[0])


def _loss(name: str, level: Array) -> Array:
    """Smaller is better, of a level where larger may be."""
    return -level if known(name).larger_is_better else level


def _ranges(levels: Array) -> tuple[Array, Array]:
    """Where each loss begins (m,), and how wide what counts of it is: up to the worst of the front,
    or to the middle of all trials where that is farther."""
    low = levels.min(axis=0)
    front = levels[non_dominated(levels)]
    high = np.maximum(front.max(axis=0), np.median(levels, axis=0))
    return low, np.maximum(high - low, 1e-6)


def _weighed(losses: Array, weights: Array) -> Array:
    """The augmented Chebyshev norm over the last axis."""
    parts = losses * weights
    found: Array = parts.max(axis=-1) + _SUM * parts.sum(axis=-1)
    return found
