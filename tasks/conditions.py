"""Conditions that people should know of, each told once while it lasts.

Checks and `reconcile` look: no label for longer than `policy.label_silence`; no check for longer
than twice what its schedule says; too little free disk under the runs folder.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring.wording import span
from tasks import events, places
from tasks.steps import step

if TYPE_CHECKING:
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config

log = logging.getLogger(__name__)

_GB = 1e9
_HYSTERESIS = 1.2  # a disk is no longer low with so many times what is asked for


@dataclass(frozen=True, slots=True)
class Condition:
    """What holds now: `key` names the episode, `why` is the sentence; None: it does not hold."""

    event: str
    why: str | None
    key: str = ""
    detail: dict[str, Any] | None = None


@step()
def look(config: Config, now: datetime) -> list[str]:
    """Tell of what holds and was not told yet; end what holds no more. Never fails its flow."""
    fresh: list[str] = []
    try:
        with places.telemetry(config) as store:
            for found in conditions(config, store, now):
                if _told(config, store, found, now):
                    fresh.append(str(found.why))
    except Exception:
        log.exception("%s: the conditions could not be looked at", config.name)
    return fresh


def _told(config: Config, store: TelemetryStore, found: Condition, now: datetime) -> bool:
    from monitoring import notices

    kind = found.event.removeprefix("everfit.")
    if found.why is None:
        notices.end(store.database, config.name, kind, now)
        return False
    body = {"said": found.why, **(found.detail or {})}
    if notices.begin(store.database, config.name, kind, "", now, body):
        log.warning("%s: %s", config.name, found.why)
        told = {"why": found.why, **(found.detail or {}), "at": now.isoformat()}
        name: Any = found.event
        events.emit(config, name, told, key=f"{kind} {now.isoformat()}")
        return True
    return False


def conditions(config: Config, store: TelemetryStore, now: datetime) -> Iterator[Condition]:
    """All three, whether they hold or not. One that cannot be told now is left out."""
    last = store.last_label_arrival(as_of=now)
    silence = config.policy.label_silence
    if last is not None or silence is None:
        yield silent(last, silence, now)
    newest = store.decisions(1)
    if newest:
        checked = datetime.fromisoformat(newest[0]["time"])
        yield late(config.schedule.cron, checked, now)
    yield low(config, last_low=_is_open(config, store))


def silent(last: datetime | None, silence: timedelta | None, now: datetime) -> Condition:
    """Whether no label has come for longer than is allowed."""
    event = "everfit.labels.silent"
    if silence is None or last is None or now - last <= silence:
        return Condition(event, None)
    why = f"no label has come for {span(now - last)}, at most {span(silence)} are allowed"
    return Condition(event, why, detail={"last": last.isoformat()})


def late(cron: str, checked: datetime, now: datetime) -> Condition:
    """Whether two checks in a row were due since the last one, and none has come.

    >>> noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    >>> late("0 * * * *", noon, noon + timedelta(hours=1, minutes=50)).why
    >>> late("0 * * * *", noon, noon + timedelta(hours=2, minutes=1)).why
    'no check since 2024-05-01 12:00 UTC, and two were due since; is `everfit up` running?'
    """
    event = "everfit.watch.late"
    due = _following(cron, checked)
    if now <= due:
        return Condition(event, None)
    why = (
        f"no check since {checked:%Y-%m-%d %H:%M} UTC, and two were due since; is `everfit up` "
        "running?"
    )
    return Condition(event, why, detail={"last": checked.isoformat(), "due": due.isoformat()})


def _following(cron: str, after: datetime) -> datetime:
    """The second time that the schedule names after `after`, which may be that of a check that
    began some seconds late."""
    from prefect._vendor.croniter import croniter

    times = croniter(cron, after.astimezone(UTC))
    first: datetime = times.get_next(datetime)
    second: datetime = times.get_next(datetime)
    return max(second, after + 2 * (second - first))


def low(config: Config, last_low: bool) -> Condition:
    """Whether the disk under the runs folder is nearly full."""
    event = "everfit.disk.low"
    config.folder.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(config.folder)
    asked = max(config.disk.free_mb * 1e6, config.disk.free_share * usage.total)
    if usage.free >= asked * (_HYSTERESIS if last_low else 1.0):
        return Condition(event, None)
    why = (
        f"the disk of {config.folder} has {usage.free / _GB:.1f} GB free "
        f"({usage.free / usage.total:.1%}), {asked / _GB:.1f} GB are asked for: free some, or see "
        "telemetry.keep"
    )
    return Condition(event, why, detail={"free_bytes": usage.free, "total_bytes": usage.total})


def _is_open(config: Config, store: TelemetryStore) -> bool:
    from monitoring import notices

    return notices.is_open(store.database, config.name, "disk.low")
