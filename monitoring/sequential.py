"""Bounds of a mean that hold at every moment at once, however often somebody looks.

An ordinary interval that is looked at after each request is wrong far more often than it says. Here
a gambler bets against 'the mean is at most m' with a fixed share of the capital on every value: if
that is true, no bet gains on average, and by Ville's inequality the capital ever exceeds 1/alpha
with probability alpha at most (Ville 1939; Robbins 1970; Waudby-Smith and Ramdas 2023, 'Estimating
means of bounded random variables by betting'). The capital is a mixture over shares of all sizes,
so that small and large differences are both found (the mixture SPRT of Johari et al. 2015, for
bounded values). The bounds are exact at any number of values: nothing is normal, nothing
asymptotic. What is assumed: values lie within their range, and the mean of each, given those before
it, is on the same side of m.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.errors import WindowFault

# Shares of the capital that are bet, each with the same part of it.
_SHARES = np.geomspace(0.002, 0.95, 22)
_POINTS = 8192  # distinct values, at most
_STEPS = 17  # halvings of 0..1 in the search of a bound; it errs to the safe side


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean and what is certain of it: it is below `low`, or above `high`, with probability alpha
    at most for each, over all moments together."""

    value: float | None  # None without values
    low: float
    high: float
    rows: int


def rate(hits: int, trials: int, alpha: float) -> Bounds:
    """Bounds of a probability of which `hits` of `trials` are known.

    >>> found = rate(10, 1000, 0.05)
    >>> found.low < 0.01 < found.high
    True
    """
    if not 0 <= hits <= trials:
        raise WindowFault(f"hits are within 0..trials, got {hits} of {trials}: correct the counts")
    _check(alpha)
    if not trials:
        return Bounds(None, 0.0, 1.0, 0)
    low = _lower(lambda m: float(against_rate(hits, trials, m)), alpha)
    high = 1.0 - _lower(lambda m: float(against_rate(trials - hits, trials, m)), alpha)
    return Bounds(hits / trials, low, high, trials)


def mean(values: ArrayLike, low: float, high: float, alpha: float) -> Bounds:
    """Bounds of the mean of (n,) values that lie in `low`..`high`; order makes no difference.

    Raises WindowFault for a value outside, since the bounds would be void.
    """
    each = np.asarray(values, dtype=np.float64)
    _check(alpha)
    if not low < high or each.ndim != 1:
        raise WindowFault(
            f"one row of values in a range is needed, got {each.shape}, {low}..{high}"
        )
    if not len(each):
        return Bounds(None, low, high, 0)
    if not (np.isfinite(each).all() and low <= each.min() and each.max() <= high):
        raise WindowFault(
            f"values lie in {low:g}..{high:g}, got {each.min():g}..{each.max():g}: clip them first"
        )
    width = high - low
    unit = (each - low) / width
    least, rest = (_lower(_capital(*_compressed(side)), alpha) for side in (unit, 1.0 - unit))
    most = 1.0 - rest
    return Bounds(float(each.mean()), low + width * least, low + width * most, len(each))


def difference(one: Bounds, other: Bounds) -> Bounds:
    """Bounds of the mean of `one` minus that of `other`, two samples apart.

    Each side spends the alphas of both: give half to each.
    """
    value = None if one.value is None or other.value is None else one.value - other.value
    rows = min(one.rows, other.rows)
    return Bounds(value, one.low - other.high, one.high - other.low, rows)


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise WindowFault(f"alpha is a probability within 0..1, got {alpha}: choose 0.05 or less")


def _compressed(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distinct values of 0..1 and how often each is there; of many, rounded down, which errs to
    the safe side of a lower bound."""
    points, counts = np.unique(values, return_counts=True)
    if len(points) > _POINTS:
        points, counts = np.unique(np.floor(values * _POINTS) / _POINTS, return_counts=True)
    return points, counts.astype(np.float64)


def against_rate(hits: ArrayLike, trials: ArrayLike, m: float) -> NDArray[np.float64]:
    """The logarithm of the capital of one who bet against 'the probability is at most `m`'.

    Of counts of any one shape; `rate` is above m for certain where this is above -log(alpha).
    """
    hit = np.asarray(hits, dtype=np.float64)[..., None]
    missed = np.asarray(trials, dtype=np.float64)[..., None] - hit
    return _log_mean(hit * np.log1p(_SHARES * (1.0 / m - 1.0)) + missed * np.log1p(-_SHARES))


def against_mean(values: NDArray[np.float64], m: float) -> NDArray[np.float64]:
    """The same against 'the mean is at most `m`' of values in 0..1, after each of them: (n,)."""
    return _log_mean(np.log1p(np.outer(values / m - 1.0, _SHARES)).cumsum(axis=0))


def _capital(points: NDArray[np.float64], weights: NDArray[np.float64]) -> Callable[[float], float]:
    def capital(m: float) -> float:
        return float(_log_mean(weights @ np.log1p(np.outer(points / m - 1.0, _SHARES))))

    return capital


def _log_mean(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    top = logs.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).mean(axis=-1)))


def _lower(capital: Callable[[float], float], alpha: float) -> float:
    """The largest m of which 'the mean is at most m' is refuted; the capital falls with m."""
    limit = -math.log(alpha)
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if capital(middle) >= limit:
            low = middle
        else:
            high = middle
    return low
