"""Exact tests of two samples, for shares and for values that one side alone has.

All are conditional on what both samples hold together, so their level holds for any sample sizes,
and down to the smallest levels, where an asymptotic test's does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.estimates import Interval, wilson
from monitoring.estimates import difference as of_intervals

_TILTS = np.geomspace(1e-3, 60.0, 240)  # of the exponential bound; each of them is valid
_HALVES = 8


def more(
    before: ArrayLike, rows_before: ArrayLike, now: ArrayLike, rows: ArrayLike
) -> NDArray[np.float64]:
    """One-sided p-values of Fisher's exact test (1935) that a share has not grown, elementwise.

    >>> float(more(0, 500, 1, 500)), float(more(0, 500, 60, 500)) < 1e-18
    (0.5, True)
    """
    from scipy.stats import hypergeom

    k1, n1, k2, n2 = (np.asarray(v, dtype=np.int64) for v in (before, rows_before, now, rows))
    return np.asarray(np.where(k2 > 0, hypergeom.sf(k2 - 1, n1 + n2, k1 + k2, n2), 1.0))


def moved(before: int, rows_before: int, now: int, rows: int) -> float:
    """Two-sided p-value of Fisher's exact test that a share is the same."""
    from scipy.stats import fisher_exact

    table = [[before, rows_before - before], [now, rows - now]]
    return min(1.0, float(fisher_exact(table)[1]))


def beyond(count: ArrayLike, rows_before: int, rows: int) -> NDArray[np.float64]:
    """Chance that `count` given values of both samples together all lie in the current one.

    It is also the p-value of `count` current values lying above all of the reference: an exceedance
    test (Epstein 1954), conservative where values are tied.

    >>> beyond([0, 1, 2], 500, 500).round(3).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.asarray(np.exp(_log_beyond(np.asarray(count, dtype=np.float64), rows_before, rows)))


def _log_beyond(count: NDArray[np.float64], n1: int, n2: int) -> NDArray[np.float64]:
    from scipy.special import gammaln

    total = n1 + n2
    fits = np.minimum(count, n2)
    found = gammaln(total - fits + 1) - gammaln(total - fits - n1 + 1)
    found += gammaln(total - n1 + 1) - gammaln(total + 1)
    return np.asarray(np.where(count > n2, -np.inf, np.minimum(found, 0.0)))


def unseen(before: NDArray[np.int64], now: NDArray[np.int64], *, seed: int = 0) -> float:
    """p-value that values which only the current sample has are no more than chance brings.

    `before` (values,) and `now` (values,) count each distinct value in the reference and in the
    current sample. Where a column has many rare values, some new ones are normal: under
    exchangeable rows, a value with c rows lies in the current sample alone with the probability
    `beyond(c)`. The rows of such values are weighed three times, and the smallest p-value is
    multiplied by three, so the result is at or above an exact one:

    - together: their number is a sum of negatively associated terms (Joag-Dev and Proschan 1983:
      products over disjoint rows of one draw without replacement), to which Chernoff's bound
      applies as if the terms were independent;
    - one by one: the chance that any value as frequent as the commonest new one is new;
    - left out: given one half of the reference, a row of the other half and a current row are
      equally likely to be unseen in it, which Fisher's test can compare. It is the one that sees
      rare values replaced by other rare ones. Twice the mean p-value over a few random halves is a
      p-value again (Vovk and Wang 2020).
    """
    if not now[before == 0].any():
        return 1.0
    n1, n2 = int(before.sum()), int(now.sum())
    pooled, fresh = before + now, now[before == 0]
    sizes, times = np.unique(pooled, return_counts=True)
    log_q = _log_beyond(sizes.astype(np.float64), n1, n2)
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-np.exp(log_q))
    tilted = np.logaddexp(log_rest, log_q + np.multiply.outer(_TILTS, sizes)) @ times
    together = float(np.exp(min(0.0, (tilted - _TILTS * fresh.sum()).min())))
    as_common = sizes >= fresh.max()
    single = float((np.exp(log_q[as_common]) * times[as_common]).sum())
    return min(1.0, 3 * min(together, single, _left_out(before, now, seed)))


def _left_out(before: NDArray[np.int64], now: NDArray[np.int64], seed: int) -> float:
    n1, n2, half = int(before.sum()), int(now.sum()), int(before.sum()) // 2
    if not half:
        return 1.0
    rng = np.random.default_rng(seed)
    # of counts, not of rows: the order of the rows decides nothing
    kept = rng.multivariate_hypergeometric(before, half, size=_HALVES, method="marginals")
    rest = before - kept
    strange = kept == 0
    p_values = more((rest * strange).sum(axis=1), n1 - half, (now * strange).sum(axis=1), n2)
    return min(1.0, 2 * float(p_values.mean()))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) adjusted p-values: family-wise valid under any dependence.

    >>> holm([0.01, 0.5, 0.02]).round(3).tolist()
    [0.03, 0.5, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else scaled
    return adjusted


def difference(
    before: int, rows_before: int, now: int, rows: int, confidence: float = 0.95
) -> Interval:
    """Share now minus share before, with Newcombe's (1998, method 10) interval of two Wilson's.

    >>> found = difference(56, 70, 48, 80)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (-0.2, -0.334, -0.052)
    """
    now_share, then_share = wilson(now, rows, confidence), wilson(before, rows_before, confidence)
    return of_intervals(now_share, then_share)


def percent(share: float) -> str:
    """A share as a person reads it.

    >>> percent(0.6123), percent(0.0), percent(0.0002)
    ('61.2 %', '0 %', '0.02 %')
    """
    value = 100 * share
    return f"{value:.2g} %" if abs(value) < 1 else f"{value:.1f} %"


def named(values: Sequence[object], most: int = 3) -> str:
    """The first few of `values`, and how many more there are."""
    more_than = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(repr(v) for v in values[:most]) + more_than
