"""Rows as both protocols hand them over, and the check that a model can read them."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, Protocol

import numpy as np

from deployments.serving.errors import RequestFault
from deployments.serving.ids import new_ids
from deployments.serving.values import (
    FLOAT32_MAX,
    MAXIMUM_TEXT,
    NUMBER_TYPES,
    read_category,
    read_number,
    read_text,
)

ID_LENGTH = 128
ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"  # no control characters, no line breaks
_ID = re.compile(ID_PATTERN.replace("$", r"\Z"))
_YEARS = range(1700, 2262)  # what the telemetry store's frames can hold


class Column(Protocol):
    """A column of a model's schema."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Literal["number", "category", "text"]: ...


@dataclass(slots=True)
class Rows:
    """What one request asks about, by column or by row, before anything is checked.

    By column: `columns`, each a list, or a numeric array where it came as bytes. By row:
    `positional` or `matrix` (n, d), their values in the order of `names`, or in the schema's when
    there are no names; `columns` is then empty. `text`: the values came as text (CSV) and are still
    to be read as numbers where the schema wants them.
    """

    columns: dict[str, Any]
    count: int
    ids: Sequence[str] | None = None
    times: Sequence[str] | None = None
    text: bool = False
    positional: Sequence[Sequence[Any]] | None = None
    names: Sequence[str] | None = None
    matrix: np.ndarray | None = None


