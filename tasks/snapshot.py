"""Freeze the labelled rows of one retrain on disk."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import DataFault
from tasks import lineage, places, rows
from tasks.records import Snapshot

if TYPE_CHECKING:
    from tasks.config import Config

MINIMUM_TRAINING_ROWS = 50


@task(cache_policy=NO_CACHE)
def snapshot(config: Config, window_id: str, now: datetime) -> Snapshot:
    """Write training and holdout rows once; a resumed retrain reads the ones written first."""
    from models.data import digest

    folder = places.retrain_folder(config, window_id)
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "snapshot.json"
    if note.exists():  # written last, so the tables beside it are whole
        known = json.loads(note.read_text(encoding="utf-8"))
        return Snapshot(folder, known["rows"], known["holdout_rows"], known["digest"])
    frame = rows.labelled(config, now)
    champion = places.registry(config).champion()
    unseen_after = lineage.read(config, champion).trained_through if champion else None
    training, holdout = rows.hold_back(
        frame, config.gate, timed=config.data.time is not None, unseen_after=unseen_after
    )
    if len(training) < MINIMUM_TRAINING_ROWS:
        raise DataFault(
            f"a retrain needs at least {MINIMUM_TRAINING_ROWS} labelled rows besides the gate's, "
            f"got {len(training)}: bring more labels, or lower gate.rows"
        )
    result = Snapshot(folder, len(training), len(holdout), digest(training))
    training.to_parquet(result.training)
    holdout.to_parquet(result.holdout)
    temporary = note.with_suffix(".part")
    temporary.write_text(
        json.dumps({"rows": result.rows, "holdout_rows": len(holdout), "digest": result.digest}),
        encoding="utf-8",
    )
    os.replace(temporary, note)
    return result


def discard(config: Config, window_id: str) -> None:
    """Drop the tables of a retrain that has ended; their digest stays with the version."""
    folder = places.retrain_folder(config, window_id)
    for table in ("snapshot.json", "training.parquet", "holdout.parquet"):
        (folder / table).unlink(missing_ok=True)
