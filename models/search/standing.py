"""Whether what a search found is better than what stood before it, or only luckier.

The best of many trials on the same few validation rows looks better than it is. So a default, or
what the last search ended with, stays unless the new one is ahead by more than one standard error
of their difference (the one-standard-error rule of Breiman, Friedman, Olshen, Stone,
*Classification and regression trees*, 1984, chapter 3, here over pairs): on a few hundred rows that
is a hurdle, on many thousand hardly one. The error is that of a mean over parts of the rows that
lie together, since rows that do may be alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataFault
from models.records import Params, Trial
from models.search.base import key

PARTS = 30
LEAST = 4  # rows of a part


def parts(
    score: Callable[[ArrayLike, ArrayLike], float], y: NDArray[np.int64], proba: ArrayLike
) -> tuple[float, ...]:
    """The loss on each of `PARTS` parts of the rows, (n,) codes and (n, classes) probabilities.

    Empty where rows are too few, or a part alone has no such loss, as a rank has with one class.
    """
    if len(y) < PARTS * LEAST:
        return ()
    p = np.asarray(proba)
    try:
        told = [score(y[rows], p[rows]) for rows in np.array_split(np.arange(len(y)), PARTS)]
    except DataFault:
        return ()
    return tuple(round(float(one), 7) for one in told) if np.isfinite(told).all() else ()


def ahead(one: Trial, other: Trial) -> tuple[float, float] | None:
    """(by how much the loss of `one` is smaller, the standard error of that); None: not known."""
    if not one.parts or len(one.parts) != len(other.parts):
        return None
    gain = np.array(other.parts) - np.array(one.parts)
    return float(gain.mean()), float(gain.std(ddof=1) / math.sqrt(len(gain)))


def settled(
    chosen: Trial, trials: Sequence[Trial], standing: Sequence[Params]
) -> tuple[Trial, str]:
    """`chosen`, or the best of what stood before where it isn't certainly ahead, and why then."""
    stood = {key(params) for params in standing}
    tried = [t for t in trials if t.status == "complete" and key(t.params) in stood]
    tried = [t for t in tried if t.loss is not None and math.isfinite(t.loss)]
    if not tried or key(chosen.params) in stood:
        return chosen, ""
    before = min(tried, key=lambda t: (t.loss, t.number))
    found = ahead(chosen, before)
    if found is None or found[0] > found[1]:
        return chosen, ""
    gain, error = found
    if gain <= 0:  # the best by posterior mean need not have had the better score
        why = "is not ahead of it"
    else:
        why = f"is ahead of it by {gain:.4f}, not more than the standard error of that, {error:.4f}"
    return before, (f"trial {before.number} stood before and stays: trial {chosen.number} {why}")
