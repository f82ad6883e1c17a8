"""How long predictions are kept: what the config asks for, and what the loop still needs."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring.retention import Limits, Purged
from tasks import places
from tasks.config import ConfigFault
from tasks.steps import step

if TYPE_CHECKING:
    from tasks.config import Config

log = logging.getLogger(__name__)

_USUAL = timedelta(days=70)  # of counted requests, which say what is usual


def purge(
    config: Config,
    now: datetime,
    before: datetime | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> tuple[Purged, Limits]:
    """Delete predictions before `before`, or older than `telemetry.keep`, with their labels.

    Without `force` nothing is deleted that a check still looks at, nor a prediction whose label may
    still come. Deleted rows teach no model any more. Returns what went, and the limits that held.
    Raises ConfigFault when nothing says what is old.
    """
    from monitoring.retention import purge as purged

    found = limits(config, now, before, force=force)
    with places.telemetry(config) as store:
        return purged(store.database, found, dry_run=dry_run), found


def limits(
    config: Config, now: datetime, before: datetime | None = None, *, force: bool = False
) -> Limits:
    """The moments before which rows may go. A label may come until twice its usual delay."""
    keep = config.telemetry.keep
    if before is None:
        if keep is None:
            raise ConfigFault(
                "a purge needs to know what is old: set telemetry.keep in the config, for instance "
                "to 400d, or give --before"
            )
        before = now - keep
    if before > now:
        raise ConfigFault(f"what is purged lies in the past, got {before}: give an earlier time")
    if force:
        return Limits(before, before, before)
    delay, monitor = config.data.label_delay, config.monitor
    looked_at = max(
        monitor.window,
        *monitor.longer_windows,
        monitor.performance_window + delay,
        (config.policy.probation or timedelta(0)) + delay,
    )
    labelled = min(before, now - looked_at)
    return Limits(labelled, min(labelled, now - 2 * delay), min(before, now - _USUAL))


@step()
def retain(config: Config, now: datetime) -> Purged | None:
    """Purge what is older than `telemetry.keep`; None without one. A fault here ends no check."""
    if config.telemetry.keep is None:
        return None
    try:
        gone, _ = purge(config, now)
    except Exception:
        log.exception("%s: old predictions were not purged", config.name)
        return None
    if gone.predictions:
        log.info("%s: %d predictions were purged for their age", config.name, gone.predictions)
    return gone
