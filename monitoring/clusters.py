"""Rows that come in groups, such as those of one day, and how sure so few groups can make one.

Rows of a day share its weather, so a thousand of them say far less than a thousand rows of as many
days. Whatever bounds a figure then has to count groups (Cameron, Gelbach and Miller 2008,
'Bootstrap-based improvements for inference with clustered errors'; Davison and Hinkley 1997,
section 3.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.errors import WindowFault

_UNKNOWN = -1  # the stretch of rows whose time nobody knows


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows by group."""

    ids: NDArray[np.int64]  # (n,) in 0..g-1
    sizes: NDArray[np.float64]  # (g,) rows

    @property
    def count(self) -> int:
        return len(self.sizes)


def grouped(ids: ArrayLike | None, rows: int) -> Groups | None:
    """The rows by group, from any integer `ids` (rows,); None where no two rows share one.

    Raises WindowFault where there is not one id a row.
    """
    if ids is None:
        return None
    given = np.asarray(ids)
    if given.shape != (rows,):
        raise WindowFault(
            f"`groups` has one id for each of the {rows:,} rows, got {given.shape}: make both of "
            "one frame"
        )
    own, places = np.unique(given, return_inverse=True)
    if len(own) == rows:
        return None
    places = places.ravel().astype(np.int64)
    return Groups(places, np.bincount(places).astype(np.float64))


def stretches(times: ArrayLike, block: timedelta) -> NDArray[np.int64]:
    """(n,) which stretch of `block` each time lies in, counted from the first of them.

    They are counted from the first and not from midnight, so that a week that starts at eight has
    seven days in it rather than eight. Rows without a time are one stretch, -1: nobody knows that
    they came apart.

    >>> stretches(["2024-03-01 20:00", "2024-03-02 19:59", "2024-03-02 20:00", None],
    ...     timedelta(days=1)).tolist()
    [0, 0, 1, -1]
    """
    from monitoring.bursts import seconds

    if block <= timedelta(0):
        raise WindowFault(f"a block is longer than nothing, got {block}: write it as 1d")
    given = seconds(times)
    known = np.isfinite(given)
    found = np.full(len(given), _UNKNOWN, dtype=np.int64)
    if known.any():
        since = given[known] - given[known].min()
        found[known] = np.floor(since / block.total_seconds()).astype(np.int64)
    return found


class Correction(NamedTuple):
    """What an estimate of variance from few groups needs."""

    factor: float  # what the bootstrap's variance is to be multiplied by
    freedom: float  # degrees of freedom of Student's t


def correction(sizes: NDArray[np.float64]) -> Correction:
    """For a mean over groups of these `sizes` (g,), of which there are at least two.

    The bootstrap's variance of a mean falls short, with g groups of one size by (g - 1) / g. For
    groups of any size, with effects of their own that are alike in variance, the sum of squares
    that it estimates is a quadratic form, b' A b with A = (I - 1 w')' diag(w^2) (I - 1 w') and w
    each group's share of the rows: `factor` puts its mean right, and `freedom`, (tr A)^2 / tr(A^2),
    its spread (Satterthwaite 1946; Bell and McCaffrey 2002; Imbens and Kolesar 2016, 'Robust
    standard errors in small samples'). With g groups of one size they are g / (g - 1) and g - 1.

    >>> correction(np.full(5, 200.0))
    Correction(factor=1.25, freedom=4.0)
    """
    w = sizes / sizes.sum()
    d = w**2
    total = float(d.sum())
    trace = total - 2 * float((w * d).sum()) + total**2
    # A = diag(d) + U M U' with U = [d, w]
    u, m = np.stack([d, w], axis=1), np.array([[0.0, -1.0], [-1.0, total]])
    inner, middle = m @ (u.T @ u), m @ (u.T * d @ u)
    squared = float((d**2).sum() + 2 * np.trace(middle) + np.trace(inner @ inner))
    return Correction(round(total / trace, 12), round(trace**2 / squared, 12))


def t_quantile(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, freedom))
