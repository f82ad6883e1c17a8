"""Rows of the telemetry store as a DataFrame. The only part of the store that needs pandas."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from monitoring.errors import WindowFault
from monitoring.storage import from_json

RESERVED = ("id", "time", "version", "proba", "latency_ms", "label", "label_arrived")
_MISSING_TIME = np.iinfo(np.int64).min  # numpy's NaT


def build(rows: Sequence[Any]) -> pd.DataFrame:
    """A frame of (id, time, version, features, probabilities, latency_ms, value, arrived) rows.

    Features are the union over the rows, in the order in which they first appear; one that a row
    lacks is missing there. Raises WindowFault when a feature has the name of a column of ours.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    ids, times, versions, features, probabilities, latencies, values, arrived = columns
    data: dict[str, Any] = {
        "id": pd.Series(ids, dtype="str"),
        "time": _times(times),
        "version": pd.Series(versions, dtype="str"),
    }
    for name, column in _features(features).items():
        if name in RESERVED:
            raise WindowFault(
                f"a feature may not be called {name!r}: the telemetry store's own columns are "
                f"{', '.join(RESERVED)}; rename it in the data and the config"
            )
        data[name] = column
    data["proba"] = pd.Series(_probabilities(probabilities), dtype=object)
    data["latency_ms"] = np.array(latencies, dtype=np.float64)
    data["label"] = pd.Series(_many(["null" if v is None else v for v in values]), dtype=object)
    data["label_arrived"] = _times(arrived)
    return pd.DataFrame(data)


def _many(texts: Sequence[str]) -> list[Any]:
    """Many JSON texts at once: one call of the decoder instead of one per row."""
    return list(from_json(f"[{','.join(texts)}]"))


def _times(micros: Sequence[int | None]) -> pd.DatetimeIndex:
    raw = np.array([_MISSING_TIME if t is None else t for t in micros], dtype=np.int64)
    return pd.DatetimeIndex(raw.view("datetime64[us]")).as_unit("ns").tz_localize("UTC")


def _features(texts: Sequence[str]) -> dict[str, list[Any]]:
    records: list[dict[str, Any]] = _many(texts)
    names = dict.fromkeys(name for record in records for name in record)
    columns: dict[str, list[Any]] = {}
    for name in names:
        try:
            column = list(map(itemgetter(name), records))
        except KeyError:
            column = [record.get(name) for record in records]
        # Nothing but missing values says no type: as numbers, every reader can take it.
        columns[name] = column if any(v is not None for v in column) else [np.nan] * len(column)
    return columns


def _probabilities(texts: Sequence[str]) -> list[list[float]]:
    # JSON has no NaN: it was written as null.
    return [[np.nan if p is None else p for p in row] for row in _many(texts)]
