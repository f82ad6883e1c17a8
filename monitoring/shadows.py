"""What a second version says of rows that another has answered, and the pairs of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, select

from monitoring.guards import Pairs
from monitoring.labelled import class_codes
from monitoring.records import Value
from monitoring.storage import Database, from_json, micros, to_json
from monitoring.tables import labels, predictions, shadow_answers

MOST = 20_000  # pairs or requests that are looked at, the newest


@dataclass(frozen=True, slots=True)
class ShadowAnswer:
    """One row's answer that nobody was given."""

    id: str
    time: datetime  # of the row, as its prediction has it
    version: str
    probabilities: tuple[float, ...]


def add(database: Database, batch: Iterable[ShadowAnswer]) -> None:
    """Store `batch`, in one transaction; a row's answer by a version is stored once."""
    rows = [
        {
            "id": answer.id,
            "version": answer.version,
            "time": micros(answer.time, f"the time of shadow {answer.id!r}"),
            "probabilities": to_json(answer.probabilities, f"the shadow of {answer.id!r}"),
        }
        for answer in batch
    ]
    rows.sort(key=lambda row: (str(row["id"]), str(row["version"])))  # as in `record`
    if rows:
        with database.append() as connection:
            connection.execute(database.insert(shadow_answers), rows)


def pairs(
    database: Database,
    champion: str,
    challenger: str,
    since: datetime,
    classes: Sequence[Value],
    *,
    until: datetime,
    limit: int = MOST,
) -> Pairs:
    """Rows of `since` <= time <= `until` that both have answered, the newest `limit`.

    Labels that had not arrived by `until` are not known yet.
    """
    known = and_(
        labels.c.id == predictions.c.id, labels.c.arrived <= micros(until, "the end of a stage")
    )
    both = (champion, challenger)
    statement = (
        select(
            predictions.c.version,
            predictions.c.probabilities,
            shadow_answers.c.probabilities.label("other"),
            labels.c.value,
        )
        .select_from(
            shadow_answers.join(predictions, predictions.c.id == shadow_answers.c.id).join(
                labels, known, isouter=True
            )
        )
        .where(predictions.c.version.in_(both), shadow_answers.c.version.in_(both))
        .where(predictions.c.version != shadow_answers.c.version)
        .where(shadow_answers.c.time >= micros(since, "the beginning of a stage"))
        .where(shadow_answers.c.time <= micros(until, "the end of a stage"))
        .order_by(shadow_answers.c.time.desc(), shadow_answers.c.id)
        .limit(limit)
    )
    with database.read() as connection:
        rows = connection.execute(statement).all()
    kept = [
        (row.version, from_json(row.probabilities), from_json(row.other), row.value) for row in rows
    ]
    count = len(classes)
    kept = [row for row in kept if len(row[1]) == len(row[2]) == count]
    if not kept:
        return Pairs.none(count)
    answered = np.array([row[1] for row in kept], dtype=np.float64)
    other = np.array([row[2] for row in kept], dtype=np.float64)
    by_champion = np.array([row[0] == champion for row in kept])[:, None]
    truths = [None if row[3] is None else from_json(row[3]) for row in kept]
    codes = [-1 if code is None else code for code in class_codes(truths, classes)]
    finite = np.isfinite(answered).all(axis=1) & np.isfinite(other).all(axis=1)
    return Pairs(
        np.where(by_champion, answered, other)[finite],
        np.where(by_champion, other, answered)[finite],
        np.array(codes, dtype=np.int64)[finite],
    )


def latencies(
    database: Database,
    version: str,
    since: datetime | None,
    until: datetime,
    *,
    limit: int = MOST,
) -> NDArray[np.float64]:
    """Milliseconds of each request that `version` answered, of its newest `limit` rows: (n,).

    A request's rows carry one and the same latency, to the last digit, and count once: a slow
    request of a hundred rows is one slow request.
    """
    statement = (
        select(predictions.c.latency_ms)
        .where(predictions.c.version == version)
        .where(predictions.c.time <= micros(until, "the end of a stage"))
        .order_by(predictions.c.time.desc(), predictions.c.id.desc())
        .limit(limit)
    )
    if since is not None:
        statement = statement.where(predictions.c.time >= micros(since, "a stage's beginning"))
    with database.read() as connection:
        found = [row[0] for row in connection.execute(statement)]
    return np.unique(np.array(found, dtype=np.float64))
