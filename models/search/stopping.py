"""When a search has nothing more to expect, and the reason in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm


def nothing_to_expect(
    losses: NDArray[np.float64],
    *,
    patience: int,
    stale: int,
    tolerance: float,
    expected: Callable[[], float | None] = lambda: None,
) -> str | None:
    """Why no gain is to be expected after `losses` (n,) in order (NaN: failed), or None.

    An improvement counts when it exceeds `tolerance` of the gain so far (median loss minus best).
    There is nothing to expect when none came for `stale` trials, or none for `patience` trials and
    the expected improvement of the next is below the same bound: what `expected` says of it,
    or, when it has nothing to say, that of a normal with the last `patience` losses.
    """
    complete = losses[~np.isnan(losses)]
    if len(complete) < max(patience, 2):
        return None
    best = float(complete.min())
    gain = float(np.median(complete)) - best
    small = tolerance * gain
    if not _stale(losses, patience, small):
        return None
    if _stale(losses, stale, small):
        return (
            f"no gain to expect: the last {stale} of {len(losses)} trials did not improve the best "
            f"loss {best:.6g}"
        )
    next_gain = expected()
    if next_gain is None:
        next_gain = expected_improvement(complete[-patience:], best)
    if next_gain > small:
        return None
    return (
        f"no gain to expect: the last {patience} of {len(losses)} trials did not improve the best "
        f"loss {best:.6g}, and the next is expected to gain {next_gain:.2g}, less than "
        f"{tolerance:.1%} of the {gain:.2g} so far"
    )


def _stale(losses: NDArray[np.float64], last: int, small: float) -> bool:
    """Whether the `last` losses (NaN: failed) improved the best of those before by `small` at most.

    Never before there is a complete trial to compare with.
    """
    before = losses[:-last]
    if not np.isfinite(before).any():
        return False
    return float(np.nanmin(before) - np.nanmin(losses)) <= small


def expected_improvement(recent: NDArray[np.float64], best: float) -> float:
    """E max(best - Y, 0) for Y normal with the mean and deviation of `recent` losses.

    Jones, Schonlau, Welch (1998), equation 15, with the recent trials in place of a surrogate.
    """
    mean, deviation = float(np.mean(recent)), float(np.std(recent, ddof=1))
    if deviation == 0:
        return max(best - mean, 0.0)
    z = (best - mean) / deviation
    return float(deviation * (z * norm.cdf(z) + norm.pdf(z)))
