"""The steps of roll-outs in the telemetry store: what the guards said, and what followed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select

from monitoring.storage import Database, from_json, micros, to_json
from monitoring.tables import rollout_steps


def add(
    database: Database, model: str, version: str, now: datetime, move: str, body: Mapping[str, Any]
) -> None:
    """Keep one step. A wait that follows a wait takes its place, so that they don't pile up."""
    table = rollout_steps
    mine = (table.c.model == model) & (table.c.version == version)
    row = {
        "time": micros(now, "the time of a step"),
        "move": move,
        "body": to_json(body, f"a step of version {version}"),
    }
    with database.write() as connection:
        last = connection.execute(
            select(table.c.number, table.c.move)
            .where(mine)
            .order_by(table.c.number.desc())
            .limit(1)
        ).first()
        if last is not None and last.move == move == "wait":
            connection.execute(table.update().where(mine, table.c.number == last.number), row)
            return
        number = 0 if last is None else last.number + 1
        connection.execute(
            table.insert(), {"model": model, "version": version, "number": number, **row}
        )


def steps(
    database: Database, model: str, version: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The newest steps, oldest first: what `monitoring.rollout.record` wrote, with `version`."""
    table = rollout_steps
    statement = (
        select(table.c.version, table.c.body)
        .where(table.c.model == model)
        .order_by(table.c.time.desc(), table.c.version.desc(), table.c.number.desc())
        .limit(limit)
    )
    if version is not None:
        statement = statement.where(table.c.version == version)
    with database.read() as connection:
        rows = connection.execute(statement).all()
    return [{"version": row.version, **from_json(row.body)} for row in reversed(rows)]
