"""Permutations as rows of 0 and 1, and p-values that stop when the answer is clear.

A labeling says which units are of the smaller side. Under no drift the observed one is exchangeable
with labelings drawn at random, so the rank of any statistic of a labeling among them is a valid
p-value, p = (1 + b) / (1 + B) (Phipson and Smyth 2010), never 0.

Stopping early is Besag and Clifford's sequential Monte Carlo test (Biometrika 78, 1991): draw until
`exceedances` labelings are as extreme as the observed one, at the l-th draw, and p = exceedances /
l; or until a fixed number is drawn, and p = (1 + b) / (1 + B). Either way P(p <= a) <= a. Where
nothing moved that is a few dozen draws whatever the level; only what is close or past the level
spends them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.int8]], NDArray[np.float64]]  # (B, U) labelings to (B,) values


@dataclass(frozen=True, slots=True)
class Rank:
    """A Monte Carlo p-value and what it cost."""

    p_value: float
    permutations: int
    stopped: bool  # before all were spent, since the answer was clear


class Labelings:
    """Random labelings of U units, `smaller` of them 1; equal seeds give equal labelings."""

    def __init__(self, units: int, smaller: int, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._start = np.zeros(units, np.int8)
        self._start[:smaller] = 1

    def draw(self, count: int) -> NDArray[np.int8]:
        """(count, U) labelings."""
        rows = np.broadcast_to(self._start, (count, len(self._start)))
        return self._rng.permuted(rows, axis=1)


def rank(
    observed: float,
    statistic: Statistic,
    labelings: Labelings,
    *,
    permutations: int,
    level: float | None,
    most: int,
) -> Rank:
    """p-value of `observed`, larger is more extreme, among labelings.

    Without a `level`, exactly `permutations` are drawn. With one, as many as a decision at that
    level needs: `exceedances(level)` / level at most, but at least `permutations` where the answer
    is close. `most` bounds how many are held at once.
    """
    total, enough = permutations, 0
    if level is not None:
        enough = exceedances(level)
        total = max(permutations, math.ceil(enough / level - 1e-9) - 1)
    drawn = beyond = 0
    batch = min(most, total if level is None else 64)
    while drawn < total:
        values = statistic(labelings.draw(min(batch, total - drawn)))
        as_extreme = values >= observed
        if level is not None:
            running = beyond + np.cumsum(as_extreme)
            if running[-1] >= enough:
                last = drawn + int(np.searchsorted(running, enough)) + 1
                return Rank(enough / last, last, True)
        beyond += int(as_extreme.sum())
        drawn += len(values)
        batch = min(most, batch * 4)
    return Rank((1 + beyond) / (1 + drawn), drawn, False)


def exceedances(level: float) -> int:
    """After how many labelings as extreme as the observed one the answer at `level` is clear.

    More make the decision less random, and cost that many times more where something moved.
    """
    return 5 if level >= 1e-3 else 2
