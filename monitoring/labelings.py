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

_CHUNK = 64  # labelings drawn at once
_NOISE = 1e-4  # of a statistic: labelings so near the observed one count as extreme as it is
Statistic = Callable[[NDArray[np.int8]], NDArray[np.float64]]  # (B, U) labelings to (B,) values


@dataclass(frozen=True, slots=True)
class Rank:
    """A Monte Carlo p-value and what it cost."""

    p_value: float
    permutations: int
    stopped: bool  # before all were spent, since the answer was clear
    observed: float = 0.0  # the statistic's value


class Labelings:
    """Random labelings of U units, `smaller` of them 1; equal seeds give equal labelings.

    Units get random keys and the `smaller` lowest are chosen; where the last one chosen
    ties with the first one left, the keys are drawn again. That is uniform, since keys are
    exchangeable, and several times faster than a shuffle.

    Where units are sorted by what they hold, `key` should differ with the data: check after check
    the same labelings of the same ranks would err to the same side.
    """

    def __init__(self, units: int, smaller: int, seed: int, key: int = 0) -> None:
        self._rng = np.random.default_rng([seed, key, 1])
        self._units, self._smaller = units, smaller
        self._ahead = np.empty((0, units), np.int8)

    def draw(self, count: int) -> NDArray[np.int8]:
        """(count, U) labelings, the same ones however many are asked for at once."""
        parts, left = [], count
        while left > 0:
            if not len(self._ahead):
                self._ahead = self._chunk()
            taken, self._ahead = self._ahead[:left], self._ahead[left:]
            parts.append(taken)
            left -= len(taken)
        return np.concatenate(parts) if parts else self._ahead[:0]

    def _chunk(self) -> NDArray[np.int8]:
        """Some labelings, at least one; the number varies with the ties."""
        smaller, units = self._smaller, self._units
        if not 0 < smaller < units:
            return np.full((_CHUNK, units), int(smaller > 0), np.int8)
        kind = np.uint16 if units < 4096 else np.uint32
        while True:
            keys = self._rng.integers(0, np.iinfo(kind).max, (_CHUNK, units), kind, endpoint=True)
            last = np.partition(keys, smaller - 1, axis=1)[:, smaller - 1 : smaller]
            chosen = (keys <= last).view(np.int8)
            whole = np.count_nonzero(chosen, axis=1) == smaller
            if whole.any():
                return chosen if whole.all() else chosen[whole]


def rank(
    observed: float | NDArray[np.int8],
    statistic: Statistic,
    labelings: Labelings,
    *,
    permutations: int,
    level: float | None,
    most: int,
) -> Rank:
    """p-value of `observed`, larger is more extreme, among labelings.

    `observed` is a value, or a labeling (U,) that is then evaluated together with the first others.
    Without a `level`, exactly `permutations` are drawn. With one, as many as a decision at that
    level needs: `exceedances(level)` / level at most, but at least `permutations` where the answer
    is close. `most` bounds how many are held at once. Statistics within rounding errors of the
    observed one count as extreme, so that ties never depend on how products were computed.
    """
    total, enough = permutations, 0
    if level is not None:
        enough = exceedances(level)
        total = max(permutations, math.ceil(enough / level - 1e-9) - 1)
    drawn = beyond = 0
    batch = min(most, total if level is None else 16)
    values = np.zeros(0)
    if isinstance(observed, np.ndarray):
        first = labelings.draw(min(batch, total))
        together = statistic(np.concatenate([observed[None], first]))
        observed, values = float(together[0]), together[1:]
    bar = observed - _NOISE * max(1.0, abs(observed))
    while drawn < total:
        if not len(values):
            values = statistic(labelings.draw(min(batch, total - drawn)))
        as_extreme = values >= bar
        if level is not None:
            running = beyond + np.cumsum(as_extreme)
            if running[-1] >= enough:
                last = drawn + int(np.searchsorted(running, enough)) + 1
                return Rank(enough / last, last, True, observed)
        beyond += int(as_extreme.sum())
        drawn, values = drawn + len(values), values[:0]
        batch = min(most, batch * 4)
    return Rank((1 + beyond) / (1 + drawn), drawn, False, observed)


def exceedances(level: float) -> int:
    """After how many labelings as extreme as the observed one the answer at `level` is clear.

    More make the decision less random, and cost that many times more where something moved.
    """
    return 5 if level >= 1e-3 else 2
