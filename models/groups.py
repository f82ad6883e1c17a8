"""Rows that come in groups, such as those of one day: drawn whole, and bounded by Student's t."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataFault

_CHUNK = 2_000_000  # resampled values in memory at once


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows by group."""

    ids: NDArray[np.int64]  # (n,) in 0..g-1
    sizes: NDArray[np.float64]  # (g,) rows

    def among(self, rows: NDArray[np.bool_]) -> Groups | None:
        """The groups of some of the rows."""
        return grouped(self.ids[rows], int(rows.sum()))

    def widened(self, confidence: float) -> float:
        """What the bootstrap's standard error is to be multiplied by for a one-sided bound.

        Student's quantile times the root of what the bootstrap's variance falls short by, both for
        groups of these sizes that have effects of their own, alike in variance (Bell and McCaffrey
        2002; Imbens and Kolesar 2016, 'Robust standard errors in small samples'). With g groups of
        one size that is t at g - 1 degrees of freedom, times sqrt(g / (g - 1)).
        """
        from scipy.stats import t

        w = self.sizes / self.sizes.sum()
        d = w**2
        total = float(d.sum())
        # the variance is a quadratic form b' A b of the effects, A = diag(d) + U M U'
        u, m = np.stack([d, w], axis=1), np.array([[0.0, -1.0], [-1.0, total]])
        inner, middle = m @ (u.T @ u), m @ (u.T * d @ u)
        trace = total - 2 * float((w * d).sum()) + total**2
        squared = float((d**2).sum() + 2 * np.trace(middle) + np.trace(inner @ inner))
        return float(t.ppf(confidence, trace**2 / squared) * np.sqrt(total / trace))


def grouped(ids: ArrayLike | None, rows: int) -> Groups | None:
    """The rows by group, from any integer `ids` (rows,); None where no two rows share one."""
    if ids is None:
        return None
    given = np.asarray(ids)
    if given.shape != (rows,):
        raise DataFault(
            f"groups have one id for each of the {rows:,} rows, got {given.shape}: align them"
        )
    own, places = np.unique(given, return_inverse=True)
    if len(own) == rows:
        return None
    places = places.ravel().astype(np.int64)
    return Groups(places, np.bincount(places).astype(np.float64))


def resampled(
    n: int, resamples: int, rng: np.random.Generator, groups: Groups | None
) -> Iterator[NDArray[np.float64]]:
    """How often each row is drawn, by itself or with its group, (b, n) at a time."""
    step, units = max(1, _CHUNK // n), n if groups is None else len(groups.sizes)
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        drawn = rng.integers(0, units, size=(b, units)) + units * np.arange(b)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=b * units).reshape(b, units)
        yield (counts if groups is None else counts[:, groups.ids]).astype(np.float64)
