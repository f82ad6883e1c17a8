"""Means of a Gaussian given what was seen, and what it would have said without each of them.

Ridge regression and a Gaussian process are both this, with another covariance (Rasmussen and
Williams, *Gaussian Processes for Machine Learning* (2006), sections 2.2 and 6.1). Leaving a group
of points out costs a block of the inverse and no new fit (their section 5.4.2, by blocks).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky

Array = NDArray[np.float64]


class Gaussian:
    """Targets y (n,) with that covariance (n, n) plus `noise` (variance), up to a common factor.

    groups (n,): points that are left out together. left_out (n,): target minus what the others say
    of it; expected (n,): the variance of that. factor: what makes the two agree.
    """

    def __init__(
        self, covariance: Array, noise: float, y: Array, groups: NDArray[np.int64]
    ) -> None:
        n = len(y)
        matrix = covariance + (noise + 1e-9) * np.eye(n)
        self._low = cholesky(matrix, lower=True)
        inverse = cho_solve((self._low, True), np.eye(n))
        self.noise, self._alpha = noise, inverse @ y
        self.left_out, self.expected = np.empty(n), np.empty(n)
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            block = np.linalg.inv(inverse[np.ix_(rows, rows)])
            self.left_out[rows] = block @ self._alpha[rows]
            self.expected[rows] = np.diag(block)
        self.factor = max(float(np.mean(self.left_out**2 / self.expected)), 1e-12)

    def predict(self, across: Array, own: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) of new targets, without the noise: `spread` adds it.

        across (m, n): covariance with what was seen; own (m,): variance of each by itself.
        """
        solved = cho_solve((self._low, True), across.T)
        left = np.maximum(own - (across.T * solved).sum(axis=0), 0.0)
        return across @ self._alpha, self.factor * left

    def spread(self, variance: Array, *, noise: bool) -> Array:
        """Deviation (m,): of what a measurement says, or without `noise` of what lies under it."""
        return np.sqrt(variance + self.factor * self.noise * noise)
