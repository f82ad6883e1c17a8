"""The performance predictor's model: a Gaussian process over the unit cube.

Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), chapters 2 and 5. The
kernel is Matern-5/2 with a length scale per parameter; choices differ or do not. Half of a score is
mostly the normal quantile of its rank (a copula transform, as in Salinas, Shen, Perrone, *A
quantile-based approach for hyperparameter transfer learning*, ICML 2020), so that losses of any
scale are alike. Length scales and noise are at the mode of their posterior; the prior widens with
the number of dimensions, as Hvarfner, Hellsten, Nardi, *Vanilla Bayesian optimization performs
great in high dimensions*, ICML 2024, advise. Cost: n^2 (d + n) for each of some 25 steps of the
fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]

_ROOT5 = math.sqrt(5.0)
_JITTER = 1e-8
OFFSET = 0.25  # deviation of a search's own offset, against that of the signal
_AGREEMENT = 1.4  # logit of the correlation of two searches before a trial: 0.8
_AGREEMENT_SPREAD = 1.0
_ROUGHER = 0.7  # log deviation of how much rougher a search's own part is than the common one


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a space before any trial.

    scale: median length scale of a number in one dimension, in units of its range; it grows with
    the square root of the number of dimensions. spread: log standard deviation of it. mismatch:
    the same median for a choice, whose values are 1 apart. noise, noise_spread: median and log
    deviation of the noise variance, against a signal variance of 1. strength: how many trials the
    belief in that signal variance is worth.
    """

    scale: float = 0.5
    spread: float = 1.0
    mismatch: float = 1.0
    noise: float = 0.02
    noise_spread: float = 1.0
    strength: float = 4.0


def scores_of(losses: Array, ranks: float = 0.5) -> Array:
    """Scores (n,), smaller is better, of losses (n,), larger ones cut off.

    The mean of two transforms, of which the first has the weight `ranks`. Normal quantiles of the
    ranks mean the same in every search and under every metric, and leave nothing to an outlier;
    standardised losses, cut off as far above the median as twice the best lies below it, still tell
    a near miss from a far one, and a smooth function stays smooth. A failed
    trial (NaN) is as bad as the worst that completed: how bad is not known.
    """
    failed = np.isnan(losses)
    if failed.all():
        return np.zeros(len(losses))
    filled = np.where(failed, np.nanmax(losses), losses)
    if len(filled) < 2 or np.ptp(filled) == 0:
        return np.where(failed, 1.0, 0.0)
    quantiles = norm.ppf((rankdata(filled) - 0.5) / len(filled))
    size = float(np.abs(filled).max())  # squares of very large and very small losses stay finite
    filled = filled / size
    middle = float(np.median(filled[~failed]))
    reach = max(middle - float(filled.min()), 1e-12)
    cut = np.minimum(filled, middle + 2 * reach)
    deviation = float(cut.std())
    standard = (cut - cut.mean()) / deviation if deviation > 0 else np.zeros(len(cut))
    return np.asarray(ranks * quantiles + (1 - ranks) * standard)


