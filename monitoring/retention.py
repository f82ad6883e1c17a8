"""Deleting what is old from the telemetry store, in small transactions that let the server write.

A prediction goes with its label, with what contradicted the label and with what a challenger said.
Decisions and the steps of roll-outs stay: they are the record of why a model serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, exists, func, not_, or_, select

from monitoring import migrations
from monitoring.storage import Database, micros
from monitoring.tables import (
    label_conflicts,
    labels,
    predictions,
    request_counts,
    shadow_answers,
)

_BATCH_ROWS = 500
_PAUSE = 0.01  # seconds between two batches


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted, or would be."""

    predictions: int = 0
    labels: int = 0  # of those, and those that never found a prediction
    counts: int = 0  # minutes of counted requests
    waiting: int = 0  # old predictions that were left, since their label may still come


@dataclass(frozen=True, slots=True)
class Limits:
    """Rows before these moments go: predictions with a label, those without one, counts."""

    labelled: datetime
    unlabelled: datetime
    counts: datetime


def purge(
    database: Database,
    limits: Limits,
    *,
    dry_run: bool = False,
    batch_rows: int = _BATCH_ROWS,
    pause: Callable[[float], None] = time.sleep,
) -> Purged:
    """Delete rows before `limits`, `batch_rows` in a transaction; `dry_run` only counts them.

    What is deleted is overwritten in the file (SQLite's `secure_delete`), and the space is used
    again. A purge that is interrupted goes on where it was when it is called again.
    """
    found = _counted(database, limits)
    if dry_run:
        return found
    gone = [0, 0]
    for rows in (_oldest, _lone):
        while ids := rows(database, limits, batch_rows):
            with _deleting(database) as connection:
                for table in (label_conflicts, shadow_answers):
                    connection.execute(delete(table).where(table.c.id.in_(ids)))
                for at, table in enumerate((predictions, labels)):
                    gone[at] += connection.execute(
                        delete(table).where(table.c.id.in_(ids))
                    ).rowcount
            pause(_PAUSE)
    with _deleting(database) as connection:
        old = request_counts.c.minute < micros(limits.counts, "the limit of counts")
        minutes = connection.execute(delete(request_counts).where(old)).rowcount
    database.tidy()
    migrations.forget_copies(database.engine, limits.labelled)
    return Purged(gone[0], gone[1], minutes, found.waiting)


def _deleting(database: Database) -> Any:
    return database.write(overwrite=True)


def _old(limits: Limits) -> Any:
    """The predictions that go, joined to their labels."""
    at = predictions.c.time
    return or_(
        and_(labels.c.id.is_not(None), at < micros(limits.labelled, "the limit")),
        and_(labels.c.id.is_(None), at < micros(limits.unlabelled, "the limit without a label")),
    )


def _joined() -> Any:
    return predictions.outerjoin(labels, labels.c.id == predictions.c.id)


def _alone(limits: Limits) -> Any:
    """Labels without a prediction whose arrival is long past."""
    known = exists().where(predictions.c.id == labels.c.id)
    before = micros(limits.unlabelled, "the limit without a label")
    return and_(labels.c.arrived < before, not_(known))


def _oldest(database: Database, limits: Limits, number: int) -> list[str]:
    # the first condition alone lets the index on time be used
    last = micros(max(limits.labelled, limits.unlabelled), "the limit")
    statement = (
        select(predictions.c.id)
        .select_from(_joined())
        .where(predictions.c.time < last, _old(limits))
        .order_by(predictions.c.time, predictions.c.id)
        .limit(number)
    )
    with database.read() as connection:
        return list(connection.scalars(statement))


def _lone(database: Database, limits: Limits, number: int) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(select(labels.c.id).where(_alone(limits)).limit(number)))


def _counted(database: Database, limits: Limits) -> Purged:
    old = select(func.count(), func.count(labels.c.id)).select_from(_joined())
    waiting = old.where(
        labels.c.id.is_(None),
        predictions.c.time < micros(limits.labelled, "the limit"),
        predictions.c.time >= micros(limits.unlabelled, "the limit without a label"),
    )
    lone = select(func.count()).select_from(labels).where(_alone(limits))
    minutes = (
        select(func.count())
        .select_from(request_counts)
        .where(request_counts.c.minute < micros(limits.counts, "the limit of counts"))
    )
    with database.read() as connection:
        rows, labelled = connection.execute(old.where(_old(limits))).one()
        return Purged(
            predictions=int(rows),
            labels=int(labelled) + int(connection.scalar(lone) or 0),
            counts=int(connection.scalar(minutes) or 0),
            waiting=int(connection.execute(waiting).one()[0]),
        )
