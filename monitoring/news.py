"""Whether anything has come since the last decision: three look-ups in indexes, no row is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from monitoring.storage import Database, from_micros
from monitoring.tables import decisions, labels, predictions, request_counts

LATE = timedelta(minutes=15)  # rows that were spooled reach the store after the time that they bear


@dataclass(frozen=True, slots=True)
class News:
    """The last decision, and the newest of what a check looks at; None where there is nothing."""

    decided: datetime | None
    action: str
    newest: datetime | None  # answered row, label or counted request

    def since(self, now: datetime, quiet: timedelta) -> str:
        """Why a check at `now` might say something new; '' when it would say the same again.

        Time alone changes what rules on age and on silence say: after `quiet` without a check there
        is a reason whatever has come.

        >>> from datetime import UTC
        >>> noon = datetime(2013, 2, 1, 12, tzinfo=UTC)
        >>> idle = News(noon, "keep", noon - timedelta(hours=3))
        >>> idle.since(noon + timedelta(hours=1), timedelta(days=1))
        ''
        >>> idle.since(noon + timedelta(days=2), timedelta(days=1))
        'the last check is 2 days, 0:00:00 old'
        """
        if self.decided is None:
            return "it was never checked"
        if self.action != "keep":
            return f"the last check said {self.action}"
        if now - self.decided >= quiet:
            return f"the last check is {now - self.decided} old"
        if self.newest is not None and self.newest >= self.decided - LATE:
            return f"something came at {self.newest}"
        return ""


def news(database: Database) -> News:
    """What the store of one model says of itself. Raises StoreFault."""
    last = select(decisions.c.time, decisions.c.action).order_by(decisions.c.time.desc()).limit(1)
    with database.read() as connection:
        decided = connection.execute(last).first()
        newest = [
            connection.scalar(select(func.max(column)))
            for column in (predictions.c.time, labels.c.arrived, request_counts.c.minute)
        ]
    known = [value for value in newest if value is not None]
    return News(
        None if decided is None else from_micros(decided.time),
        "" if decided is None else str(decided.action),
        from_micros(max(known)) if known else None,
    )
