"""Which columns moved, how far, which way: effect sizes with corrected p-values, in words.

Numbers are compared by rank: Cliff's delta (Cliff 1993), P(current > reference) - P(current <
reference), with its Mann-Whitney test, and the Kolmogorov-Smirnov distance, which also sees what
leaves the middle in place. Categories by total variation and a chi-squared test; missing values
and values never seen before are movements of their own, by exact tests. All p-values together are
corrected by Holm's step-down method (1979), so that at level 5 % some column is named in at most
5 % of the comparisons in which nothing moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring import phrasing
from monitoring.embedding import numbers, texts
from monitoring.errors import WindowFault
from monitoring.exact import holm
from monitoring.twosample import all_current, fisher, ranked

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

_CHUNK_CELLS = 4_000_000  # compared at once: about 300 MB with all that a comparison holds
_RARE = 10  # pooled rows below which a value counts among the rare ones


@dataclass(frozen=True, slots=True)
class Movement:
    """One column's movement of one kind."""

    column: str
    kind: str  # 'number', 'category', 'missing' or 'new values'
    effect: float  # -1..1: positive when current is larger, or has more of it
    measure: str  # what `effect` is: "Cliff's delta", 'total variation', 'share of rows'
    distance: float  # 0..1, comparable between kinds: the largest difference of any share
    p_value: float
    p_adjusted: float  # Holm over all columns and kinds
    before: float | Mapping[str, float]  # median, share, or shares by value
    after: float | Mapping[str, float]
    sentence: str


