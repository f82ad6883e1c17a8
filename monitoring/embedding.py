"""Rows of mixed columns as points, on terms that the reference alone sets.

Distances between points are what a kernel test sees, so every column gets a like say: two unrelated
rows differ by about 2 in squared distance in a number column and in a category column alike.

- A number becomes (value - mean) / deviation of the reference, cut off at 6 deviations, where one
  wild value would otherwise drown the rest, and an indicator of missing. A missing value stands at
  the mean.
- A category becomes one indicator per level: the reference's most frequent levels, one for all
  others (so a new category is a move in a direction that the reference never took) and one for
  missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault

if TYPE_CHECKING:
    import pandas as pd

_CUT = 6.0  # standard deviations
_LEVELS = 32  # kept per category column


@dataclass(frozen=True, slots=True)
class Number:
    """How one number column is placed: `width` 2."""

    name: str
    mean: float
    deviation: float

    width = 2


@dataclass(frozen=True, slots=True)
class Category:
    """How one category column is placed: one indicator per level, then other, then missing."""

    name: str
    levels: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.levels) + 2


@dataclass(frozen=True, slots=True)
class Embedding:
    """A mapping from frames to points; made by `fit` on the reference, then never changed."""

    columns: tuple[Number | Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One name per coordinate."""
        names: list[str] = []
        for column in self.columns:
            if isinstance(column, Number):
                names += [column.name, f"{column.name} missing"]
            else:
                levels = (*(repr(v) for v in column.levels), "other")
                names += [f"{column.name} = {v}" for v in levels] + [f"{column.name} missing"]
        return tuple(names)

    @classmethod
    def fit(cls, reference: pd.DataFrame, columns: Mapping[str, str]) -> Embedding:
        """Place `columns` (name -> 'number' or 'category') as the reference has them.

        Raises WindowFault for a missing column, an unknown kind, or no column at all.
        """
        if not columns:
            raise WindowFault("an embedding needs at least one column, got none: name them")
        _require(reference, columns)
        placed: list[Number | Category] = []
        for name, kind in columns.items():
            if kind == "number":
                values = numbers(reference[name])
                known = values[np.isfinite(values)]
                with np.errstate(over="ignore", invalid="ignore"):  # checked next
                    mean = float(known.mean()) if len(known) else 0.0
                    deviation = float(known.std()) if len(known) else 0.0
                usable = np.isfinite(mean) and np.isfinite(deviation)
                placed.append(
                    Number(
                        name,
                        mean if usable else 0.0,
                        # a constant column counts any change in its own unit
                        deviation if usable and deviation > 1e-12 * abs(mean) else 1.0,
                    )
                )
            elif kind == "category":
                counts = texts(reference[name]).value_counts()
                # by frequency, then by name: ties must not depend on the order of rows
                ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
                placed.append(Category(name, tuple(str(v) for v, _ in ordered[:_LEVELS])))
            else:
                raise WindowFault(
                    f"column {name!r} must be a 'number' or a 'category', got {kind!r}: correct it"
                )
        return cls(tuple(placed))

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Points (rows, coordinates), finite throughout."""
        _require(frame, [c.name for c in self.columns])
        width = sum(column.width for column in self.columns)
        points = np.zeros((len(frame), width), dtype=np.float32)
        start = 0
        for column in self.columns:
            if isinstance(column, Number):
                values = numbers(frame[column.name])
                missing = np.isnan(values)
                with np.errstate(over="ignore"):  # huge values are cut off next
                    moved = (np.where(missing, column.mean, values) - column.mean) / (
                        column.deviation
                    )
                points[:, start] = np.clip(moved, -_CUT, _CUT)
                points[:, start + 1] = missing
            else:
                place = {level: code for code, level in enumerate(column.levels)}
                text = texts(frame[column.name])
                codes = text.map(place).fillna(len(place)).to_numpy(dtype=np.int64, copy=True)
                codes[text.isna().to_numpy()] = len(place) + 1
                points[np.arange(len(frame)), start + codes] = 1.0
            start += column.width
        return points


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """A column as float64; what is not a number counts as missing. Infinities stay."""
    import pandas as pd

    return np.asarray(
        pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    )


def texts(column: pd.Series) -> pd.Series:
    """A column as text, missing kept; 3 and 3.0 are one category, as a gap turns one into other."""
    import pandas as pd

    codes, distinct = pd.factorize(column)  # -1 where missing: the last of the texts
    values = np.asarray(distinct, dtype=object)  # an Arrow array is slow to walk
    known = np.array([*map(_text, values), np.nan], dtype=object)
    return pd.Series(known[codes], index=column.index, name=column.name, dtype=object)


def _text(value: object) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _require(frame: pd.DataFrame, columns: Mapping[str, str] | list[str]) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise WindowFault(
            f"columns {missing} are not in the rows, which have {list(frame.columns)[:20]}: record "
            "them, or take them out of the config"
        )
