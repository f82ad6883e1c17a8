"""What people were told of besides decisions: conditions that last, each told once, and hands.

A condition such as 'no label for a week' is an episode: it begins once, however many checks see
it, and may be told again only after it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from monitoring.storage import Database, from_json, from_micros, micros, to_json
from monitoring.tables import notices


def begin(
    database: Database, model: str, kind: str, key: str, now: datetime, body: Mapping[str, Any]
) -> bool:
    """Open an episode of `kind`; False, and nothing changed, while one is open.

    One that is open under another `key` is ended first: it is another episode.
    """
    with database.write() as connection:
        found = connection.execute(
            select(notices.c.key).where(_open(model, kind)).order_by(notices.c.began.desc())
        ).first()
        if found is not None and found.key == key:
            return False
        at = micros(now, "the time of a notice")
        connection.execute(update(notices).where(_open(model, kind)).values(ended=at))
        row = {"model": model, "kind": kind, "key": key, "began": at, "ended": None}
        fresh = connection.execute(
            database.insert(notices), {**row, "body": to_json(body, f"notice {kind}")}
        )
        return bool(fresh.rowcount)


def end(database: Database, model: str, kind: str, now: datetime) -> bool:
    """Close what is open of `kind`; whether there was something."""
    with database.read() as connection:  # mostly there is nothing: no writer is kept waiting
        if connection.execute(select(notices.c.key).where(_open(model, kind))).first() is None:
            return False
    at = micros(now, "the time of a notice")
    with database.write() as connection:
        done = connection.execute(update(notices).where(_open(model, kind)).values(ended=at))
    return bool(done.rowcount)


def add(
    database: Database, model: str, kind: str, key: str, at: datetime, body: Mapping[str, Any]
) -> bool:
    """Keep something that happened at one moment; False if it is kept already."""
    when = micros(at, "the time of a notice")
    row = {"model": model, "kind": kind, "key": key, "began": when, "ended": when}
    with database.write() as connection:
        done = connection.execute(
            database.insert(notices), {**row, "body": to_json(body, f"notice {kind}")}
        )
    return bool(done.rowcount)


def known(database: Database, model: str, kind: str, key: str) -> bool:
    """Whether something is kept under this key, whenever it was."""
    statement = select(notices.c.began).where(
        notices.c.model == model, notices.c.kind == kind, notices.c.key == key
    )
    with database.read() as connection:
        return connection.execute(statement.limit(1)).first() is not None


def is_open(database: Database, model: str, kind: str) -> bool:
    """Whether an episode of `kind` lasts."""
    with database.read() as connection:
        return (
            connection.execute(select(notices.c.key).where(_open(model, kind))).first() is not None
        )


def newest(
    database: Database, model: str, kinds: Sequence[str] = (), limit: int = 50
) -> list[dict[str, Any]]:
    """The newest notices, oldest first: kind, key, began, ended (None: it lasts), and the body."""
    statement = select(notices).where(notices.c.model == model)
    if kinds:
        statement = statement.where(notices.c.kind.in_(kinds))
    with database.read() as connection:
        rows = connection.execute(
            statement.order_by(notices.c.began.desc(), notices.c.kind, notices.c.key).limit(limit)
        ).all()
    return [
        {
            **from_json(row.body),
            "kind": row.kind,
            "key": row.key,
            "began": from_micros(row.began),
            "ended": None if row.ended is None else from_micros(row.ended),
        }
        for row in reversed(rows)
    ]


def _open(model: str, kind: str) -> Any:
    return (notices.c.model == model) & (notices.c.kind == kind) & notices.c.ended.is_(None)