class Surrogate:
    """A Gaussian process on points (n, d) of the unit cube with scores (n,).

    choices (d,): which columns are choices, compared for equality. basis (n, k): functions of the
    points whose coefficients are N(0, basis_deviation^2). together: how many parameters
    count at the same time, d unless some are conditional. searches (n,): which search each score
    comes from, None for one; every search has an offset of its own and a function that correlates
    with the others' by `agreement`, which is learnt too. What it has of its own beside what they
    have in common is `rougher`, by so much are its length scales shorter (a linear model of
    coregionalisation: Bonilla, Chai, Williams, *Multi-task Gaussian process prediction*, NIPS 2007,
    with two numbers in place of matrices). `evidence`: log probability of the scores at the mode of
    the rest, up to what is the same for the same points and prior.
    """

    def __init__(
        self,
        points: Array,
        scores: Array,
        choices: NDArray[np.bool_],
        *,
        prior: Prior | None = None,
        basis: Array | None = None,
        basis_deviation: float = 0.5,
        together: float | None = None,
        searches: NDArray[np.int64] | None = None,
    ) -> None:
        self.points, self.choices = points, choices
        self.prior = prior or Prior()
        n, d = points.shape
        self._basis = basis if basis is not None else np.zeros((n, 0))
        self._basis_variance = basis_deviation**2
        self._believed = self.prior.strength  # against a signal variance of 1
        self._y = scores
        root_d = math.sqrt(max(d if together is None else together, 1))
        self._center = np.append(
            np.where(choices, math.log(self.prior.mismatch), math.log(self.prior.scale))
            + math.log(root_d) * np.ones(d),
            math.log(self.prior.noise),
        )
        self._spread = np.append(np.full(d, self.prior.spread), self.prior.noise_spread)
        self._other = None if searches is None else np.not_equal.outer(searches, searches)
        if searches is not None:
            self._center = np.append(self._center, [0.0, _AGREEMENT])
            self._spread = np.append(self._spread, [_ROUGHER, _AGREEMENT_SPREAD])
        self.agreement = self.rougher = 1.0
        self._fit()

    def _fit(self) -> None:
        n, d = self.points.shape
        gap = self.points[:, None, :] - self.points[None, :, :]
        squares = np.where(self.choices, np.abs(gap) > 1e-9, gap**2).reshape(n * n, d)
        mean_part = self._basis_variance * self._basis @ self._basis.T
        if self._other is not None:
            mean_part = mean_part + OFFSET**2 * ~self._other

        def objective(theta: Array) -> tuple[float, Array]:
            weights, noise = np.exp(-2 * theta[:d]), math.exp(theta[d])
            root = _ROOT5 * np.sqrt(squares @ weights)
            decay = np.exp(-root)
            kernel = ((1 + root + root**2 / 3) * decay).reshape(n, n)
            c = 1.0 if self._other is None else _share(theta[-1])
            both = kernel
            if self._other is not None:
                own_root = root * math.exp(theta[-2])
                own_decay = np.exp(-own_root)
                own = ((1 + own_root + own_root**2 / 3) * own_decay).reshape(n, n)
                own[self._other] = 0.0
                both = c * kernel + (1 - c) * own
            matrix = both + mean_part + noise * np.eye(n)
            matrix.flat[:: n + 1] += _JITTER
            try:
                low = cholesky(matrix, lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                return 1e10, np.zeros(len(theta))
            inverse = cho_solve((low, True), np.eye(n), check_finite=False)
            alpha = inverse @ self._y
            q, strength = float(self._y @ alpha), self.prior.strength
            away = (theta - self._center) / self._spread
            value = (
                0.5 * (n + strength) * math.log(q + self._believed)
                + float(np.log(np.diag(low)).sum())
                + 0.5 * float(away @ away)
            )
            pull = ((n + strength) / (q + self._believed)) * np.outer(alpha, alpha) - inverse
            slope = (5 / 3) * c * (1 + root) * decay * pull.ravel()
            gradient = np.empty(len(theta))
            if self._other is not None:
                within = pull * ~self._other
                rough = (1 - c) * (1 + own_root) * own_decay * within.ravel()
                gradient[-2] = float(rough @ own_root**2) / 6
                gradient[-1] = -0.5 * c * (1 - c) * float((pull * (kernel - own)).sum())
                slope += (5 / 3) * math.exp(2 * theta[-2]) * rough
            gradient[:d] = -0.5 * weights * (slope @ squares)
            gradient[d] = -0.5 * noise * float(np.trace(pull))
            return value, gradient + away / self._spread

        strength = self.prior.strength
        theta, believed = self._center, 0.5 * strength * math.log(self._believed)
        believed += float(gammaln((n + strength) / 2) - gammaln(strength / 2))
        if n > 1 and d:
            bounds = [(c - 5 * s, c + 5 * s) for c, s in zip(theta, self._spread, strict=True)]
            found = minimize(
                objective,
                theta,
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"maxiter": 25 if self._other is None else 40, "ftol": 1e-5},
            )
            theta, self.evidence = found.x, believed - float(found.fun)
        else:
            self.evidence = believed - objective(theta)[0]
        self._settle(theta, mean_part)

    def _settle(self, theta: Array, mean_part: Array) -> None:
        """The process with the hyperparameters theta."""
        n, d = self.points.shape
        self._weights, self.noise = np.exp(-2 * theta[:d]), math.exp(theta[d])
        kernel = self._kernel(self.points, self.points)
        if self._other is not None:
            self.agreement, self.rougher = _share(theta[-1]), math.exp(theta[-2])
            own = (1 - self.agreement) * self.own_covariance(self.points, self.points)
            kernel = self.agreement * kernel + np.where(self._other, 0.0, own)
        matrix = kernel + mean_part + self.noise * np.eye(n)
        matrix.flat[:: n + 1] += _JITTER
        self._low = cholesky(matrix, lower=True, check_finite=False)
        self._alpha = cho_solve((self._low, True), self._y, check_finite=False)
        self.variance = float(self._y @ self._alpha) + self._believed
        self.variance /= n + self.prior.strength

    def _kernel(self, a: Array, b: Array, rougher: float = 1.0) -> Array:
        numbers, listed = ~self.choices, np.flatnonzero(self.choices)
        weights = self._weights * rougher**2
        root = np.sqrt(weights[numbers])
        a_, b_ = a[:, numbers] * root, b[:, numbers] * root
        squares = (a_**2).sum(1)[:, None] + (b_**2).sum(1) - 2 * (a_ @ b_.T)
        for j in listed:
            squares += weights[j] * (np.abs(a[:, j, None] - b[None, :, j]) > 1e-9)
        root5 = _ROOT5 * np.sqrt(np.maximum(squares, 0.0))
        return np.asarray((1 + root5 + root5**2 / 3) * np.exp(-root5))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (m,) of the noise-free score at points (m, d), of the process
        without its basis."""
        across = self._kernel(points, self.points)
        mean = across @ self._alpha
        solved = solve_triangular(self._low, across.T, lower=True, check_finite=False)
        left = np.maximum(1.0 - (solved**2).sum(axis=0), 1e-10)
        return mean, np.sqrt(self.variance * left)

    def covariance(self, a: Array, b: Array) -> Array:
        """Of the process at points a (n, d) and b (m, d), (n, m), against a variance of 1."""
        return self._kernel(a, b)

    def own_covariance(self, a: Array, b: Array) -> Array:
        """The same (n, m) of what a search has of its own."""
        return self._kernel(a, b, self.rougher)

    def explained(self, points: Array) -> tuple[Array, Array]:
        """What the scores say of points (m, d) of the function that all have in common.

        V (n, m) and z (n,): its mean is V^T z, and of its covariance V^T V is known, against a
        variance of 1.
        """
        across = self._kernel(self.points, points)
        known = solve_triangular(self._low, across, lower=True, check_finite=False)
        return known, solve_triangular(self._low, self._y, lower=True, check_finite=False)

    @property
    def length_scales(self) -> Array:
        """(d,) in units of each parameter's range; infinite would be a parameter without effect."""
        return np.asarray(1 / np.sqrt(self._weights))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
