"""The two shapes that a figure of one family may have: ridge regression, and a Gaussian process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.performance.features import Features
from models.performance.gaussian import Gaussian
from models.search.surrogate import Prior, Surrogate

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

RIDGE, PROCESS = "ridge", "process"
_PENALTIES = tuple(
    10.0 ** (2 - k / 2) for k in range(13)
)  # noise variances, of targets of variance 1
_OF_A_SEARCH = 0.2  # deviation of what all trials of one search have in common
_EARNED = 1.0  # deviations by which a process must be better than ridge to take its place
_ENOUGH = 8  # configurations, below which it is not even tried
_PRIOR = Prior(noise=0.01, noise_spread=1.5)


class Shape(Protocol):
    kind: str
    gaussian: Gaussian

    def predict(self, points: Array, searches: Ints) -> tuple[Array, Array]:
        """Mean and variance (m,), without the noise, at points (m, d); searches (m,): -1 for one
        not yet seen."""
        ...


class Ridge:
    """A second-order polynomial of the coordinates, and a shift of each search.

    The penalty is the one under which configurations that are left out are foretold best.
    """

    kind = RIDGE

    def __init__(
        self, features: Features, points: Array, y: Array, groups: Ints, searches: Ints
    ) -> None:
        self._features, self._searches = features, searches
        terms, sizes = features.terms(points)
        self._terms = terms * sizes
        covariance = self._terms @ self._terms.T + _shared(searches, searches)
        tried = [Gaussian(covariance, penalty, y, groups) for penalty in _PENALTIES]
        self.gaussian = min(tried, key=lambda one: float(np.abs(one.left_out).mean()))

    def predict(self, points: Array, searches: Ints) -> tuple[Array, Array]:
        terms, sizes = self._features.terms(points)
        terms = terms * sizes
        across = terms @ self._terms.T + _shared(searches, self._searches)
        return self.gaussian.predict(across, (terms**2).sum(axis=1) + _OF_A_SEARCH**2)


class Process:
    """A linear trend, a Matern process around it, and a shift of each search."""

    kind = PROCESS

    def __init__(
        self, features: Features, points: Array, y: Array, groups: Ints, searches: Ints
    ) -> None:
        self._features, self._points, self._searches = features, points, searches
        self._basis = features.linear(points)
        self._surrogate = Surrogate(
            points / 2,  # lengths of numbers count in units of their range
            y,
            features.listed,
            prior=_PRIOR,
            basis=np.hstack([self._basis, _OF_A_SEARCH * _flags(searches)]),
            basis_deviation=1.0,
        )
        covariance = self._covariance(points, self._basis, searches)
        self.gaussian = Gaussian(covariance, self._surrogate.noise, y, groups)

    def _covariance(self, points: Array, basis: Array, searches: Ints) -> Array:
        near = self._surrogate.covariance(points / 2, self._points / 2)
        whole: Array = near + basis @ self._basis.T + _shared(searches, self._searches)
        return whole

    def predict(self, points: Array, searches: Ints) -> tuple[Array, Array]:
        basis = self._features.linear(points)
        own = 1.0 + (basis**2).sum(axis=1) + _OF_A_SEARCH**2
        return self.gaussian.predict(self._covariance(points, basis, searches), own)


def chosen(
    features: Features, points: Array, y: Array, groups: Ints, searches: Ints, kinds: Sequence[str]
) -> Shape:
    """Ridge, unless a process is better on the configurations that are left out, by more than the
    deviation of the difference.

    kinds: what may be chosen; one alone is taken as it is.
    """
    if list(kinds) == [PROCESS]:
        return Process(features, points, y, groups, searches)
    ridge = Ridge(features, points, y, groups, searches)
    if PROCESS not in kinds or len(np.unique(groups)) < _ENOUGH:
        return ridge
    process = Process(features, points, y, groups, searches)
    gain = np.abs(ridge.gaussian.left_out) - np.abs(process.gaussian.left_out)
    by_group = np.array([gain[groups == group].mean() for group in np.unique(groups)])
    if by_group.mean() > _EARNED * float(stats.sem(by_group)):
        return process
    return ridge


def _shared(searches: Ints, others: Ints) -> Array:
    """Covariance (m, n) of what trials of one search have in common."""
    same = np.equal.outer(searches, others) & (searches[:, None] >= 0)
    found: Array = _OF_A_SEARCH**2 * same.astype(np.float64)
    return found


def _flags(searches: Ints) -> Array:
    """(n, searches): which search each is of."""
    found: Array = np.equal.outer(searches, np.unique(searches)).astype(np.float64)
    return found
