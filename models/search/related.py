"""Today's search beside the earlier ones: what they say of it, as far as it turns out to be akin.

Earlier searches are one process (`past`), whose functions correlate with each other by an agreement
that was learnt: what they have in common, u, and what each has of its own, which is rougher.
Today's function, too, is a part in common with them and a part of its own,

    f = r u + g,   Var f = Var u = 1,   r: how akin today's task is

whose variance 1 - r^2 is of the rougher kind as far as theirs is, and else of the common kind,
and since a few trials don't tell r, several are held beside each other, each weighed by how likely
it makes what was found: an average over models, not a choice. What the past already says is worked
out once for all of them, so that a trial costs as much as with one.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import gammaln

from models.search.acquisition import log_expected_improvement
from models.search.past import Past
from models.search.surrogate import OFFSET, Array

AKIN = (0.3, 0.6, 0.8, 0.9, 0.97)  # values of r, equally likely before a trial


class Related:
    """Posterior of today's scores after trials at points (n, d), scored on the past's scale.

    n may be 0. evidence: log probability of the scores given the past, and as if nothing were in
    common, so that of the past only the hyperparameters count: apart. weights (k,): of the values
    of r.
    """

    def __init__(
        self, past: Past, points: Array, scores: Array, weights: Array | None = None
    ) -> None:
        self._past, self.points = past, points
        self._parts = [_Part(past, points, scores, akin) for akin in AKIN]
        each = np.array([part.evidence for part in self._parts]) - math.log(len(AKIN))
        self.evidence = float(np.logaddexp.reduce(each))
        self.apart = _Part(past, points, scores, 0.0).evidence
        self.weights = np.exp(each - self.evidence) if weights is None else weights
        self._told = np.array([m for m, _ in self._predictions(points)]) if len(points) else None

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (m,) of the noise-free score at points (m, d)."""
        found = self._predictions(points)
        means, deviations = np.array([m for m, _ in found]), np.array([s for _, s in found])
        mean = self.weights @ means
        square = self.weights @ (deviations**2 + (means - mean) ** 2)
        return mean, np.sqrt(np.maximum(square, 1e-10))

    def promise(self, points: Array) -> Array:
        """Log expected improvement (m,) over the best mean so far, each r against its own."""
        assert self._told is not None, "an improvement is over something: tell a trial first"
        each = [
            math.log(max(weight, 1e-300)) + log_expected_improvement(*found, float(told.min()))
            for weight, found, told in zip(
                self.weights, self._predictions(points), self._told, strict=True
            )
        ]
        return np.asarray(np.logaddexp.reduce(each, axis=0))

    def _predictions(self, points: Array) -> list[tuple[Array, Array]]:
        process = self._past.process
        known, scores = process.explained(points)
        shared = known.T @ self._parts[0].known
        smooth = process.covariance(points, self.points)
        rough = process.own_covariance(points, self.points)
        own, common = (known**2).sum(axis=0), scores @ known
        return [part.predict(smooth, rough, shared, own, common) for part in self._parts]


class _Part:
    """The posterior for one r. Covariances are against the past's variance."""

    def __init__(self, past: Past, points: Array, scores: Array, akin: float) -> None:
        process = past.process
        self._past, self._factor = past, math.sqrt(process.agreement) * akin
        self.known, past_scores = process.explained(points)
        n, m = len(points), len(past_scores)
        self._smooth = max(process.agreement, akin**2)
        smooth, rough = process.covariance(points, points), process.own_covariance(points, points)
        matrix = self._joined(smooth, rough)
        matrix -= self._factor**2 * self.known.T @ self.known
        matrix.flat[:: n + 1] += process.noise + 1e-8
        self._low = cholesky(matrix, lower=True, check_finite=False)
        left = scores - past.mean - self._factor * (past_scores @ self.known)
        self._alpha = cho_solve((self._low, True), left, check_finite=False)
        # Student's t, the signal's variance integrated out after what the past says of it.
        strength = m + process.prior.strength
        believed = strength * process.variance
        q = float(left @ self._alpha)
        self.evidence = (
            float(gammaln((n + strength) / 2) - gammaln(strength / 2))
            + 0.5 * strength * math.log(believed)
            - 0.5 * (n + strength) * math.log(believed + q)
            - float(np.log(np.diag(self._low)).sum())
        )

    def _joined(self, smooth: Array, rough: Array) -> Array:
        """Today's covariance, of the part in common or like it and of the rougher one."""
        return self._smooth * smooth + (1 - self._smooth) * rough + OFFSET**2

    def predict(
        self, smooth: Array, rough: Array, shared: Array, known: Array, common: Array
    ) -> tuple[Array, Array]:
        """Mean and deviation (m,); smooth, rough, shared (m, n): both covariances with the trials,
        and what the past explains; known, common (m,): its share of the variance, and its mean."""
        across = self._joined(smooth, rough) - self._factor**2 * shared
        mean = self._past.mean + self._factor * common + across @ self._alpha
        solved = solve_triangular(self._low, across.T, lower=True, check_finite=False)
        left = 1.0 + OFFSET**2 - self._factor**2 * known - (solved**2).sum(axis=0)
        return mean, np.sqrt(self._past.process.variance * np.maximum(left, 1e-8))
