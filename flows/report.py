"""report: gather -> write. The digest of a week: checks, decisions, retrains, labels, loss."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow

from tasks import digest
from tasks.entry import Model
from tasks.records import now_utc, utc


@flow(name="report", flow_run_name="report-{config.name}")
async def report(config: Model, now: datetime | None = None, days: int = 7) -> Path:
    """Write the digest of the `days` before `now` as a page, and show it in short on Prefect's."""
    found = digest.gather(config, utc(now or now_utc()), days)
    return digest.write(config, found)
