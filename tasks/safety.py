"""The weekly net under events and checks: what a retrain that names no window is about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring.records import Action
from tasks import places

if TYPE_CHECKING:
    from tasks.config import Config

WEEKLY = "weekly"  # the window of a retrain that the schedule starts
_WEEK = timedelta(days=7)
_LOOKED_AT = 1_000  # newest decisions


def window(config: Config, window_id: str, now: datetime, why: str) -> tuple[str | None, str]:
    """The window to retrain, and why; None where nothing is to be made good.

    A window that is named stays. Else it is that of the week's newest decision to retrain, if no
    run ever took it; and if nobody has decided anything for a week, the loop is blind: it retrains
    on what labels there are, once in a calendar week, and the gate judges.
    """
    if window_id != WEEKLY:
        return window_id, why
    with places.telemetry(config) as store:
        known = store.decisions(_LOOKED_AT)
    recent = [d for d in known if now - datetime.fromisoformat(d["time"]) <= _WEEK]
    if not recent:
        year, week, _ = now.isocalendar()
        return f"{config.name}-weekly-{year}-{week:02d}", "no check has decided for a week"
    asked = next((d for d in recent if d["action"] == Action.RETRAIN.value), None)
    with places.claims(config) as book:
        taken = asked is not None and book.get(asked["window_id"], now=now) is not None
    if asked is not None and not taken:
        return asked["window_id"], "a check asked for it, and it was never begun"
    return None, f"nothing to make good: the last check, at {recent[0]['time']}, was heard"
