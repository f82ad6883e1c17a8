"""Linear regression by a normal-inverse-gamma prior: honest about what few points can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regression:
    """Targets (n,) on rows (n, d), of which n may be 0; predictive distributions are Student's t.

    Gelman et al., *Bayesian data analysis*, 3rd edition, section 14.2, with a proper prior: the
    weights are N(start, spreads^2), the noise's deviation is about `noise`, a belief that is worth
    `strength` points.
    """

    weights: NDArray[np.floating[Any]]
    freedom: float
    variance: float
    matrix: NDArray[np.floating[Any]]

    @classmethod
    def fit(
        cls,
        rows: Array,
        targets: Array,
        *,
        start: Array,
        spreads: Array,
        noise: float,
        strength: float,
    ) -> Regression:
        precision = (noise / spreads) ** 2
        matrix = np.diag(precision) + rows.T @ rows
        weights = np.linalg.solve(matrix, precision * start + rows.T @ targets)
        rest, moved = targets - rows @ weights, weights - start
        freedom = strength + len(targets)
        square = strength * noise**2 + float(rest @ rest) + float(moved**2 @ precision)
        return cls(weights, freedom, square / freedom, matrix)

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Location and scale (m,) of new targets at rows (m, d), of a t with `freedom` degrees."""
        solved = np.linalg.solve(self.matrix, rows.T)
        location: Array = rows @ self.weights
        return location, np.sqrt(self.variance * (1 + (rows.T * solved).sum(axis=0)))

    def one(self, row: Array) -> tuple[float, float]:
        location, scale = self.predict(row[None, :])
        return float(location[0]), float(scale[0])