@dataclass(slots=True)
class Checked:
    """Rows that the model can read, and what has to be counted.

    `numbers` float64 (n, d_num), NaN where missing, every value finite and within float32;
    `categories` and `texts` a list for each column of the kind, None where missing; all in the
    schema's order.
    For the telemetry store, the values as they came: `features` by column, or `rows` by row.
    """

    names: tuple[str, ...]  # of the columns of `numbers`
    numbers: np.ndarray
    categories: dict[str, Sequence[Any]]
    order: tuple[str, ...]  # of the values of a row
    features: dict[str, Sequence[Any]] | None
    rows: Sequence[Sequence[Any]] | None
    ids: list[str]
    times: list[datetime] | None  # None: the request's own time
    ignored: list[str] = field(default_factory=list)
    texts: dict[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """Of all its texts: what they take of time and memory."""
        return sum(len(value) for values in self.texts.values() for value in values if value)

    @property
    def inputs(self) -> dict[str, Any]:
        """All columns by name: numbers as arrays (n,), categories and texts as lists."""
        return dict(zip(self.names, self.numbers.T, strict=True)) | self.categories | self.texts


class Reader:
    """The check of rows against one model's schema, prepared once for all requests.

    Rows that are as they should be are read in one pass over all numbers; only those at fault are
    gone through column by column, to find which one and say so.
    """

    def __init__(
        self,
        schema: Sequence[Column],
        time_column: str | None,
        maximum_text: int = MAXIMUM_TEXT,
    ) -> None:
        self._schema = tuple(schema)
        self._time = time_column
        self._maximum_text = maximum_text
        self.order = tuple(c.name for c in schema)
        places = {c.name: place for place, c in enumerate(schema)}
        self.names, self._categories, self._texts = (
            tuple(c.name for c in schema if c.kind == kind)
            for kind in ("number", "category", "text")
        )
        self._plain = len(self.names) == len(self.order)
        wanted = [places[name] for name in self.names]
        # one place gives no tuple
        self._numbers = itemgetter(*wanted) if len(wanted) > 1 else None
        self._places = places
        self._needed = frozenset(self.order)
        self._known = self._needed | {time_column}

    @property
    def reads_text(self) -> bool:
        """Whether rows hold texts, and so may take their time."""
        return bool(self._texts)

    def check(self, rows: Rows) -> Checked:
        """The rows as the model reads them.

        Columns that the model doesn't know are ignored, as MLflow's own scoring does, and are named
        in the answer: since every column of the model must be there, a misspelt name is still
        refused. Raises RequestFault 400 that names the column and the row.
        """
        ignored: list[str] = []
        table: Sequence[Sequence[Any]] | None = None
        numbers: np.ndarray | None = None
        if rows.matrix is not None:
            numbers = self._matrix(rows.matrix)
            table = numbers.tolist()
        elif rows.positional is not None:
            table, ignored = self._table(rows, rows.positional)
            if self._plain:
                numbers = _at_once(table)
            if numbers is None:
                rows.columns |= zip(self.order, map(list, zip(*table, strict=True)), strict=True)
        categories: dict[str, Sequence[Any]] = {}
        texts: dict[str, Sequence[Any]] = {}
        features: dict[str, Sequence[Any]] | None = None
        if numbers is None:
            numbers, categories, texts, features = self._columns(rows)
            ignored = ignored or [name for name in rows.columns if name not in self._known]
        return Checked(
            names=self.names,
            numbers=numbers,
            categories=categories,
            order=self.order,
            features=features,
            rows=table if features is None else None,
            ids=_ids(rows.ids, rows.count),
            times=_times(rows, self._time),
            ignored=ignored,
            texts=texts,
        )

    def table(
        self, table: Sequence[Sequence[Any]]
    ) -> tuple[np.ndarray, dict[str, Sequence[Any]], dict[str, Sequence[Any]]] | None:
        """Numbers, categories and texts, as in `Checked`, of rows with the schema's values in its
        order; None where a number is at fault. Raises RequestFault for another value that is."""
        if self._plain:
            numbers = _at_once(table)
            return None if numbers is None else (numbers, {}, {})
        numbers = self._of_rows(table)
        if numbers is None:
            return None
        places, maximum = self._places, self._maximum_text
        categories: dict[str, Sequence[Any]] = {}
        for name in self._categories:
            place = places[name]
            categories[name] = read_category(name, [row[place] for row in table], False)
        texts: dict[str, Sequence[Any]] = {}
        for name in self._texts:
            place = places[name]
            texts[name] = read_text(name, [row[place] for row in table], False, maximum)
        return numbers, categories, texts

    def _of_rows(self, table: Sequence[Sequence[Any]]) -> np.ndarray | None:
        """The numbers among the values of rows (n, d_num); None where one is at fault."""
        if not self.names:
            return np.empty((len(table), 0))
        if self._numbers is None:
            place = self._places[self.names[0]]
            return _at_once([(row[place],) for row in table])
        return _at_once(list(map(self._numbers, table)))

    def ordered(self, rows: Rows) -> tuple[Sequence[Sequence[Any]], list[str]]:
        """Rows by row with the schema's values in its order, and the names that it doesn't know;
        times in a column are left in `rows.columns`. Raises RequestFault."""
        assert rows.positional is not None
        return self._table(rows, rows.positional)

    def _table(
        self, rows: Rows, table: Sequence[Sequence[Any]]
    ) -> tuple[Sequence[Sequence[Any]], list[str]]:
        """Rows with the schema's values in its order, and the names that it doesn't know."""
        names = rows.names
        if names is None:
            width = len(self.order)
            if set(map(len, table)) != {width}:
                number = next(i for i, row in enumerate(table) if len(row) != width)
                raise RequestFault(
                    400,
                    f"row {number}",
                    f"a row without column names has the model's {width} values in order",
                    "send every column, or send names: dataframe_split",
                    received=len(table[number]),
                )
            return table, []
        if tuple(names) == self.order:
            return table, []
        places = {name: place for place, name in enumerate(names)}
        _check_there(places, self._schema)
        if self._time in places:
            rows.columns[self._time] = [row[places[self._time]] for row in table]
        wanted = [places[name] for name in self.order]
        ignored = [name for name in names if name not in self._known]
        if len(wanted) == 1:
            return [(row[wanted[0]],) for row in table], ignored
        return list(map(itemgetter(*wanted), table)), ignored

    def _matrix(self, matrix: np.ndarray) -> np.ndarray:
        if not self._plain:
            other = next(column for column in self._schema if column.kind != "number")
            kind = "a category" if other.kind == "category" else "a text"
            raise RequestFault(
                400,
                "inputs",
                f"one tensor of all columns fits numbers, {other.name!r} is {kind}",
                "send one tensor a column",
            )
        if matrix.shape[1] != len(self.order):
            raise RequestFault(
                400,
                "inputs[0].shape",
                f"one tensor of all columns has the model's {len(self.order)} in order",
                "send every column, or one tensor a column",
                received=list(matrix.shape),
            )
        numbers = matrix.astype(np.float64)
        if not _within(numbers):
            for place, name in enumerate(self.names):
                read_number(name, matrix[:, place], False)
        return numbers

    def _columns(
        self, rows: Rows
    ) -> tuple[np.ndarray, dict[str, Any], dict[str, Any], dict[str, Any]]:
        """(numbers, categories, texts, features) of rows by column."""
        columns, count = rows.columns, rows.count
        if not columns.keys() >= self._needed or set(map(len, columns.values())) != {count}:
            _check_there(columns, self._schema)
            _check_lengths(columns, count)
        lists: list[Sequence[Any]] = [columns[name] for name in self.names]
        numbers = None
        if not rows.text and set(map(type, lists)) == {list}:
            by_row = [[values[0] for values in lists]] if count == 1 else zip(*lists, strict=True)
            numbers = _at_once(list(by_row))
        if numbers is None:
            found = [read_number(name, columns[name], rows.text) for name in self.names]
            lists = [values for _, values in found]
            arrays = [array for array, _ in found]
            numbers = np.column_stack(arrays) if arrays else np.empty((count, 0))
        categories = {
            name: read_category(name, columns[name], rows.text) for name in self._categories
        }
        maximum = self._maximum_text
        texts = {name: read_text(name, columns[name], rows.text, maximum) for name in self._texts}
        features = dict(zip(self.names, lists, strict=True))
        return numbers, categories, texts, features | categories | texts


def check(rows: Rows, schema: Sequence[Column], time_column: str | None) -> Checked:
    """`Reader(schema, time_column).check(rows)`, for one request."""
    return Reader(schema, time_column).check(rows)


def _at_once(table: Sequence[Sequence[Any]]) -> np.ndarray | None:
    """Rows of numbers as float64 (n, d), None being NaN; None when a value is at fault."""
    count, width = len(table), len(table[0])
    try:  # checks and converts in one pass, several times as fast as numpy does
        packed = struct.pack(f"{count * width}d", *chain.from_iterable(table))
        numbers = np.frombuffer(packed).reshape(count, width)
        if count == 1 and min(table[0]) >= -FLOAT32_MAX and max(table[0]) <= FLOAT32_MAX:
            return numbers  # a third of the time of the same in NumPy; NaN in front is looked into
    except (struct.error, OverflowError):  # a missing value, or one at fault
        if not NUMBER_TYPES.issuperset(map(type, chain.from_iterable(table))):
            return None
        try:
            numbers = np.array(table, np.float64)
        except OverflowError:  # an integer beyond float64
            return None
    return numbers if _within(numbers) else None


def _within(numbers: np.ndarray) -> bool:
    """Whether every value is missing, or finite and within float32."""
    sizes = np.abs(numbers)
    # the maximum is NaN where one value is, and then says nothing
    return not sizes.size or bool(sizes.max() <= FLOAT32_MAX or not (sizes > FLOAT32_MAX).any())


def _check_there(names: Collection[str], schema: Sequence[Column]) -> None:
    missing = [column.name for column in schema if column.name not in names]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise RequestFault(
            400,
            f"column {shown}{more}",
            "every column of the model is required",
            "add it; null is a missing value",
            received=list(names),
        )


def _check_lengths(columns: dict[str, Any], count: int) -> None:
    for name, values in columns.items():
        if len(values) != count:
            raise RequestFault(
                400,
                f"column {name!r}",
                f"every column has as many values as there are rows, {count}",
                "make the columns equally long",
                received=len(values),
            )


def _ids(given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return new_ids(count)
    _check_length("ids", given, count)
    for row, value in enumerate(given):
        check_id(value, f"ids[{row}]")
    if len(set(given)) != count:
        seen: set[str] = set()
        twice = next(value for value in given if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise RequestFault(
            400, "ids", "ids are unique within a request", "give each row its own", received=twice
        )
    return list(given)


def check_id(value: str, where: str) -> None:
    """Raises RequestFault 400 unless 1 to 128 characters without control characters."""
    if len(value) > ID_LENGTH or not _ID.match(value):
        raise RequestFault(
            400,
            where,
            f"an id has 1 to {ID_LENGTH} characters, none of them a control character",
            "shorten it, or leave ids out and use those in the answer",
            received=value,
        )


def _check_length(name: str, given: Collection[Any], count: int) -> None:
    if len(given) != count:
        raise RequestFault(
            400,
            name,
            f"one for each of the {count} rows is required",
            f"send as many {name} as rows, or none",
            received=len(given),
        )


def _times(rows: Rows, time_column: str | None) -> list[datetime] | None:
    column = rows.columns.get(time_column) if time_column else None
    if rows.times is not None and column is not None:
        raise RequestFault(
            400,
            "times",
            f"event times come once: as `times` or as column {time_column!r}",
            "leave one of them out",
            received="both",
        )
    given = rows.times if rows.times is not None else column
    if given is None:
        return None
    name = "times" if column is None else f"column {time_column!r}"
    _check_length(name, given, rows.count)
    return [parse_time(value, f"{name}, row {row}") for row, value in enumerate(given)]


def parse_time(value: Any, where: str) -> datetime:
    """An ISO 8601 time in UTC; one without a zone is taken as UTC.

    >>> parse_time("2013-01-01T05:00:00-05:00", "time").isoformat()
    '2013-01-01T10:00:00+00:00'

    Raises RequestFault 400.
    """
    try:
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if time.year in _YEARS:
            return time
        raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestFault(
            400,
            where,
            f"a time is written as ISO 8601, years {_YEARS.start} to {_YEARS.stop - 1}",
            "send for instance 2013-01-01T05:00:00Z",
            received=value,
        ) from None
