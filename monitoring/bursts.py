"""Rows that come in bursts are worth fewer than they are: blocks in time and design effects."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.errors import WindowFault

_BLOCKS = 24  # of a window: hours of a day


def blocks_in_time(times: ArrayLike, blocks: int = _BLOCKS) -> NDArray[np.int64]:
    """Ids of `blocks` spans of about equally many rows, in order of time; equal times go together.

    >>> blocks_in_time([30, 10, 10, 20], blocks=2).tolist()
    [1, 0, 0, 1]
    """
    order = np.unique(np.asarray(times), return_inverse=True)[1].ravel()
    counts = np.bincount(order) if len(order) else np.zeros(0, dtype=np.int64)
    before = np.cumsum(counts) - counts
    return np.asarray(before[order] * blocks // max(len(order), 1), dtype=np.int64)


def seconds_of(times: ArrayLike, read: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Times of the rows that were `read`, in seconds. Raises WindowFault for another length."""
    given = seconds(times)
    if given.shape != read.shape:
        raise WindowFault(
            f"`times` has one time for each of the {len(read)} rows, got {given.shape}: give both "
            "from one frame"
        )
    return given[read]


def periods_like(times: ArrayLike, window: ArrayLike) -> NDArray[np.int64] | None:
    """Ids of the periods of `times` that are as long as `window` is; None where time says nothing.

    Both are numbers of one unit, NaN where unknown.

    >>> periods_like([0, 5, 10, 15, 20], window=[100, 110]).tolist()
    [0, 0, 1, 1, 2]
    """
    given, span = np.asarray(times), np.asarray(window)
    length = span.max() - span.min() if len(given) and len(span) else 0.0
    if not length > 0 or np.isnan(given).any():  # a length of NaN is not positive either
        return None
    return np.asarray((given - given.min()) // length, dtype=np.int64)


def intraclass(flags: NDArray[np.bool_], blocks: NDArray[np.int64]) -> float:
    """How alike the rows of a block are, in [0, 1]: Fisher's (1925) correlation by analysis of
    variance, 0 where nothing varies or where there are fewer than five blocks."""
    sizes = np.bincount(blocks).astype(float)
    sums = np.bincount(blocks, weights=flags)[sizes > 0]
    sizes = sizes[sizes > 0]
    n, k = float(sizes.sum()), len(sizes)
    share = float(sums.sum()) / n if n else 0.0
    if k < 5 or n == k or not 0 < share < 1:
        return 0.0
    own = sums / sizes
    between = float((sizes * (own - share) ** 2).sum()) / (k - 1)
    within = float((sizes * own * (1 - own)).sum()) / (n - k)
    usual = (n - float((sizes**2).sum()) / n) / (k - 1)
    spread = between + (usual - 1) * within
    return min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 0.0


def design_effect(flags: NDArray[np.bool_], blocks: NDArray[np.int64]) -> float:
    """By how much blocks make the variance of a share larger than independent rows would; >= 1.

    1 + (m - 1) rho, with m the mean size of a row's block and rho the intraclass correlation (Kish
    1965).

    >>> design_effect(np.repeat([True, False, True, False, False], 9), np.repeat(range(5), 9))
    9.0
    """
    sizes = np.bincount(blocks).astype(float)
    if not len(sizes):
        return 1.0
    mean = float((sizes**2).sum() / sizes.sum())
    return max(1.0, 1 + (mean - 1) * intraclass(flags, blocks))


def window_effect(
    flags: NDArray[np.bool_],
    spans: NDArray[np.int64],
    reference: NDArray[np.bool_] | None = None,
    periods: NDArray[np.int64] | None = None,
) -> float:
    """The design effect of a window: by its `spans` and by four of them at a time, for bursts of
    several lengths, and by the `reference`'s `periods`, since the window as a whole is one."""
    found = max(design_effect(flags, spans), design_effect(flags, spans // 4))
    if reference is None or periods is None:
        return found
    return max(found, 1 + (len(flags) - 1) * intraclass(reference, periods))


def seconds(times: ArrayLike) -> NDArray[np.float64]:
    """Times as seconds since 1970, NaN where there is none."""
    import pandas as pd

    moments = pd.to_datetime(pd.Series(times), utc=True, errors="coerce")
    since = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(since.to_numpy(), dtype=np.float64)


def worth(count: int, rows: int, effect: float, *, up: bool) -> tuple[int, int]:
    """`count` of `rows` as so many of independent rows (Rao and Scott 1992), rounded up or down."""
    share, number = count / rows, max(1, round(rows / effect))
    exact = share * number
    found = math.ceil(exact - 1e-9) if up else math.floor(exact + 1e-9)
    return found, number
