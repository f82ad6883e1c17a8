"""Rows of a database as frames, with the types that a file's would have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Sequence[Any], names: Sequence[str]) -> pd.DataFrame:
    """Rows as tuples, in a frame with these columns."""
    import pandas as pd

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    made = {name: _column(values) for name, values in zip(names, columns, strict=True)}
    return pd.DataFrame(made, columns=list(names))


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame of all chunks; a chunk that has no value of a column takes the others' type."""
    import pandas as pd

    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    whole = {}
    for name in parts[0].columns:
        columns = [part[name] for part in parts]
        empty = [bool(column.isna().all()) for column in columns]
        kinds = {str(c.dtype) for c, none in zip(columns, empty, strict=True) if not none}
        kind: Any = kinds.pop() if len(kinds) == 1 else "object"
        if any(empty) and kind not in ("object", "bool"):
            kind = "float64" if kind == "int64" else kind  # which has no gaps
            columns = [
                pd.Series([None] * len(c)).astype(kind) if none else c
                for c, none in zip(columns, empty, strict=True)
            ]
        whole[name] = pd.concat(columns, ignore_index=True)
    return pd.DataFrame(whole)


def _column(values: tuple[Any, ...]) -> Any:
    """One column as pandas would have it from a file: numbers, times or objects."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {Decimal, int, float}:
        if kinds == {int} and None not in values:
            return pd.Series(values)
        return pd.Series([None if v is None else float(v) for v in values], dtype="float64")
    if kinds and kinds <= {datetime, date}:
        return pd.to_datetime(pd.Series([_utc(v) for v in values], dtype=object), utc=True)
    if kinds == {bool} and None not in values:
        return pd.Series(values)
    return pd.Series(values, dtype=object)


def _utc(value: date | None) -> Any:
    if not isinstance(value, datetime):
        return value if value is None else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
