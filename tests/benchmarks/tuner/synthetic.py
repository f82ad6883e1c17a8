"""Random problems on random spaces, to teach a search on: `Synthetic(seed)`, like `Problem`.

A sum of random waves whose length differs by parameter (few of them matter much), a bowl whose
bottom may lie at an edge, bent axes, a cliff beyond which all is equally bad, skew, noise and
failed trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.records import Params
from models.space import Categorical, Float, Int, Parameter, Space

Array = NDArray[np.float64]

_WAVES = 160
_WORST = 4.0  # losses are cut off there, in deviations


class Synthetic:
    """best, median: of the true loss, by a search of its own."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([77, seed])
        self.name = f"synthetic-{seed}"
        d = int(rng.choice([2, 3, 4, 5, 6, 7, 8, 10, 12]))
        self.space, self.counts = _space(d, rng)
        weight = rng.random(d) ** rng.choice([0.5, 1.0, 2.0, 4.0])
        weight /= weight.max()
        length = math.exp(rng.normal(math.log(0.35), 0.5)) * math.sqrt(d)
        spread = np.sqrt(5.0 / rng.chisquare(5, size=_WAVES))  # of a Matern-5/2 kernel
        self.waves = rng.normal(size=(_WAVES, d)) * spread[:, None] * (weight / length)
        self.phases = rng.uniform(0, 2 * math.pi, _WAVES)
        self.heights = rng.normal(size=_WAVES) * math.sqrt(2 / _WAVES)
        self.values = [rng.normal(size=k) * 0.7 for k in self.counts]
        self.bottom = np.clip(rng.uniform(-0.3, 1.3, d), 0, 1)
        self.bowl = weight * rng.uniform(0, 4) * rng.choice([0, 1, 1]) / math.sqrt(d)
        self.power = float(rng.choice([1.0, 2.0]))
        self.bend = np.where(rng.random(d) < 0.5, np.exp(rng.normal(0, 0.5, d)), 1.0)
        self.cliff: Array | None = None
        self.skew, self.middle, self.size, self.edge = 0.0, 0.0, 1.0, 0.0
        points = self.space.canonical_many(rng.random((4000, d)))[0]
        plain = self._loss(points)
        self.middle, self.size = float(plain.mean()), float(plain.std()) + 1e-12
        self.skew = float(rng.choice([0.0, 0.5, 1.0, 2.0]))
        if rng.random() < 0.45:
            along = rng.normal(size=d) * weight
            self.cliff = along / np.linalg.norm(along)
            self.edge = float(np.quantile((points - 0.5) @ self.cliff, rng.uniform(0.4, 0.9)))
        losses = self._loss(points)
        self.median, self.best = float(np.median(losses)), self._best(points, losses, rng)
        if self.median - self.best < 1e-9:
            self.median = self.best + 1.0
        share = float(rng.choice([0.0, 0.0, 0.02, 0.05, 0.15]))
        self.noise = share * (self.median - self.best)
        failing = float(rng.choice([0.0, 0.0, 0.1]))
        self.fails = float(np.quantile(losses, 1 - failing)) if failing else math.inf

    def true_many(self, params: Sequence[Params]) -> Array:
        return self._loss(self.space.encode_many(list(params)))

    def noisy_many(self, params: Sequence[Params], rng: np.random.Generator) -> Array:
        """Losses (n,); NaN where a trial fails."""
        true = self.true_many(params)
        return np.where(true > self.fails, np.nan, true + self.noise * rng.normal(size=len(true)))

    def _loss(self, points: Array) -> Array:
        there = points**self.bend
        for j, (count, values) in enumerate(zip(self.counts, self.values, strict=True)):
            if count:
                there[:, j] = values[np.minimum((points[:, j] * count).astype(int), count - 1)]
        loss = np.cos(there @ self.waves.T + self.phases) @ self.heights
        loss = loss + np.abs(there - self.bottom) ** self.power @ self.bowl
        loss = (loss - self.middle) / self.size
        if self.skew:
            loss = np.expm1(self.skew * loss) / self.skew
        if self.cliff is not None:
            loss = np.where((points - 0.5) @ self.cliff > self.edge, 1.5 + 0.1 * loss, loss)
        return np.asarray(np.minimum(loss, _WORST))

    def _best(self, points: Array, losses: Array, rng: np.random.Generator) -> float:
        order = np.argsort(losses)[:100]
        elite, value = points[order], losses[order]
        for turn in range(25):
            child, other = elite[rng.integers(100, size=500)], elite[rng.integers(100, size=500)]
            child = np.where(rng.random(child.shape) < 0.2, other, child)
            step = rng.normal(size=child.shape) * 0.2 * 0.8**turn
            child = np.where(rng.random(child.shape) < 0.4, np.clip(child + step, 0, 1), child)
            child = np.where(rng.random(child.shape) < 0.05, rng.random(child.shape), child)
            child = self.space.canonical_many(child)[0]
            elite, value = np.vstack([elite, child]), np.append(value, self._loss(child))
            order = np.argsort(value, kind="stable")[:100]
            elite, value = elite[order], value[order]
        return float(value[0])


def _space(d: int, rng: np.random.Generator) -> tuple[Space, list[int]]:
    """A space of d parameters, and the number of choices of each, 0 for a number."""
    listed = rng.choice([0.0, 0.0, 0.15, 0.5])
    grids = rng.choice([0.0, 0.3, 1.0], p=[0.5, 0.2, 0.3])
    parameters: list[Parameter] = []
    counts = []
    for j in range(d):
        count = int(rng.integers(2, 6)) if rng.random() < listed else 0
        counts.append(count)
        if count:
            parameters.append(Categorical(f"x{j}", tuple(range(count))))
        elif rng.random() < grids:
            parameters.append(Int(f"x{j}", 0, int(rng.integers(3, 12))))
        else:
            parameters.append(Float(f"x{j}", 0.0, 1.0))
    return Space(tuple(parameters)), counts
