"""What each of a list of points leads to: regret after h trials that begin with it.

The trials after the first are chosen by log expected improvement, the mean of both views, among the
same list, and answered by the problem itself; length scales stay. So the outcomes of all k first
choices are computed at once, each with one more column of a Cholesky factor per trial.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from models.search.acquisition import log_expected_improvement
from models.search.predictor import Predictor
from models.search.surrogate import Surrogate

Array = NDArray[np.float64]

AHEAD = (1, 2, 4, 8)


def outcomes(
    views: Sequence[Predictor],
    points: Array,
    true: Array,
    noisy: Array,
    low: float,
    regret: float,
    taken: NDArray[np.bool_],
) -> Array:
    """Regret (k, len(AHEAD)) of the incumbent by the noisy loss, for each first choice.

    true, noisy (k,): regrets and losses at points (k, d), NaN where a trial fails; low, regret: of
    the incumbent; taken (k,): points that are not tried again.
    """
    k = len(points)
    rows = now = np.arange(k)
    beliefs = [_Belief(view, points, noisy) for view in views]
    done = np.tile(taken, (k, 1))
    regrets, lows = np.full(k, regret), np.full(k, low)
    out = np.empty((k, len(AHEAD)))
    for ahead in range(1, max(AHEAD) + 1):
        better = np.isfinite(noisy[now]) & (noisy[now] < lows)
        regrets, lows = np.where(better, true[now], regrets), np.where(better, noisy[now], lows)
        done[rows, now] = True
        if ahead in AHEAD:
            out[:, AHEAD.index(ahead)] = regrets
        if ahead < max(AHEAD):
            value = sum(belief.told(now) for belief in beliefs)
            now = np.where(done, -np.inf, value).argmax(axis=1)
    return out


class _Belief:
    """k copies of a view, each told of other points of the list."""

    def __init__(self, view: Predictor, points: Array, noisy: Array) -> None:
        process = view._process
        assert isinstance(process, Surrogate)  # a cold search's
        tried = process.points
        inner = process.covariance(tried, tried) + (process.noise + 1e-8) * np.eye(len(tried))
        low = cholesky(inner, lower=True)
        solved = solve_triangular(low, process.covariance(points, tried).T, lower=True)
        own = process.covariance(points, points)
        self.cov = process.variance * (own - solved.T @ solved)
        mean = process.predict(points)[0]
        k = len(points)
        self.noise = process.variance * process.noise + 1e-9
        self.mean = np.tile(mean, (k, 1))
        self.variance = np.tile(np.maximum(np.diag(self.cov), 1e-10), (k, 1))
        self.columns: list[Array] = []
        self.best = np.full(k, float(view.told().min()))
        self.scores = _scores(view, noisy)

    def told(self, now: Array) -> Array:
        """Log expected improvement (k, k) after copy i is told of point now[i]."""
        rows = np.arange(len(now))
        column = self.cov[now].copy()
        for earlier in self.columns:
            column -= earlier * earlier[rows, now][:, None]
        root = np.sqrt(np.maximum(column[rows, now], 1e-12) + self.noise)[:, None]
        column = column / root
        self.columns.append(column)
        self.mean = self.mean + column * (self.scores[now] - self.mean[rows, now])[:, None] / root
        self.variance = np.maximum(self.variance - column**2, 1e-10)
        self.best = np.minimum(self.best, self.mean[rows, now])
        away, deviation = self.mean - self.best[:, None], np.sqrt(self.variance)
        return log_expected_improvement(away.ravel(), deviation.ravel(), 0.0).reshape(away.shape)


def _scores(view: Predictor, losses: Array) -> Array:
    """Losses (m,) as scores: by interpolation, beyond the best by the slope of the better half."""
    there = np.isfinite(view.losses)
    order = np.argsort(view.losses[there], kind="stable")
    known, score = view.losses[there][order], view.scores[: len(view.losses)][there][order]
    if len(known) < 2 or known[-1] == known[0]:
        return np.zeros(len(losses))
    half = len(known) // 2
    slope = (score[half] - score[0]) / max(float(known[half] - known[0]), 1e-12)
    filled = np.where(np.isfinite(losses), losses, known[-1])
    return np.asarray(np.interp(filled, known, score) + np.minimum(filled - known[0], 0) * slope)
