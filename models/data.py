"""Tables on disk: reading them, their labels, times and digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import DataFault
from models.records import Scalar
from models.schema import class_key, closest

if TYPE_CHECKING:
    import pandas as pd

_CSV = (".csv", ".csv.gz")
_PARQUET = (".parquet", ".pq")


class Source(Protocol):
    """Where labelled rows come from. A SQL source is one more class with this method."""

    def read(self, after: datetime | None = None) -> pd.DataFrame:
        """All rows, or those whose time is later than `after` (aware)."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A CSV or Parquet file; `time` names the column that `after` is held against."""

    path: Path
    time: str | None = None

    def read(self, after: datetime | None = None) -> pd.DataFrame:
        frame = read_table(self.path)
        if after is None:
            return frame
        if self.time is None:
            raise DataFault(
                f"rows after {after.isoformat()} need a time column and {self.path.name} has none "
                "named: name it as the time"
            )
        return frame[(times(frame, self.time) > after).to_numpy()].reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """A table from .csv, .csv.gz or .parquet. Raises DataFault with the remedy."""
    path = Path(path)
    name = path.name.lower()
    if not name.endswith(_CSV + _PARQUET):
        raise DataFault(f"a table is .csv, .csv.gz or .parquet, got {path.name!r}: convert it")
    if not path.is_file():
        raise DataFault(f"no such file: {path}: correct the path, or write the file first")
    try:
        frame = _read_csv(path) if name.endswith(_CSV) else _read_parquet(path)
    except DataFault:
        raise
    except (OSError, EOFError, ValueError, UnicodeError) as fault:
        raise DataFault(f"{path} is not a readable table: {fault}: write it anew") from fault
    if not len(frame.columns) or not len(frame):
        raise DataFault(f"{path} holds no rows: a table has a header and at least one row")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        header = pd.read_csv(path, header=None, nrows=1, dtype=str)
    except pd.errors.EmptyDataError:
        raise DataFault(f"{path} is empty: a table has a header and at least one row") from None
    names = [str(name) for name in header.iloc[0].dropna()]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataFault(f"column names must differ, {path} has {repeated} twice: rename them")
    frame: pd.DataFrame = pd.read_csv(path, low_memory=False, index_col=False)
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = pd.read_parquet(path).reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return frame


def times(frame: pd.DataFrame, column: str) -> pd.Series:
    """The rows' times in UTC; those without a zone are taken to be UTC.

    Raises DataFault that names the first value that is no ISO 8601 time.
    """
    import pandas as pd

    if column not in frame:
        raise DataFault(f"the table has no column {column!r}: {closest(column, frame.columns)}")
    values = frame[column]
    if pd.api.types.is_datetime64_any_dtype(values):
        result = pd.to_datetime(values, utc=True)
    elif pd.api.types.is_numeric_dtype(values):
        raise DataFault(
            f"the time column {column!r} must hold dates, got the number {values.iloc[0]!r}: "
            "write times as ISO 8601, for instance 2013-01-31T17:00:00Z"
        )
    else:
        result = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    bad = np.flatnonzero(result.isna().to_numpy())
    if len(bad):
        row = int(bad[0])
        raise DataFault(
            f"the time column {column!r} must hold ISO 8601 times, got {values.iloc[row]!r} in row "
            f"{row} and {len(bad) - 1:,} more such: write them as 2013-01-31T17:00:00Z, or drop "
            "the rows"
        )
    return result


def to_labels(values: Any, classes: Sequence[Scalar]) -> NDArray[np.int64]:
    """Positions (n,) of labels in `classes`. Raises DataFault for a missing or foreign label."""
    import pandas as pd

    known = {class_key(label): code for code, label in enumerate(classes)}
    codes, uniques = pd.factorize(np.asarray(values, dtype=object))
    table = np.array([known.get(class_key(value), -1) for value in uniques] + [-1], dtype=np.int64)
    result: NDArray[np.int64] = table[codes]  # a missing label has code -1, the last entry
    bad = np.flatnonzero(result < 0)
    if len(bad):
        row = int(bad[0])
        value = "no label" if codes[row] < 0 else repr(uniques[codes[row]])
        raise DataFault(
            f"a label is one of {list(classes)}, got {value} in row {row} and "
            f"{len(bad) - 1:,} more such: drop these rows, or add the class"
        )
    return result


def digest(frame: pd.DataFrame) -> str:
    """sha256 (hex) of a table's column names, types and values in their order; not of its index."""
    import pandas as pd

    total = hashlib.sha256(f"{len(frame)}".encode())
    for position, name in enumerate(frame.columns):
        values = frame.iloc[:, position]
        total.update(repr((str(name), str(values.dtype))).encode())
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf":
            numbers = np.ascontiguousarray(values.to_numpy())
            if numbers.dtype.kind == "f":  # one NaN, whatever its bits
                numbers = np.where(np.isnan(numbers), np.array(np.nan, numbers.dtype), numbers)
            total.update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes())
            continue
        codes, uniques = pd.factorize(values)
        if values.dtype == object and not all(isinstance(value, str) for value in uniques):
            # pandas takes 1, 1.0 and True for one value, so spell out mixed columns
            kinds = [f"{type(v).__name__} {v}" for v in values.tolist()]
            codes, uniques = pd.factorize(pd.Index(kinds, dtype=object))
        total.update(np.asarray(codes, dtype="<i8").tobytes())
        for value in uniques:
            text = repr((type(value).__name__, str(value))).encode()
            total.update(len(text).to_bytes(8, "little") + text)
    return total.hexdigest()
