"""Queries over predictions and their labels that several readers of the store share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select

from monitoring.storage import micros
from monitoring.tables import labels, predictions

_CHUNK = 500  # ids per query; older SQLite takes 999 parameters at most


def by_id(connection: Connection, statement: Any, column: Any, ids: Iterable[str]) -> Iterator[Any]:
    """`statement` over the rows whose `column` is among `ids`."""
    wanted = sorted(set(ids))
    for at in range(0, len(wanted), _CHUNK):
        yield from connection.execute(statement.where(column.in_(wanted[at : at + _CHUNK]))).all()


def joined(as_of: datetime | None) -> Any:
    """Each prediction beside its label, or beside nothing when that arrived after `as_of`."""
    on = labels.c.id == predictions.c.id
    if as_of is not None:
        on = and_(on, labels.c.arrived <= micros(as_of, "`as_of`"))
    return predictions.outerjoin(labels, on)


def selected(as_of: datetime | None) -> Any:
    """What `monitoring.frames.build` reads."""
    return select(*predictions.c, labels.c.value, labels.c.arrived).select_from(joined(as_of))


def between(
    statement: Any,
    start: datetime | None,
    end: datetime | None,
    version: str | None,
    after: datetime | None = None,
) -> Any:
    """`statement` over `start` <= time < `end` and `after` < time; None leaves a side open."""
    if start is not None:
        statement = statement.where(predictions.c.time >= micros(start, "a window's start"))
    if after is not None:
        statement = statement.where(predictions.c.time > micros(after, "`after`"))
    if end is not None:
        statement = statement.where(predictions.c.time < micros(end, "a window's end"))
    if version is not None:
        statement = statement.where(predictions.c.version == version)
    return statement
