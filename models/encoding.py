"""Columns to arrays: float32 numbers, category codes and raw texts, in plain NumPy.

The serving process answers single rows through this, so nothing here needs pandas; a pandas
column is merely faster, because it can factorise itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataFault
from models.schema import Schema, closest

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = 0  # a category that training did not show
MISSING = 1
FIRST = 2  # the most frequent category; the rarer, the higher the code

_NAN = float("nan")
_LARGEST = float(np.finfo(np.float32).max)
_PLAIN = frozenset({float, int, bool, type(None)})
_TEXTS = frozenset({str, type(None)})


@dataclass(frozen=True, slots=True)
class Encoded:
    """`numbers` float32 (n, d_num), NaN where missing; `codes` int64 (n, d_cat).

    `texts` are str objects (n, d_text), '' where missing, as they came: what they are cut into is
    the model's own affair. None where no column is text.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int64]
    texts: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Any) -> Encoded:
        """Some of the rows, as an index, a mask or a slice."""
        texts = None if self.texts is None else self.texts[rows]
        return Encoded(self.numbers[rows], self.codes[rows], texts)


class Encoder:
    """What was seen of each column in training.

    A category is matched by its text, so 3, 3.0 and '3' are one; an unseen one has code 0, a
    missing one (None, NaN, '') code 1, the others count from 2 by falling frequency. Numbers may be
    ints, floats or bools; None and NaN are missing; text and infinity are faults. A text is a str
    as it is; a missing one is ''.

    >>> encoder = Encoder(("x",), {"carrier": ("UA", "B6")}, ("x", "carrier"))
    >>> encoded = encoder.transform({"x": [1, None], "carrier": ["B6", "ZZ"]})
    >>> encoded.numbers.tolist(), encoded.codes.tolist()
    ([[1.0], [nan]], [[3], [0]])
    """

    def __init__(
        self,
        numbers: Sequence[str],
        categories: Mapping[str, Sequence[str]],
        order: Sequence[str] = (),
        texts: Sequence[str] = (),
    ) -> None:
        self.numbers = tuple(numbers)
        self.categories = {name: tuple(values) for name, values in categories.items()}
        self.texts = tuple(texts)
        self._order = (*self.numbers, *self.categories, *self.texts)
        self.names = tuple(order) or self._order
        self._lookup: dict[str, dict[str | None, int]] = {
            name: {
                **{value: code for code, value in enumerate(values, FIRST)},
                None: MISSING,
                "": MISSING,
            }
            for name, values in self.categories.items()
        }

    @classmethod
    def fit(cls, frame: pd.DataFrame, schema: Schema, *, limit: int = 1_000) -> Encoder:
        """Learn the categories of a table, at most `limit` of a column: the rarest are unknown."""
        _require(frame, [column.name for column in schema.columns])
        if not len(frame):
            raise DataFault("an encoder learns from rows, got none: give at least one")
        categories = {}
        for name in schema.categories:
            texts, codes = _factorised(frame[name], name)
            counts: Counter[str] = Counter()
            for text, count in zip(texts, np.bincount(codes, minlength=len(texts)), strict=True):
                if text is not None:
                    counts[text] += int(count)
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            categories[name] = tuple(text for text, _ in ranked[:limit])
        names = [column.name for column in schema.columns]
        encoder = cls(schema.numbers, categories, names, schema.texts)
        for name in schema.numbers:
            _numbers(frame[name], name)  # faults come out at fitting, not at the first request
        for name in schema.texts:
            if not any(map(str.strip, _texts(frame[name], name))):
                raise DataFault(
                    f"a text column holds words, got none in the {len(frame):,} rows of {name!r}: "
                    "name another column"
                )
        return encoder

    @property
    def cardinality(self) -> tuple[int, ...]:
        """Number of codes of each category column, the two reserved ones included."""
        return tuple(len(values) + FIRST for values in self.categories.values())

    def transform(self, columns: Mapping[str, Any] | pd.DataFrame) -> Encoded:
        """Encode columns of equal length, given as lists, arrays or a data frame.

        Columns that the schema does not know are ignored. Raises DataFault that names the column
        that is missing, of another length, of a wrong type or infinite.
        """
        try:
            given: list[Any] = [columns[name] for name in self._order]
        except KeyError:
            return self._transform(columns)
        if not _plain(given):
            return self._transform(columns)
        width, end = len(self.numbers), len(self.numbers) + len(self.categories)
        numbers = _matrix(given[:width]) if width else np.empty((len(given[0]), 0))
        if numbers is None:
            return self._transform(columns)
        return self.encode(numbers, given[width:end], given[end:])

    def encode(
        self,
        numbers: NDArray[np.float64],
        categories: Sequence[Sequence[Any]],
        texts: Sequence[Sequence[Any]] = (),
    ) -> Encoded:
        """Encode numbers (n, d_num) that are known to be NaN or within float32, and one sequence
        of n values for each category and for each text column, all in the encoder's order.

        Raises DataFault for a value that is no category or no text.
        """
        if not self.categories:
            codes = np.empty((len(numbers), 0), dtype=np.int64)
        elif len(numbers) == 1:
            codes = np.array([self._one(categories)], dtype=np.int64)
        else:
            coded = map(self._codes, categories, self.categories)
            codes = np.array(list(coded), dtype=np.int64).T.copy()
        return Encoded(
            np.ascontiguousarray(numbers, dtype=np.float32), codes, self._raw(len(numbers), texts)
        )

    def _raw(self, rows: int, texts: Sequence[Any]) -> NDArray[np.object_] | None:
        """Texts (rows, d_text), or None if no column is text."""
        if not self.texts:
            return None
        result = np.empty((rows, len(self.texts)), dtype=object)
        for j, (name, values) in enumerate(zip(self.texts, texts, strict=True)):
            result[:, j] = _texts(values, name)
        return result

    def _one(self, categories: Sequence[Sequence[Any]]) -> list[int]:
        """The codes of a single row."""
        codes = []
        for (name, known), values in zip(self._lookup.items(), categories, strict=True):
            value = values[0]
            if type(value) is str or value is None:
                codes.append(known.get(value, UNKNOWN))
            else:
                codes += self._codes(values, name)
        return codes

    def _transform(self, columns: Mapping[str, Any] | pd.DataFrame) -> Encoded:
        """`transform` of anything but lists of plain values, and of what has a fault in it."""
        _require(columns, self.names)
        rows = -1
        for name in self.names:
            length = _length(columns[name], name)
            if rows < 0:
                rows = length
            elif length != rows:
                raise DataFault(
                    f"columns have one value per row, got {length} values of {name!r} and {rows} "
                    f"of {self.names[0]!r}: send as many of each"
                )
        numbers = np.empty((rows, len(self.numbers)), dtype=np.float32)
        for j, name in enumerate(self.numbers):
            numbers[:, j] = _numbers(columns[name], name)
        codes = np.empty((rows, len(self.categories)), dtype=np.int64)
        for j, name in enumerate(self.categories):
            codes[:, j] = self._codes(columns[name], name)
        return Encoded(numbers, codes, self._raw(rows, [columns[name] for name in self.texts]))

    def _codes(self, values: Any, name: str) -> NDArray[np.int64] | list[int]:
        known = self._lookup[name]
        if hasattr(values, "factorize"):
            texts, codes = _factorised(values, name)
            table = [known.get(text, UNKNOWN) for text in texts]
            result: NDArray[np.int64] = np.array(table, dtype=np.int64)[codes]
            return result
        if isinstance(values, np.ndarray):
            values = values.tolist()
        if set(map(type, values)) <= _TEXTS:
            return [known.get(value, UNKNOWN) for value in values]
        return [
            known.get(value if type(value) is str else _text(value, name, row), UNKNOWN)
            for row, value in enumerate(values)
        ]

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {
            "numbers": list(self.numbers),
            "categories": {name: list(values) for name, values in self.categories.items()},
            "order": list(self.names),
            "texts": list(self.texts),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Encoder:
        """The inverse of `to_json`."""
        texts = state.get("texts", ())  # older bundles know no text
        return cls(state["numbers"], state["categories"], state["order"], texts)


def _plain(given: Sequence[Any]) -> bool:
    """Whether all columns are lists of one length."""
    length = len(given[0]) if type(given[0]) is list else -1
    return all(type(values) is list and len(values) == length for values in given)


def _matrix(given: Sequence[list[Any]]) -> NDArray[np.float64] | None:
    """Columns of plain numbers as (n, columns), NaN where None; None if they aren't, or too large.

    All values at once: column by column, a single row of 20 numbers would take ten times as long.
    """
    kinds: set[type] = set()
    for values in given:
        kinds.update(map(type, values))
    if not kinds <= _PLAIN:
        return None
    try:
        matrix = np.array(given, dtype=np.float64)
    except OverflowError:  # a whole number beyond float64
        return None
    if (np.abs(matrix) > _LARGEST).any():  # false for NaN
        return None
    return matrix.T


def _require(columns: Any, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        there = [str(name) for name in columns]
        hint = closest(missing[0], there) if there else "there are none"
        raise DataFault(f"every input column must be there, got no {', '.join(missing)}: {hint}")


def _length(values: Any, name: str) -> int:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise DataFault(
            f"a column is a list of values, got {type(values).__name__} for {name!r}: "
            "put the value into a list"
        )
    if getattr(values, "ndim", 1) != 1:
        raise DataFault(
            f"a column has one value per row, got {values.ndim} dimensions for {name!r}: flatten it"
        )
    return len(values)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")  # pandas' own, without importing it


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    """(n,) floats, NaN where missing. Raises DataFault for text, infinity or a nested value."""
    if not isinstance(values, list | tuple):
        dtype = getattr(values, "dtype", None)
        if hasattr(values, "to_numpy"):
            if getattr(dtype, "kind", "O") in "biuf":
                values = values.to_numpy(dtype="float64", na_value=_NAN)
            else:
                values = values.to_numpy()
        values = np.asarray(values)
        if values.dtype.kind in "biuf":
            return _finite(values.astype(np.float64), name)
        values = values.tolist()
    result = np.empty(len(values), dtype=np.float64)
    for row, value in enumerate(values):
        kind = type(value)
        if kind is float or kind is int or kind is bool:
            pass
        elif _is_missing(value):
            value = _NAN  # noqa: PLW2901
        elif not isinstance(value, Real | Decimal | np.bool_):
            raise DataFault(
                f"column {name!r} holds numbers, got {value!r:.60} ({kind.__name__}) in row {row}: "
                "send a number, or null where it is missing"
            )
        try:
            result[row] = value
        except OverflowError:
            result[row] = np.inf
    return _finite(result, name)


def _finite(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    bad = np.abs(values) > _LARGEST  # false for NaN
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataFault(
            f"column {name!r} holds finite numbers up to {_LARGEST:.2g}, got {values[row]} in row "
            f"{row}: send null where the value is not known"
        )
    return values


def _texts(values: Any, name: str) -> list[str]:
    """Texts as they are, '' where missing. Raises DataFault for anything else."""
    given: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    if set(map(type, given)) == {str}:
        return given
    result = []
    for row, value in enumerate(given):
        if not isinstance(value, str) and not _is_missing(value):
            raise DataFault(
                f"column {name!r} holds text, got {value!r:.60} ({type(value).__name__}) in row "
                f"{row}: send a string, or null where it is missing"
            )
        result.append(str(value) if isinstance(value, str) else "")
    return result


def _text(value: Any, name: str, row: int) -> str | None:
    """A category as text, None where missing."""
    if isinstance(value, str):
        return str(value) or None
    if _is_missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        if np.isinf(value):
            raise DataFault(
                f"column {name!r} holds categories, got {value} in row {row}: "
                "send null where the value is not known"
            )
        return str(int(value)) if value == int(value) else repr(float(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    raise DataFault(
        f"column {name!r} holds categories (text, whole number or bool), got {value!r:.60} "
        f"({type(value).__name__}) in row {row}: send its text"
    )


def _factorised(values: Any, name: str) -> tuple[list[str | None], NDArray[np.int64]]:
    """Distinct texts of a pandas column and each row's position among them; None is missing."""
    codes, uniques = values.factorize()
    if values.dtype == object and not all(isinstance(value, str) for value in uniques):
        # pandas takes 1 and True for one value; as categories they are two
        places: dict[str | None, int] = {}
        rows = [
            places.setdefault(_text(value, name, row), len(places))
            for row, value in enumerate(values.tolist())
        ]
        return list(places), np.asarray(rows, dtype=np.int64)
    codes = np.asarray(codes, dtype=np.int64)
    texts: list[str | None] = []
    for position, value in enumerate(uniques):
        first = int(np.argmax(codes == position)) if not isinstance(value, str) else -1
        texts.append(_text(value, name, first))
    texts.append(None)
    return texts, np.where(codes < 0, len(texts) - 1, codes)
