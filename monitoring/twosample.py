"""Two-sample comparisons of single columns, many columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ranked(
    x: Floats, y: Floats, m: NDArray[np.int64], n: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Cliff's delta, KS distance and p-value per column of sorted columns, missing last.

    The p-value is twice the smaller of the Mann-Whitney and the Kolmogorov-Smirnov test's
    (asymptotic, corrected for ties; ties make the second conservative).
    """
    from scipy.stats import kstwobign, norm

    pooled = np.concatenate([x, y])
    order = np.argsort(pooled, axis=0, kind="stable")
    values = np.take_along_axis(pooled, order, axis=0)
    known, late = ~np.isnan(values), order >= len(x)
    ends = np.ones(values.shape, dtype=bool)  # last of a group of equal values
    ends[:-1] = values[1:] != values[:-1]
    ends &= known
    seen = np.cumsum(known & ~late, axis=0), np.cumsum(known & late, axis=0)
    safe_m, safe_n = np.maximum(m, 1), np.maximum(n, 1)
    gap = np.where(ends, seen[1] / safe_n - seen[0] / safe_m, 0.0)
    distance = np.abs(gap).max(axis=0)
    # reference rows up to the end of the own group, and up to the end of the group before
    total = len(values) + 1
    upto = np.minimum.accumulate(np.where(ends, seen[0], total)[::-1], axis=0)[::-1]
    before = np.zeros_like(upto)
    before[1:] = np.maximum.accumulate(np.where(ends, seen[0], 0), axis=0)[:-1]
    won = np.where(known & late, upto + before, 0).sum(axis=0)
    delta = won / (safe_m * safe_n) - 1.0
    both = seen[0] + seen[1]
    earlier = np.zeros_like(both)
    earlier[1:] = np.maximum.accumulate(np.where(ends, both, 0), axis=0)[:-1]
    tied = np.where(ends, (both - earlier).astype(float), 0.0)
    count = (m + n).astype(float)
    loss = (tied**3 - tied).sum(axis=0) / np.maximum(count * (count - 1), 1)
    deviation = np.sqrt(np.maximum((count + 1 - loss) / (3.0 * safe_m * safe_n), 0.0))
    z = np.abs(delta) / np.where(deviation > 1e-12, deviation, np.inf)
    size = np.sqrt(m * n / np.maximum(count, 1))
    p = np.minimum(2 * norm.sf(z), kstwobign.sf(size * distance))
    return delta, distance, np.minimum(1.0, 2 * np.asarray(p))


def fisher(
    a: NDArray[np.int64] | int, m: int, b: NDArray[np.int64] | int, n: int
) -> NDArray[np.float64]:
    """Twice the smaller tail of Fisher's exact test of a of m against b of n."""
    from scipy.stats import hypergeom

    low = hypergeom.cdf(b, m + n, np.add(a, b), n)
    high = hypergeom.sf(np.subtract(b, 1), m + n, np.add(a, b), n)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(low, high)))


def all_current(rows: NDArray[np.int64], pooled: int, current: int) -> Floats:
    """Probability that `rows` drawn from the pooled ones are all of the current side."""
    from scipy.special import gammaln

    logs = gammaln(current + 1) - gammaln(current - rows + 1)
    return np.asarray(np.exp(logs - gammaln(pooled + 1) + gammaln(pooled - rows + 1)))
