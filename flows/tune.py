"""tune: rows -> search. The search of a retrain by itself: nothing is proven or registered."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow

from tasks import snapshot, tune
from tasks.config import Config
from tasks.records import Tuned, utc
from tasks.rows import now_utc


@flow(name="tune", flow_run_name="tune-{folder.name}", validate_parameters=False)
async def tune_only(config: Config, folder: Path, now: datetime | None = None) -> Tuned:
    """Search on all labelled rows known at `now`; `folder` gets the journal and the picture.

    A folder that holds a search already is gone on with, on the rows it began with.
    """
    rows = snapshot.everything(config, folder, utc(now or now_utc()))
    return await tune.tune(config, rows)
