"""Finding one decision or one prediction in a store, for whoever asks about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from monitoring.errors import WindowFault
from monitoring.queries import joined
from monitoring.storage import from_json, from_micros, micros
from monitoring.tables import decisions, labels, predictions
from monitoring.telemetry import TelemetryStore

_SHOWN = 5


def window_id(store: TelemetryStore, part: str | None = None) -> str:
    """The window whose id is, begins with or contains `part`; the last decided one without.

    An ISO date or time is first taken as that of the decision, since a day stands in the ids of two
    windows: where one ends and the next begins. Raises WindowFault when there is none, or more
    than one.
    """
    newest = select(decisions.c.window_id).order_by(
        decisions.c.time.desc(), decisions.c.window_id.desc()
    )
    ids, decided = decisions.c.window_id, _day_or_minute(part)
    ways = (
        []
        if part is None
        else [
            newest.where(ids == part),
            *([newest.where(decisions.c.time.between(*decided))] if decided else []),
            newest.where(ids.startswith(part, autoescape=True)),
            newest.where(ids.contains(part, autoescape=True)),
        ]
    )
    with store.database.read() as connection:
        for way in ways:
            found = list(connection.scalars(way.limit(_SHOWN + 1)))
            if len(found) == 1:
                return str(found[0])
            if found:
                more = " and more" if len(found) > _SHOWN else ""
                raise WindowFault(
                    f"a window is named by so much of its id that no other has it, got {part!r}, "
                    f"which {', '.join(found[:_SHOWN])}{more} have: write more of it, or the "
                    "minute of its check, such as 2026-01-31T06:00"
                )
        last = list(connection.scalars(newest.limit(_SHOWN)))
    if part is None and last:
        return str(last[0])
    if not last:
        raise WindowFault("no window has been decided yet: check one with `everfit watch`")
    raise WindowFault(
        f"no decided window has {part!r} in its id: choose one, the last are {', '.join(last)}"
    )


def _day_or_minute(part: str | None) -> tuple[int, int] | None:
    """First and last microsecond of the day or the minute that `part` names; UTC without a zone."""
    try:
        start = datetime.fromisoformat(part or "")
    except ValueError:
        return None
    start = start.replace(tzinfo=UTC) if start.tzinfo is None else start
    length = timedelta(days=1) if len(part or "") <= len("2026-01-31") else timedelta(minutes=1)
    return micros(start), micros(start + length) - 1


def prediction(store: TelemetryStore, id: str) -> dict[str, Any]:
    """What one row was answered: id, time, version, features, probabilities, label, latency_ms.

    Raises WindowFault when the store has no such prediction.
    """
    statement = (
        select(predictions, labels.c.value, labels.c.arrived)
        .select_from(joined(None))
        .where(predictions.c.id == id)
    )
    with store.database.read() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        raise WindowFault(
            f"the store has no prediction {id!r}: take an id from an answer of the server"
        )
    return {
        "id": row.id,
        "time": from_micros(row.time),
        "version": row.version,
        "features": from_json(row.features),
        "probabilities": from_json(row.probabilities),
        "latency_ms": row.latency_ms,
        "label": None if row.value is None else from_json(row.value),
        "label_arrived": None if row.arrived is None else from_micros(row.arrived),
    }
