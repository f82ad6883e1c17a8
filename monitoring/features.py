"""What is compared of each coordinate: where it lies, how wide it is, how it goes with others.

All features are means over rows, so a difference between two groups of units is a difference of
mean features, for every labeling at once a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.coordinates import Coordinates

MOST_PAIRS = 496  # all pairs of 32 coordinates
_SEARCHED = 512  # coordinates among which the most correlated pairs are looked for


@dataclass(frozen=True, slots=True)
class Features:
    """A fixed list of features of (rows, k) points, K in all, made from pooled points."""

    centre: NDArray[np.float32]  # (k,)
    deviation: NDArray[np.float32]  # (k,)
    weight: NDArray[np.float32]  # (k,) of a coordinate in distances: a like say for each column
    squared: NDArray[np.int64]  # coordinates whose square is a feature
    pairs: NDArray[np.int64]  # (P, 2) coordinates whose product is a feature

    @classmethod
    def choose(cls, points: NDArray[np.float32], coordinates: Coordinates, seed: int) -> Features:
        """Location of every coordinate, squares of the numbers, products of pairs.

        Beyond 496 pairs, half are those most correlated in the pooled points, half are drawn.
        """
        centre = points.mean(axis=0, dtype=np.float64)
        deviation = points.std(axis=0, dtype=np.float64)
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        variance = np.bincount(coordinates.source, deviation**2, len(coordinates.columns))
        spread = np.sqrt(np.maximum(variance, 1e-12))[coordinates.source]
        weight = np.where(coordinates.indicator, np.minimum(1 / spread, 5.0), 1.0)
        weight[coordinates.repeats] = 0.0
        numbers = np.flatnonzero(~coordinates.indicator)
        paired = np.flatnonzero(~coordinates.repeats)
        standard = ((points - centre) / deviation)[:, paired]
        pairs = paired[_pairs(standard, coordinates.source[paired], seed)]
        return cls(
            centre.astype(np.float32),
            deviation.astype(np.float32),
            weight.astype(np.float32),
            numbers,
            pairs,
        )

    @property
    def parts(self) -> tuple[slice, slice, slice, slice]:
        """Where location, squares, radius and products lie among the K features."""
        k, s = len(self.centre), len(self.squared)
        r = int(s > 1)
        a, b, c = k, k + s, k + s + r
        return slice(0, a), slice(a, b), slice(b, c), slice(c, c + len(self.pairs))

    def weighted(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, k) points between which distances are taken."""
        return (points - self.centre) * self.weight

    def of(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, K) features: location, squares, their sum (the radius), products."""
        standard = (points - self.centre) / self.deviation
        squares = standard[:, self.squared] ** 2
        radius = squares.sum(axis=1, keepdims=True)[:, : int(len(self.squared) > 1)]
        products = standard[:, self.pairs[:, 0]] * standard[:, self.pairs[:, 1]]
        return np.concatenate([standard, squares, radius, products], axis=1)


def _pairs(
    standard: NDArray[np.float64], source: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """(P, 2) pairs of coordinates of different columns."""
    k = len(source)
    rng = np.random.default_rng([seed, 3])
    searched = np.arange(k) if k <= _SEARCHED else np.sort(rng.choice(k, _SEARCHED, replace=False))
    i, j = np.triu_indices(len(searched), 1)
    i, j = searched[i], searched[j]
    apart = source[i] != source[j]
    i, j = i[apart], j[apart]
    if len(i) > MOST_PAIRS:
        among = standard[:, searched]
        correlations = np.abs(among.T @ among)[np.triu_indices(len(searched), 1)][apart]
        top = np.argsort(-np.round(correlations, 6), kind="stable")[: MOST_PAIRS // 2]
        left = np.setdiff1d(np.arange(len(i)), top)
        chosen = np.r_[top, rng.choice(left, MOST_PAIRS - len(top), replace=False)]
        i, j = i[np.sort(chosen)], j[np.sort(chosen)]
    return np.stack([i, j], axis=1)
