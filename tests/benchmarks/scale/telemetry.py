"""Size of predictions with labels in a telemetry store, and the time of their purge."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 5_000
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(url: str, rows: int, columns: int) -> dict[str, Any]:
    """Write `rows` predictions of 100 days and their labels, purge the older half."""
    from monitoring.records import Label, Prediction
    from monitoring.retention import Limits, purge
    from monitoring.telemetry import TelemetryStore

    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(columns)]
    step = timedelta(days=100) / rows
    with TelemetryStore(url) as store:
        empty = _size_mb(store, url)
        cpu, began = time.process_time(), time.monotonic()
        for begin in range(0, rows, BATCH):
            part = range(begin, min(begin + BATCH, rows))
            values = rng.normal(size=(len(part), columns)).round(4).tolist()
            chance = rng.random(len(part)).tolist()
            ids = [f"{i:032x}" for i in part]
            at = [_NOW - step * (rows - i) for i in part]
            store.record(
                Prediction(k, t, "1", dict(zip(names, v, strict=True)), [1 - p, p], 1.0)
                for k, t, v, p in zip(ids, at, values, chance, strict=True)
            )
            store.label(
                Label(k, int(p > 0.5), t + timedelta(days=1))
                for k, p, t in zip(ids, chance, at, strict=True)
            )
        written, written_cpu = time.monotonic() - began, time.process_time() - cpu
        full = _size_mb(store, url)
        middle = _NOW - timedelta(days=50)
        cpu, began = time.process_time(), time.monotonic()
        gone = purge(store.database, Limits(middle, middle, middle))
        purged, purged_cpu = time.monotonic() - began, time.process_time() - cpu
        million = 1e6 / rows
        return {
            "store": url.partition(":")[0],
            "rows": rows,
            "columns": columns,
            "MB per million": round((full - empty) * million, 1),
            "written rows/s": round(rows / written),
            "write CPU s per million": round(written_cpu * million, 1),
            "purged": gone.predictions,
            "purge s per million": round(purged * 1e6 / gone.predictions, 1),
            "purge CPU s per million": round(purged_cpu * 1e6 / gone.predictions, 1),
            "MB after": round(_size_mb(store, url), 1),
        }


def _size_mb(store: Any, url: str) -> float:
    if url.startswith("sqlite"):
        store.database.tidy()
        return Path(url.partition("///")[2]).stat().st_size / 1e6
    from sqlalchemy import text

    with store.database.read() as connection:
        statement = text("SELECT pg_database_size(current_database())")
        return float(connection.scalar(statement)) / 1e6
