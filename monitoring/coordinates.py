"""Mixed columns as coordinates of a like say, on terms that both samples set together.

Every step looks at the pooled rows and never at which side a row came from, so a permutation of the
sides leaves it as it is: tests on these coordinates keep their exact level even where a category
has more levels than rows, or all of a column's new values are missing. (`monitoring.embedding` is
fitted on the reference alone instead: right for showing where a window went, but rows on which it
was fitted are not exchangeable with others.)

- A number becomes its normal score, Φ⁻¹ of its rank: whatever its scale, tail or outliers, and the
  same for every monotone transformation of it. A missing value stands at 0 and has an indicator of
  its own; a column of two values is an indicator.
- A category becomes an indicator per level, the rare ones together as one more, one for missing.
- A point is a number that is a coordinate already, of an embedding: it stays as it is, since the
  distances between its values mean something.
- Where several columns have gaps, one more indicator says whether a row has any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.embedding import numbers, texts
from monitoring.errors import WindowFault

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 32  # of a category, the most frequent
_RARE = 5  # rows: levels with fewer are counted together
_KNOTS = 4_096  # distinct values of a number that are told apart


@dataclass(frozen=True, slots=True)
class Number:
    """Normal scores of one column: at `values` they are `scores`, linear between."""

    name: str
    values: NDArray[np.float64]
    scores: NDArray[np.float64]
    gaps: bool  # whether any value is missing

    @property
    def indicator(self) -> bool:
        return len(self.values) == 2

    def names(self) -> list[str]:
        own = [] if len(self.values) < 2 else [self.name]
        return own + [f"{self.name} missing"] * self.gaps

    def _exact(
        self, values: NDArray[np.float64], missing: NDArray[np.bool_]
    ) -> NDArray[np.float64] | None:
        """Scores of values that are all among the known ones, faster than by interpolation."""
        if len(values) > _KNOTS:
            return None
        known = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        if not (missing | (self.values[known] == values)).all():
            return None
        return np.asarray(self.scores[known])

    def place(self, column: Any) -> list[NDArray[np.float64]]:
        """One array (rows,) per coordinate."""
        values = column if isinstance(column, np.ndarray) else numbers(column)
        missing = np.isnan(values)
        placed = []
        if len(self.values) > 1:
            scores = self._exact(values, missing)
            if scores is None:
                scores = np.interp(values, self.values, self.scores)
            placed.append(np.where(missing, 0.0, scores) if missing.any() else scores)
        if self.gaps:
            placed.append(missing.astype(np.float64))
        return placed


@dataclass(frozen=True, slots=True)
class Category:
    """Indicators of one column's levels; `others` when some levels are counted together."""

    name: str
    levels: tuple[str, ...]
    others: bool
    gaps: bool

    indicator = True

    def names(self) -> list[str]:
        named = [f"{self.name} = {level!r}" for level in self.levels]
        return named + [f"{self.name} rare"] * self.others + [f"{self.name} missing"] * self.gaps

    def place(self, column: Any) -> list[NDArray[np.float64]]:
        import pandas as pd

        text = texts(pd.Series(column))
        place = {level: code for code, level in enumerate(self.levels)}
        codes = text.map(place).fillna(len(place)).to_numpy(dtype=np.int64, copy=True)
        codes[text.isna().to_numpy()] = -1
        placed = [(codes == code).astype(np.float64) for code in range(len(place) + self.others)]
        return placed + [(codes == -1).astype(np.float64)] * self.gaps


@dataclass(frozen=True, slots=True)
class Point:
    """One coordinate of an embedding, as it came; finite."""

    name: str
    varies: bool

    indicator = False
    gaps = False

    def names(self) -> list[str]:
        return [self.name] * self.varies

    def place(self, column: Any) -> list[NDArray[np.float64]]:
        return [np.asarray(column, dtype=np.float64)] * self.varies


@dataclass(frozen=True, slots=True)
class AnyGap:
    """Whether a row has a gap in any column: a share that several columns make together."""

    name: str = "any column"

    indicator = True

    def names(self) -> list[str]:
        return [f"{self.name} missing"]


