"""Figures of predicted probabilities on rows drawn again and again, singly or by the group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.clusters import Groups

_CERTAIN = 1e-12  # probabilities are clipped here, so that one confident miss stays finite
_CELLS = 4_000_000  # resample weights held at once: 32 MB


class Sampled(NamedTuple):
    """A metric of the rows as they are, and of each resample."""

    value: float
    draws: NDArray[np.float64]  # (resamples,)


def drawn(
    proba: NDArray[np.float64],
    codes: NDArray[np.int64],
    metrics: Sequence[str],
    parts: Groups | None,
    *,
    seed: int,
    resamples: int,
) -> dict[str, Sampled]:
    """`log_loss`, `roc_auc` and `calibration_gap` of resampled rows, or of resampled groups.

    All resamples are rows of one weight matrix, so a mean is a matrix product and an area under the
    curve two cumulative sums. NaN where the rows drawn do not define the metric. Of groups, the
    gap's draws are `value` plus how far the resampled gap is from the found one, as a distance.
    """
    n = len(codes)
    picked = np.clip(proba[np.arange(n), codes], _CERTAIN, 1.0)
    losses = -np.log(picked)
    surplus = proba - np.eye(proba.shape[1])[codes]
    ranked = [_Ranked(proba[:, k], codes == k) for k in range(proba.shape[1])]
    if proba.shape[1] == 2:
        ranked = ranked[1:]  # the other class's area is the same
    whole = np.ones((1, n))
    points = {m: float(_metric(m, whole, losses, surplus, ranked)[0]) for m in metrics}
    draws: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in metrics}
    for weights in _resampled(n, parts, resamples, np.random.default_rng(seed)):
        for metric in metrics:
            if parts is not None and metric == "calibration_gap":
                away = weights @ surplus / weights.sum(axis=1, keepdims=True) - surplus.mean(axis=0)
                draws[metric].append(points[metric] + np.abs(away).sum(axis=1) / 2)
            else:
                draws[metric].append(_metric(metric, weights, losses, surplus, ranked))
    return {metric: Sampled(points[metric], np.concatenate(draws[metric])) for metric in metrics}


def _resampled(
    n: int, parts: Groups | None, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """How often each row is drawn, by itself or with its group, (b, n) at a time."""
    units = n if parts is None else parts.count
    step = max(1, _CELLS // max(n, 1))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, units, size=(count, units)) + np.arange(count)[:, None] * units
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        weights = times.astype(float)
        yield weights if parts is None else weights[:, parts.ids]


def _metric(
    metric: str,
    weights: NDArray[np.float64],
    losses: NDArray[np.float64],
    surplus: NDArray[np.float64],
    ranked: list[_Ranked],
) -> NDArray[np.float64]:
    """The metric under each row of weights, (b, n) -> (b,)."""
    if metric == "log_loss":
        return np.asarray(weights @ losses / weights.sum(axis=1))
    if metric == "calibration_gap":
        gaps = weights @ surplus / weights.sum(axis=1, keepdims=True)
        return np.asarray(np.abs(gaps).sum(axis=1) / 2)
    areas = [area for r in ranked if np.isfinite(area := r.area(weights)).any()]
    if not areas:
        return np.full(len(weights), np.nan)
    stacked = np.stack(areas)
    defined = np.isfinite(stacked)
    total = np.where(defined, stacked, 0.0).sum(axis=0)
    return np.asarray(total / np.where(defined.any(axis=0), defined.sum(axis=0), np.nan))


class _Ranked:
    """Rows sorted by score once, so that each resample's area costs two cumulative sums."""

    def __init__(self, score: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(score, kind="stable")
        self.positive = positive[self.order].astype(float)
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of tied groups

    def area(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area under the ROC curve per row of weights; ties count half; NaN with one class."""
        drawn = weights[:, self.order]
        of_positive = np.add.reduceat(drawn * self.positive, self.starts, axis=1)
        of_negative = np.add.reduceat(drawn * (1 - self.positive), self.starts, axis=1)
        beaten = np.cumsum(of_negative, axis=1) - of_negative / 2
        pairs = of_positive.sum(axis=1) * of_negative.sum(axis=1)
        won = (of_positive * beaten).sum(axis=1)
        return np.asarray(won / np.where(pairs > 0, pairs, np.nan))
