"""A champion that somebody chose past everfit: noticed, recorded once, and lived with."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks import events, hands, places
from tasks.steps import step

if TYPE_CHECKING:
    from models.registry_audit import Moved
    from tasks.config import Config

log = logging.getLogger(__name__)

KIND, LOST = "alias moved", "alias lost"  # of the notices


@step()
def audit(config: Config, now: datetime) -> Moved | None:
    """Record a move of the alias past everfit: as tags, in telemetry, and as an event, once.

    An alias that is gone is told once, until there is one again; the old version stays served.
    """
    from monitoring import notices

    seen = hands.read(config.folder / "serving")
    registry = places.registry(config)
    moved = registry.hand_moved()
    if moved is not None:
        noted = seen.at if seen is not None and seen.version == moved.version else None
        moved = registry.audit(now, noted)
    with places.telemetry(config) as store:
        if moved is None or moved.version is not None:
            notices.end(store.database, config.name, LOST, now)
        if moved is None:
            return None
        body = {**_plain(moved), "server": seen.said if seen is not None else ""}
        at = datetime.fromisoformat(moved.at)
        if moved.version is None:
            fresh = notices.begin(store.database, config.name, LOST, str(moved.before), now, body)
        else:
            key = f"{moved.before or 'none'} -> {moved.version} {moved.at}"
            fresh = notices.add(store.database, config.name, KIND, key, at, body)
    if fresh:
        log.warning("%s: %s", config.name, moved)
        told = {"version": moved.version, "before": moved.before, "why": str(moved), "at": moved.at}
        told |= {"server": body["server"]}
        events.emit(config, "everfit.alias.moved", told, key=f"{moved.before} {moved.version} {at}")
    return moved


def _plain(moved: Moved) -> dict[str, Any]:
    from dataclasses import asdict

    return dict(json.loads(json.dumps({**asdict(moved), "said": str(moved)})))


def history(config: Config, limit: int = 20) -> list[dict[str, Any]]:
    """What was done to the alias past everfit, oldest first."""
    from monitoring import notices

    with places.telemetry(config) as store:
        return notices.newest(store.database, config.name, (KIND, LOST), limit)
