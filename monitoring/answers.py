"""What was answered and what turned out true, without the inputs: a year in about a second."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from monitoring.storage import from_json, micros
from monitoring.tables import labels, predictions
from monitoring.telemetry import TelemetryStore


class Answers(NamedTuple):
    """Labelled rows in order of time; `times` in microseconds since 1970, UTC."""

    ids: tuple[str, ...]
    times: NDArray[np.int64]
    versions: NDArray[np.str_]
    probabilities: list[list[float | None]]
    labels: list[float | int | str | bool | None]


def labelled(store: TelemetryStore, start: datetime, end: datetime) -> Answers:
    """Rows with `start` <= time < `end` whose label is known by now."""
    statement = (
        select(
            predictions.c.id,
            predictions.c.time,
            predictions.c.version,
            predictions.c.probabilities,
            labels.c.value,
        )
        .join_from(predictions, labels, labels.c.id == predictions.c.id)
        .where(predictions.c.time >= micros(start, "the start"))
        .where(predictions.c.time < micros(end, "the end"))
        .order_by(predictions.c.time, predictions.c.id)
    )
    with store.database.read() as connection:
        rows = connection.execute(statement).all()
    ids, times, versions, answers, values = zip(*rows, strict=True) if rows else ((),) * 5
    return Answers(
        tuple(ids),
        np.array(times, dtype=np.int64),
        np.array(versions, dtype=np.str_),
        list(from_json(f"[{','.join(answers)}]")),
        list(from_json(f"[{','.join(values)}]")),
    )
