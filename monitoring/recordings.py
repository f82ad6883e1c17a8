"""Since when which share of the answered rows is stored, and without which columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from monitoring.errors import StoreFault
from monitoring.recording import Recording, place
from monitoring.storage import Database, from_json, from_micros, micros, to_json
from monitoring.tables import predictions, recordings

if TYPE_CHECKING:
    import pandas as pd

_BEGINNING = 0  # microseconds since 1970


@dataclass(frozen=True, slots=True)
class Kept:
    """What was stored of an answered row from `since` on."""

    since: datetime
    share: float
    never: tuple[str, ...]
    fingerprint: str  # of the key that ids are hashed with; empty without one


def save(database: Database, recording: Recording, since: datetime) -> bool:
    """Note that `recording` holds from `since` on; False when what holds already is the same.

    The first note of a store without predictions holds from the beginning, so that replayed rows,
    whose time is long past, are known by it. In a store that has some, all was kept before.
    """
    body = _body(recording)
    with database.write() as connection:
        newest = select(recordings.c.body).order_by(recordings.c.since.desc()).limit(1)
        last = connection.scalar(newest)
        if last == body:
            return False
        at = micros(since, "the moment of a change")
        if last is None:
            known = connection.scalar(select(exists().select_from(predictions)))
            first = _body(Recording()) if known else body
            connection.execute(recordings.insert(), {"since": _BEGINNING, "body": first})
            if first == body:
                return True
        row = {"since": at, "body": body}
        connection.execute(recordings.delete().where(recordings.c.since >= at))
        connection.execute(recordings.insert(), row)
    return True


def _body(recording: Recording) -> str:
    return to_json(
        {
            "share": recording.share,
            "never": sorted(recording.never),
            "fingerprint": recording.fingerprint,
        }
    )


def between(database: Database, start: datetime | None, end: datetime | None) -> tuple[Kept, ...]:
    """Every note that held at any moment of `start` <= time < `end`, oldest first."""
    statement = select(recordings.c.since, recordings.c.body).order_by(recordings.c.since)
    if end is not None:
        statement = statement.where(recordings.c.since < micros(end, "the end"))
    try:
        with database.read() as connection:
            rows = connection.execute(statement).all()
    except StoreFault as fault:
        if any(said in str(fault) for said in ("no such table", "does not exist")):
            return ()  # an older store that is now read-only: all was kept
        raise
    if start is not None:
        at = micros(start, "the start")
        earlier = [row for row in rows if row.since <= at]
        rows = earlier[-1:] + [row for row in rows if row.since > at]
    return tuple(
        Kept(
            from_micros(row.since),
            float(said["share"]),
            tuple(said["never"]),
            str(said["fingerprint"]),
        )
        for row in rows
        for said in [from_json(row.body)]
    )


def not_stored(kept: Iterable[Kept]) -> tuple[str, ...]:
    """Columns that were not stored for all or a part of the time."""
    return tuple(sorted({name for one in kept for name in one.never}))


def evened(frame: pd.DataFrame, kept: Sequence[Kept]) -> pd.DataFrame:
    """Rows of a time in which the share changed, thinned to the smallest of the shares.

    Otherwise the hours with the larger share would speak for the others. A smaller sample is a part
    of a larger one, so what stays is a sample of the whole time.
    """
    shares = {one.share for one in kept}
    if len(shares) < 2 or not len(frame):
        return frame
    least = min(shares)
    return frame[[place(id_) < least for id_ in frame["id"]]]