def movements(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    level: float = 0.05,
) -> tuple[Movement, ...]:
    """What moved of `columns` (name -> 'number' or 'category'), the farthest first.

    Those with an adjusted p-value at or below `level`; level 1 gives every comparison that could
    be made. Cells are read as `monitoring.embedding` reads them: what is not a number in a number
    column is missing, 3 and 3.0 are one category. A number column of 2,000 rows costs about
    0.2 ms, a category column about 2 ms. Raises WindowFault for columns that are not there and for
    a side without rows.
    """
    for side, frame in (("reference", reference), ("current", current)):
        absent = [name for name in columns if name not in frame]
        if absent:
            raise WindowFault(
                f"columns {absent} are not in the {side} rows: record them, or take them out of "
                "the config"
            )
        if not len(frame):
            raise WindowFault(f"a comparison needs rows on both sides, got 0 {side} rows: wait")
    unknown = set(columns.values()) - {"number", "category"}
    if unknown:
        raise WindowFault(f"columns must be 'number' or 'category', got {sorted(unknown)}: correct")
    wide = max(1, len(columns))
    found = _numbers(reference, current, [n for n, k in columns.items() if k == "number"], level)
    for name in (n for n, k in columns.items() if k == "category"):
        found += _category(reference, current, name, level / wide)
    adjusted = holm([f.p_value for f in found]).tolist()
    kept = []
    for one, p in zip(found, adjusted, strict=True):
        if p <= level:
            kept.append(one.told(p))
    return tuple(sorted(kept, key=lambda f: (-f.distance, f.p_value, f.column, f.kind)))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A movement before its p-value is adjusted; its words are made only if it is kept."""

    column: str
    kind: str
    effect: float
    distance: float
    p_value: float
    before: tuple[Floats, Floats] | float | Mapping[str, float]  # numbers: both sides, sorted
    after: float | Mapping[str, float]
    values: tuple[str, ...] = ()

    def told(self, adjusted: float) -> Movement:
        before, after, name = self.before, self.after, self.column
        if isinstance(before, tuple):
            sentence = phrasing.number(name, *before)
            before, after = (float(np.median(side)) for side in before)
            measure = "Cliff's delta"
        elif isinstance(before, Mapping):
            assert isinstance(after, Mapping)
            sentence, measure = phrasing.category(name, before, after), "total variation"
        else:
            assert isinstance(after, float)
            measure = "share of rows"
            if self.kind == "missing":
                sentence = phrasing.missing(name, before, after)
            else:
                sentence = phrasing.new_values(name, after, self.values)
        return Movement(
            name, self.kind, self.effect, measure, self.distance, self.p_value, adjusted,
            before, after, sentence,
        )  # fmt: skip


def _numbers(
    reference: pd.DataFrame, current: pd.DataFrame, names: list[str], level: float
) -> list[_Comparison]:
    rows = len(reference) + len(current)
    step = max(1, _CHUNK_CELLS // rows)
    found = []
    for start in range(0, len(names), step):
        part = names[start : start + step]
        x, y = _matrix(reference, part), _matrix(current, part)
        x.sort(axis=0)  # missing ones come last
        y.sort(axis=0)
        known = (~np.isnan(x)).sum(axis=0), (~np.isnan(y)).sum(axis=0)
        delta, distance, p_values = ranked(x, y, *known)
        gaps = fisher(len(x) - known[0], len(x), len(y) - known[1], len(y))
        for j, name in enumerate(part):
            a, b = int(known[0][j]), int(known[1][j])
            if a and b:
                p = float(p_values[j])
                # what cannot be kept needs no words, and no values for them
                sides = (x[:a, j].copy(), y[:b, j].copy()) if p <= level else 0.0
                found.append(
                    _Comparison(name, "number", float(delta[j]), float(distance[j]), p, sides, 0.0)
                )
            found += _gap(name, 1 - a / len(x), 1 - b / len(y), float(gaps[j]))
    return found


def _gap(name: str, before: float, after: float, p: float) -> list[_Comparison]:
    """The comparison of missing shares, where anything was missing."""
    if not before and not after:
        return []
    moved = after - before
    return [_Comparison(name, "missing", moved, abs(moved), p, before, after)]


def _matrix(frame: pd.DataFrame, names: list[str]) -> Floats:
    part = frame[names]
    if all(kind.kind in "fiub" for kind in part.dtypes):  # at once: a column each costs 30 us
        return np.array(part.to_numpy(dtype=np.float64), dtype=np.float64)
    return np.stack([numbers(part[name]) for name in names], axis=1)


def _category(
    reference: pd.DataFrame, current: pd.DataFrame, name: str, level: float
) -> list[_Comparison]:
    """`level` is that of naming one value as new, already shared among the columns."""
    import pandas as pd

    x, y = _texts(reference[name]), _texts(current[name])
    gaps = int(pd.isna(x).sum()), int(pd.isna(y).sum())
    p_gap = float(fisher(gaps[0], len(x), gaps[1], len(y))) if any(gaps) else 1.0
    found = _gap(name, gaps[0] / len(x), gaps[1] / len(y), p_gap)
    codes, levels = pd.factorize(np.concatenate([x, y]))
    m, n = len(x) - gaps[0], len(y) - gaps[1]
    if not m or not n:
        return found
    counts = np.stack(
        [
            np.bincount(part[part >= 0], minlength=len(levels))
            for part in (codes[: len(x)], codes[len(x) :])
        ]
    )
    total = counts.sum(axis=0)
    fresh = np.flatnonzero(counts[0] == 0)
    if len(fresh):
        # that all rows of a value fall on one side: bounded over all values that are as frequent
        alone = all_current(total[fresh], m + n, n)
        rivals = len(levels) - np.searchsorted(np.sort(total), total[fresh])
        p_fresh = np.minimum(1.0, rivals * alone)
        order = sorted(range(len(fresh)), key=lambda i: (-total[fresh[i]], levels[fresh[i]]))
        share = float(counts[1][fresh].sum()) / len(y)
        named = tuple(str(levels[fresh[i]]) for i in order)
        found.append(
            _Comparison(name, "new values", share, share, float(p_fresh.min()), 0.0, share, named)
        )
        counts[:, fresh[p_fresh <= level]] = 0  # told there; here they would hide the rest
    shares, p = _shares(counts, [str(v) for v in levels])
    if shares is not None:
        before, after = shares
        distance = sum(abs(after[v] - before[v]) for v in before) / 2
        found.append(_Comparison(name, "category", distance, distance, p, before, after))
    return found


def _texts(column: pd.Series) -> NDArray[np.object_]:
    """As `texts`, each different value read once."""
    import pandas as pd

    codes, values = pd.factorize(column.to_numpy(dtype=object))
    read = np.full(len(values) + 1, None, dtype=object)  # the last is that of code -1, missing
    read[:-1] = texts(pd.Series(values, dtype=object))
    return read[codes]


def _shares(
    counts: NDArray[np.int64], levels: list[str]
) -> tuple[tuple[dict[str, float], dict[str, float]] | None, float]:
    """Shares by value, rare ones together, and the chi-squared test's p-value."""
    from scipy.special import chdtrc

    total = counts.sum(axis=0)
    rare = (total < _RARE) & (total > 0)
    often = np.flatnonzero(total >= _RARE)
    table = counts[:, often].astype(float)
    names = [levels[i] for i in often]
    if rare.any():
        table = np.c_[table, counts[:, rare].sum(axis=1)]
        names.append(levels[int(np.flatnonzero(rare)[0])] if rare.sum() == 1 else "rare values")
    sums = table.sum(axis=1, keepdims=True)
    if not sums.all() or not names:
        return None, 1.0
    expected = sums * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    p = float(chdtrc(len(names) - 1, statistic)) if len(names) > 1 else 1.0
    before, after = (dict(zip(names, map(float, row), strict=True)) for row in table / sums)
    return (before, after), p