@dataclass(frozen=True, slots=True)
class Coordinates:
    """How rows become points; made by `fit` on pooled rows, then never changed."""

    columns: tuple[Number | Category | Point | AnyGap, ...]
    names: tuple[str, ...]  # (k,) of the coordinates
    source: NDArray[np.int64]  # (k,) which column each belongs to
    indicator: NDArray[np.bool_]  # (k,) whether it is 0 or 1

    @classmethod
    def placed(
        cls, pooled: Any, kinds: Mapping[str, str] | None = None
    ) -> tuple[Coordinates, NDArray[np.float32]]:
        """`fit` on the pooled rows and their own points, (rows, k), for less than one by one."""
        found = _untied(pooled) if kinds is None else None
        if found is None:
            coordinates = cls.fit(pooled, kinds)
            return coordinates, coordinates.transform(pooled)
        values, scores, points = found
        named = tuple(str(i) for i in range(len(values)))
        columns = tuple(
            Number(n, column, scores, False) for n, column in zip(named, values, strict=True)
        )
        return cls(columns, named, np.arange(len(named)), np.zeros(len(named), bool)), points

    @classmethod
    def fit(cls, pooled: Any, kinds: Mapping[str, str] | None = None) -> Coordinates:
        """`pooled` is a frame, or a (rows, columns) float array.

        `kinds` (name -> 'number', 'category' or 'point') is needed where a frame's own types do not
        say it; numbers and bools are numbers, anything else a category. A column without two
        different values is left out. Raises WindowFault for names that are there twice and unknown
        kinds.
        """
        said = {str(name): kind for name, kind in (kinds or {}).items()}
        unknown = {name: kind for name, kind in said.items() if kind not in _FITTED}
        if unknown:
            raise WindowFault(f"a column is a 'number' or a 'category', got {unknown}: correct it")
        placed: list[Number | Category | Point | AnyGap] = []
        for name, column in _columns(pooled):
            kind = said.get(name) or ("number" if _numeric(column) else "category")
            fitted = _FITTED[kind](name, column)
            if fitted.names():
                placed.append(fitted)
        if sum(c.gaps for c in placed if not isinstance(c, AnyGap)) > 1:
            placed.append(AnyGap())
        names = [n for c in placed for n in c.names()]
        source = np.repeat(np.arange(len(placed)), [len(c.names()) for c in placed])
        indicator = np.array(
            [c.indicator or n != c.name for c in placed for n in c.names()], dtype=bool
        )
        return cls(tuple(placed), tuple(names), source, indicator)

    def transform(self, rows: Any) -> NDArray[np.float32]:
        """Points (rows, k)."""
        known = dict(_columns(rows))
        count = len(next(iter(known.values()))) if known else 0
        placed: list[NDArray[np.float64]] = []
        any_gap = np.zeros(count)
        for column in self.columns:
            if isinstance(column, AnyGap):
                placed.append(any_gap)
                continue
            own = column.place(known[column.name])
            if column.gaps:
                any_gap = np.maximum(any_gap, own[-1])
            placed += own
        if not placed:
            return np.zeros((count, 0), np.float32)
        return np.stack(placed, axis=1).astype(np.float32)

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """(k,) whether a coordinate only says again what others say."""
        return np.array([isinstance(self.columns[c], AnyGap) for c in self.source], dtype=bool)


def _untied(
    rows: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]] | None:
    """Sorted values (d, rows), their scores (rows,) and points (rows, d) of an array without ties.

    None for anything else: gaps, ties, infinities, few rows, more than are told apart.
    """
    if not isinstance(rows, np.ndarray) or not 2 < len(rows) <= _KNOTS:
        return None
    columns = np.ascontiguousarray(rows.T)
    order = np.argsort(columns, axis=1)
    values = np.take_along_axis(columns, order, axis=1)
    ends = np.abs(values[:, [0, -1]])
    if not (ends < 1e300).all() or (values[:, 1:] == values[:, :-1]).any():  # NaN sorts to the end
        return None
    scores = _untied_scores(len(rows))
    points = np.empty(columns.shape, np.float32)
    np.put_along_axis(points, order, scores.astype(np.float32)[None, :], axis=1)
    return values, scores, np.ascontiguousarray(points.T)


@lru_cache(maxsize=64)
def _untied_scores(rows: int) -> NDArray[np.float64]:
    from scipy.special import ndtri

    scores = np.asarray(ndtri((np.arange(1, rows + 1) - 0.5) / rows), dtype=np.float64)
    scores.flags.writeable = False
    return scores


def _columns(rows: Any) -> list[tuple[str, Any]]:
    if hasattr(rows, "columns"):
        names = [str(name) for name in rows.columns]
        if doubled := sorted(name for name, times in Counter(names).items() if times > 1):
            raise WindowFault(f"columns {doubled} are there more than once: rename them")
        return [(n, rows.iloc[:, i]) for i, n in enumerate(names)]
    return [(str(i), rows[:, i]) for i in range(rows.shape[1])]


def _numeric(column: Any) -> bool:
    if isinstance(column, np.ndarray):
        return True
    if column.dtype == object:  # as a gap among whole numbers makes it
        import pandas as pd

        held = pd.api.types.infer_dtype(column, skipna=True)
        return held in ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty")
    return bool(column.dtype.kind in "biuf")


def _number(name: str, column: Any) -> Number:
    from scipy.special import ndtri

    values = column if isinstance(column, np.ndarray) else numbers(column)
    missing = np.isnan(values)
    known, counts = np.unique(values[~missing], return_counts=True)
    known = np.clip(known, -1e300, 1e300)  # infinities are the largest values, not faults
    if len(known) < 2:
        return Number(name, known, np.zeros(len(known)), bool(missing.any()) and len(known) > 0)
    if len(known) == 2:
        scores = np.array([0.0, 1.0])
    else:
        middle = np.cumsum(counts) - counts / 2
        scores = ndtri(middle / counts.sum())
        if len(known) > _KNOTS:
            kept = np.unique(np.linspace(0, len(known) - 1, _KNOTS).round().astype(int))
            known, scores = known[kept], scores[kept]
    return Number(name, known, scores, bool(missing.any()))


def _category(name: str, column: pd.Series) -> Category:
    import pandas as pd

    text = texts(pd.Series(column))
    counts = text.value_counts()
    gaps = bool(text.isna().any())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    frequent = [str(v) for v, n in ordered if n >= _RARE][:LEVELS]
    others = len(ordered) > len(frequent)
    if len(frequent) + others + gaps < 2:
        return Category(name, (), False, False)  # one value throughout
    return Category(name, tuple(frequent), others, gaps)


def _point(name: str, column: Any) -> Point:
    return Point(name, bool(np.ptp(np.asarray(column, dtype=np.float64)) > 0))


_FITTED: Mapping[str, Callable[[str, Any], Number | Category | Point]] = {
    "number": _number,
    "category": _category,
    "point": _point,
}
