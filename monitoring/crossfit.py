"""Cross-fitted least-squares classifiers of two samples, refitted for many labellings at once.

A least-squares classifier is linear in its labels: trained on the rows outside fold k it has the
weights A_k (C - C_k), where C_k = F_k' y_k are the label sums of fold k's features and C their
total. So one matrix product F_k' Y_k over all labellings Y at once is all that B refits need:
2 N p B operations for N rows and p features, then 2 K p^2 B for the K folds' weights, instead of
B trainings of K classifiers.

Four classifiers, since no single one is good at every change:

- linear: ridge regression (regularised linear discriminant) on the standardised coordinates, for
  faint moves of many columns,
- products: ridge on squares and products of coordinates, for changes of spread and correlation,
- shapes: ridge on their third and fourth Hermite polynomials, for skew, tails and second modes,
- sparse: every feature weighed by the cube of its own training sum, for one column or one pair
  that moved among many that did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BASE = 24  # directions whose products are features: 24 give 300
WIDEST = 256  # coordinates up to which the linear classifier learns their covariance
_PENALTY = 1.0  # ridge on features of unit variance
_RARE = 0.02  # an indicator's variance counts as at least so much: one odd row is no lever
_CELLS = 8_000_000  # float64 held at once for labels and their sums: 64 MB


@dataclass(frozen=True, slots=True)
class Expansion:
    """Coordinates (N, q) to features (N, p): themselves, products and shapes of `base` directions.

    Made from the pooled rows without a look at the labels, so that permuting the labels afterwards
    stays exact.
    """

    axes: Floats | None  # (q, k) principal directions; None: the coordinates themselves
    centre: Floats  # (p - q,) of products and shapes
    scale: Floats
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]] = field(repr=False)

    @classmethod
    def fit(cls, coordinates: Floats, rng: np.random.Generator) -> Expansion:
        """Of standardised coordinates; beyond BASE of them, products of principal components."""
        axes = None if coordinates.shape[1] <= BASE else _principal(coordinates, BASE, rng)
        base = coordinates if axes is None else coordinates @ axes
        k = base.shape[1]
        rough = cls(axes, np.zeros(1), np.ones(1), np.triu_indices(k))
        more = rough.curved(coordinates)
        spread = more.std(axis=0)
        scale = np.where(spread > 1e-9, spread, np.inf)
        return cls(axes, more.mean(axis=0), scale, rough.pairs)

    def curved(self, coordinates: Floats) -> Floats:
        """Products, then shapes (N, p - q); standardised over the pooled rows."""
        base = coordinates if self.axes is None else coordinates @ self.axes
        first, second = self.pairs
        square = base * base
        skewed, tailed = base * (square - 3.0), square * (square - 6.0) + 3.0
        more = np.concatenate([base[:, first] * base[:, second], skewed, tailed], axis=1)
        return np.asarray((more - self.centre) / self.scale)

    @property
    def base(self) -> int:
        return int(self.pairs[0][-1]) + 1

    def __call__(self, coordinates: Floats) -> Floats:
        return np.concatenate([coordinates, self.curved(coordinates)], axis=1)


def standardised(columns: Floats, floor: float = _RARE) -> Floats:
    """Columns (N, q) with mean 0 and, unless nearly constant, deviation 1."""
    spread = columns.std(axis=0)
    return np.asarray((columns - columns.mean(axis=0)) / np.maximum(spread, np.sqrt(floor)))


@dataclass(frozen=True, slots=True)
class Refits:
    """The classifiers of every fold, ready for any labelling of the rows."""

    features: Floats  # (N, p), the first `width` of them the coordinates
    folds: NDArray[np.int64]  # (N,) in 0..K-1
    views: tuple[tuple[str, slice], ...]
    _solvers: tuple[tuple[Floats | None, ...], ...]  # [fold][view]; None: weights without one

    @classmethod
    def prepare(cls, features: Floats, width: int, base: int, folds: NDArray[np.int64]) -> Refits:
        p = features.shape[1]
        products = p - 2 * base
        views = (
            ("linear", slice(0, width)),
            ("products", slice(width, products)),
            ("shapes", slice(products, p)),
            ("sparse", slice(0, p)),
        )
        solvers = []
        for k in range(int(folds.max()) + 1):
            rest = features[folds != k]
            own: list[Floats | None] = []
            for name, part in views:
                size = part.stop - part.start
                if name == "sparse" or size > max(WIDEST, BASE * (BASE + 1) // 2):
                    own.append(None)
                    continue
                block = rest[:, part]
                gram = block.T @ block / len(rest) + _PENALTY * np.eye(size)
                own.append(np.linalg.inv(gram))
            solvers.append(tuple(own))
        return cls(features, folds, views, tuple(solvers))

    @property
    def count(self) -> int:
        return len(self._solvers)

    def batch(self) -> int:
        """Labellings that fit the memory bound, with their sums."""
        rows, width = self.features.shape
        return max(16, int(_CELLS // (rows + width * (self.count + 2))))

    def sums(self, labels: Sequence[Floats]) -> Floats:
        """Label sums (K, p, B) of each fold's labels (B, rows of the fold)."""
        return np.stack([self.features[self.folds == k].T @ y.T for k, y in enumerate(labels)])

    def weights(self, training: Floats, fold: int, view: int) -> Floats:
        """Weights (width of the view, B) from the training rows' label sums (p, B)."""
        name, part = self.views[view]
        solver = self._solvers[fold][view]
        sums = training[part]
        if name == "sparse":
            return np.asarray((sums / np.sqrt(len(self.features))) ** 3)
        return np.asarray(sums if solver is None else solver @ sums)

    def statistics(self, labels: Sequence[Floats]) -> Floats:
        """(views, B): summed over held-out rows, label times score. Larger tells apart better."""
        sums = self.sums(labels)
        whole = sums.sum(axis=0)
        found = np.zeros((len(self.views), whole.shape[1]))
        for k, held_out in enumerate(sums):
            training = whole - held_out
            for view, (_, part) in enumerate(self.views):
                weights = self.weights(training, k, view)
                found[view] += np.einsum("pb,pb->b", held_out[part], weights)
        return found

    def stacked(self, labels: Sequence[Floats], spread: Floats) -> Floats:
        """Weights (K, p) of one classifier per fold: the views, weighed by their evidence.

        The evidence comes from the fold's training rows only (cross-fitted once more among them),
        in units of `spread` (views,), so the held-out rows judge a classifier that knows nothing
        of their labels.
        """
        sums = self.sums(labels)[..., 0]
        whole = sums.sum(axis=0)
        final = np.zeros((self.count, self.features.shape[1]))
        for k in range(self.count):
            training = whole - sums[k]
            rest = self.features[self.folds != k]
            for view, (_, part) in enumerate(self.views):
                evidence = 0.0
                for j in range(self.count):
                    if j != k and self.count > 2:
                        inner = self.weights((training - sums[j])[:, None], j, view)[:, 0]
                        evidence += float(sums[j][part] @ inner)
                weights = self.weights(training[:, None], k, view)[:, 0]
                size = float((rest[:, part] @ weights).std())
                if size > 0:
                    # a floor, so that there is a classifier where nothing moved
                    final[k, part] += max(evidence / spread[view], 0.05) * weights / size
        return final


def _principal(coordinates: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Leading principal directions (q, count), scaled to unit variance (Halko et al. 2011)."""
    probe = coordinates @ rng.normal(size=(coordinates.shape[1], count + 8))
    for _ in range(2):
        probe, _ = np.linalg.qr(coordinates @ (coordinates.T @ probe))
    _, values, axes = np.linalg.svd(probe.T @ coordinates, full_matrices=False)
    values = values[:count] / np.sqrt(len(coordinates))
    keep = values > 1e-6
    return np.asarray(axes[:count][keep].T / values[keep])
