"""Figures with intervals, and an interval held against a threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.rules import Threshold

_CERTAIN = 1e-12  # probabilities are clipped here, so that one confident miss stays finite
_CELLS = 4_000_000  # resample weights held at once: 32 MB


class Interval(NamedTuple):
    """A figure between its confidence bounds; a bound that the sample cannot give is None."""

    value: float
    low: float | None
    high: float | None


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """Wilson's score interval of a share (Wilson 1927); it holds its level at 0 and 1 too.

    >>> wilson(0, 50, 0.95).low
    0.0
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, extra = successes / trials, z * z / trials
    centre = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(share, low, high)


def quantile_bounds(values: NDArray[np.float64], share: float, confidence: float) -> Interval:
    """A quantile between order statistics, exact for any continuous distribution.

    The number of values below the quantile is binomial, so the bounds are two of the sorted values
    (Hahn and Meeker 1991, section 5.2). At 95 % the upper bound of a p95 wants 72 values.
    """
    from scipy.stats import binom

    ordered, n, tail = np.sort(values), len(values), (1 - confidence) / 2
    # value number j (from 1) lies below the quantile unless fewer than j values do
    below = int(binom.ppf(tail, n, share))  # P(count <= below - 1) < tail
    above = int(binom.ppf(1 - tail, n, share)) + 1  # P(count >= above) <= tail
    low = float(ordered[below - 1]) if below >= 1 else None
    high = float(ordered[above - 1]) if above <= n else None
    return Interval(float(np.quantile(ordered, share)), low, high)


def bootstrap(
    proba: NDArray[np.float64],
    codes: NDArray[np.int64],
    metrics: Iterable[str],
    *,
    confidence: float,
    seed: int,
    resamples: int,
) -> dict[str, Interval]:
    """Percentile bootstrap over rows of `log_loss`, `roc_auc`, `calibration_gap` (Efron 1979).

    `proba` (n, k), `codes` (n,) in 0..k-1. All resamples are rows of one weight matrix, so a mean
    is a matrix product and an area under the curve two cumulative sums. The calibration gap is the
    total variation distance, in [0, 1], between the mean probabilities and the shares that came
    true; with two classes, how far the mean probability is from the rate. A metric that the rows do
    not define, such as the area with one class only, is left out.
    """
    n, wanted = len(codes), tuple(metrics)
    picked = np.clip(proba[np.arange(n), codes], _CERTAIN, 1.0)
    losses = -np.log(picked)
    surplus = proba - np.eye(proba.shape[1])[codes]
    ranked = [_Ranked(proba[:, k], codes == k) for k in range(proba.shape[1])]
    if proba.shape[1] == 2:
        ranked = ranked[1:]  # the other class's area is the same
    rng = np.random.default_rng(seed)
    draws: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in wanted}
    step = max(1, _CELLS // max(n, 1))
    whole = np.ones((1, n))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(count, n)) + np.arange(count)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(float)
        for metric in wanted:
            draws[metric].append(_metric(metric, weights, losses, surplus, ranked))
    found = {}
    for metric in wanted:
        value = float(_metric(metric, whole, losses, surplus, ranked)[0])
        sample = np.concatenate(draws[metric])
        sample = sample[np.isfinite(sample)]
        if math.isfinite(value) and len(sample):
            low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
            found[metric] = Interval(value, float(low), float(high))
    return found


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


def judge(
    found: Interval, threshold: Threshold, baseline: float | None, *, higher_is_better: bool
) -> tuple[bool | None, str, dict[str, Any]]:
    """Whether the whole interval lies beyond the threshold: (breached, reason, detail).

    Breached is None when nothing is breached and some part of the threshold could not be held
    against anything: `worse_by` without a figure from the gate, or a bound that is missing. Where
    the whole interval lies within every limit, `detail["fine"]` is True; where the bare figure is
    beyond one, but not the interval, that is `detail["limit"]`, and whether it is an upper one
    `detail["limit_above"]`.
    """
    limits: list[tuple[str, float, bool]] = []  # (part, limit, breached when above)
    detail: dict[str, Any] = {}
    if threshold.below is not None:
        limits.append(("below", threshold.below, False))
    if threshold.above is not None:
        limits.append(("above", threshold.above, True))
    unknown = ""
    if threshold.worse_by is not None:
        detail["worse_by"] = threshold.worse_by
        if baseline is None:
            unknown = f"the gate left no figure for {threshold.metric} to compare with"
        else:
            detail["baseline"] = baseline
            worse = -threshold.worse_by if higher_is_better else threshold.worse_by
            limits.append(("worse_by", baseline + worse, not higher_is_better))
    fine = bool(limits) and not unknown
    for part, limit, above in limits:
        far = found.high if above else found.low  # the bound that may lie beyond first
        fine = fine and far is not None and ((far <= limit) if above else (far >= limit))
        bound = found.low if above else found.high
        if bound is None:
            unknown = unknown or f"too few rows to bound {threshold.metric}"
        elif (bound > limit) if above else (bound < limit):
            return True, "", {**detail, "beyond": part, part: getattr(threshold, part)}
    if fine:
        detail["fine"] = True
    for _, limit, above in limits:
        if (found.value > limit) if above else (found.value < limit):
            detail |= {"limit": limit, "limit_above": above}
    return (None if unknown else False), unknown, detail


def finite(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The finite values of a 1-d array; WindowFault when it is not 1-d."""
    if values.ndim != 1:
        raise WindowFault(f"{what} must be one value a row, got shape {values.shape}: flatten them")
    return values[np.isfinite(values)]
