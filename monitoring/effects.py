"""How far each column moved, whatever the number of rows: what a p-value cannot tell.

The distance is the share of rows that would have to change for one sample to look like the other:
Kolmogorov and Smirnov's statistic for numbers, total variation for categories, the difference of
the shares for missing values. What chance alone would bring at these numbers of rows is taken off,
so that a small window of an unchanged world is near 0 and a large one is not favoured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring.embedding import numbers, texts

if TYPE_CHECKING:
    import pandas as pd

ROWS = 20_000  # of either side: evenly spaced ones of a larger frame
_RARE = 5.0  # expected rows of a category on the smaller side; rarer ones are taken together
_KS_BY_CHANCE = math.sqrt(math.pi / 2) * math.log(2)  # mean of Kolmogorov's distribution, 0.869


def distances(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str]
) -> dict[str, float]:
    """Each column's distance in [0, 1], the most moved first.

    A column that either side lacks, or in which one has no value at all, moved by 1 when the other
    has values; columns without any value are left out.
    """
    found: dict[str, float] = {}
    sides = [_thinned(frame) for frame in (reference, current)]
    if not all(len(side) for side in sides):
        return {}
    for name, kind in columns.items():
        old, new = (_values(side, name, kind) for side in sides)
        gaps = abs(len(old) / len(sides[0]) - len(new) / len(sides[1]))
        if len(old) and len(new):
            moved = _kolmogorov(old, new) if kind == "number" else _variation(old, new)
            found[name] = float(min(1.0, max(moved, gaps, 0.0)))
        elif len(old) or len(new):
            found[name] = float(gaps)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _thinned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if len(frame) <= ROWS else frame.iloc[:: math.ceil(len(frame) / ROWS)]


def _values(side: pd.DataFrame, name: str, kind: str) -> NDArray[np.generic]:
    """The column's values without the missing ones; none where the side lacks the column."""
    if name not in side:
        return np.empty(0)
    if kind == "number":
        values = numbers(side[name])
        return values[np.isfinite(values)]
    return texts(side[name].dropna()).to_numpy(dtype=str)


def _kolmogorov(old: NDArray[np.generic], new: NDArray[np.generic]) -> float:
    old, new = np.sort(old), np.sort(new)
    points = np.concatenate([old, new])
    before = np.searchsorted(old, points, side="right") / len(old)
    after = np.searchsorted(new, points, side="right") / len(new)
    chance = _KS_BY_CHANCE * math.sqrt(1 / len(old) + 1 / len(new))
    return float(np.abs(before - after).max()) - chance


def _variation(old: NDArray[np.generic], new: NDArray[np.generic]) -> float:
    levels, codes = np.unique(np.concatenate([old, new]), return_inverse=True)
    before = np.bincount(codes[: len(old)], minlength=len(levels))
    after = np.bincount(codes[len(old) :], minlength=len(levels))
    pooled = (before + after) / (len(old) + len(new))
    rare = pooled * min(len(old), len(new)) < _RARE
    if rare.any():
        before, after, pooled = (
            np.append(counts[~rare], counts[rare].sum()) for counts in (before, after, pooled)
        )
    spread = np.sqrt(pooled * (1 - pooled) * (1 / len(old) + 1 / len(new)))
    chance = math.sqrt(2 / math.pi) * spread.sum() / 2  # mean of |difference| of normal shares
    return float(np.abs(before / len(old) - after / len(new)).sum() / 2 - chance)
