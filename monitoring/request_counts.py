"""Counts of requests in the telemetry store: added up by minute, read by minute or longer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import func, literal_column, select

from monitoring.errors import RecordFault, WindowFault
from monitoring.records import RequestCount
from monitoring.storage import Database, from_micros, micros
from monitoring.tables import request_counts

_MINUTE = timedelta(minutes=1)
_FIGURES = ("requests", "rows", "client_errors", "server_errors")


def add(database: Database, batch: Iterable[RequestCount]) -> None:
    """Add `batch` to the rows of its minutes, in one transaction.

    A batch that was stored, and whose answer got lost, is counted twice when it is sent again.
    Raises RecordFault for a negative count.
    """
    totals: dict[tuple[int, str, str], list[int]] = {}
    for count in batch:
        figures = [int(getattr(count, name)) for name in _FIGURES]
        if min(figures) < 0:
            raise RecordFault(f"counts are not negative, got {count}: correct them")
        at = micros(count.minute, "the minute of a count")
        key = (at - at % _micros(_MINUTE), count.route, count.version)
        totals[key] = [a + b for a, b in zip(totals.get(key, [0] * 4), figures, strict=True)]
    if not totals:
        return
    rows = [
        dict(zip(("minute", "route", "version", *_FIGURES), (*key, *totals[key]), strict=True))
        for key in sorted(totals)  # one order for all writers, so that none waits in a circle
    ]
    with database.append() as connection:
        connection.execute(database.accumulate(request_counts), rows)


def between(
    database: Database, start: datetime, end: datetime, every: timedelta
) -> tuple[RequestCount, ...]:
    """What `TelemetryStore.counts_between` answers. Raises WindowFault for an odd `every`."""
    if every < _MINUTE or every % _MINUTE:
        raise WindowFault(f"counts are kept by minute, `every` is whole minutes, got {every}")
    table, size = request_counts.c, _micros(every)
    # written out: PostgreSQL takes two parameters in one place for two different expressions
    begin = (table.minute - table.minute % literal_column(str(size))).label("begin")
    statement = (
        select(begin, table.route, table.version, *(func.sum(table[name]) for name in _FIGURES))
        .where(table.minute >= micros(start, "a window's start"))
        .where(table.minute < micros(end, "a window's end"))
        .group_by(begin, table.route, table.version)
        .order_by(begin, table.route, table.version)
    )
    with database.read() as connection:
        found = connection.execute(statement).all()
    return tuple(
        RequestCount(from_micros(int(at)), route, version, *(int(n) for n in figures))
        for at, route, version, *figures in found
    )


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
