"""Freeze the labelled rows of one retrain on disk, if there are enough for its gate."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import DataFault
from tasks import events, lineage, places, rows
from tasks.records import Outcome, Snapshot

if TYPE_CHECKING:
    import pandas as pd

    from tasks.config import Config

MINIMUM_TRAINING_ROWS = 50
NOTE = "snapshot.json"  # written last, so the tables beside it are whole


@task(cache_policy=NO_CACHE)
def snapshot(config: Config, window_id: str, now: datetime) -> Snapshot:
    """Write training and holdout rows once; a resumed retrain reads the ones written first.

    Raises DataFault where there are too few to learn from, or for the first champion's gate: then
    nothing is written, and the next try reads what has come.
    """
    folder = places.retrain_folder(config, window_id)
    if (known := _known(folder)) is not None:
        return known
    frame = rows.labelled(config, now)
    champion = places.registry(config).champion()
    unseen_after = lineage.read(config, champion).trained_through if champion else None
    training, holdout = rows.hold_back(
        frame, config.gate, timed=config.data.time is not None, unseen_after=unseen_after
    )
    if champion is None and (fault := _gate_fault(config, len(holdout), len(frame))):
        raise DataFault(fault)
    return _frozen(folder, training, holdout, _served(config, now))


@task(cache_policy=NO_CACHE)
def too_few(config: Config, window_id: str, taken: Snapshot, now: datetime) -> Outcome | None:
    """The refusal of a challenger that no search need make: its gate could not compare it."""
    why = _gate_fault(config, taken.holdout_rows, taken.rows + taken.holdout_rows)
    if not why:
        return None
    champion = places.registry(config).champion()
    told = {"version": None, "champion": champion.version if champion else None, "why": why}
    events.emit(config, "everfit.refused", {**told, "window_id": window_id}, key=window_id)
    return Outcome(window_id, None, False, why, 0, 0.0, now.isoformat())


def _gate_fault(config: Config, held: int, known: int) -> str:
    """Why the gate would refuse whatever it is given; '' if it can compare."""
    least = config.gate.minimum_rows
    if held >= least:
        return ""
    lower = f"lower it to {held:,} or less" if held > 1 else "lower it"
    return (
        f"gate.minimum_rows: the gate compares on {least:,} labelled rows or more that neither "
        f"model has learnt, got {held:,} of {known:,} (at most a fifth is held back): bring or "
        f"wait for more labelled rows, or {lower}"
    )


@task(cache_policy=NO_CACHE)
def everything(config: Config, folder: Path, now: datetime) -> Snapshot:
    """All labelled rows for training, none for a gate: for a search by itself."""
    if (known := _known(folder)) is not None:
        return known
    frame = rows.labelled(config, now)
    return _frozen(folder, frame, frame.iloc[:0])


def _served(config: Config, now: datetime) -> pd.DataFrame | None:
    """The newest rows without labels, where trials may adapt to them and there are enough."""
    if not config.train.adapt:
        return None
    found = rows.unlabelled(config, now)
    return found if len(found) >= MINIMUM_TRAINING_ROWS else None


def _known(folder: Path) -> Snapshot | None:
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / NOTE
    if not note.exists():
        return None
    known = json.loads(note.read_text(encoding="utf-8"))
    return Snapshot(folder, known["rows"], known["holdout_rows"], known["digest"])


def _frozen(
    folder: Path,
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    served: pd.DataFrame | None = None,
) -> Snapshot:
    """Write the tables, and last the note that says they are whole."""
    from models.data import digest

    if len(training) < MINIMUM_TRAINING_ROWS:
        raise DataFault(
            f"a retrain needs at least {MINIMUM_TRAINING_ROWS} labelled rows besides the gate's, "
            f"got {len(training)}: bring more labels, or lower gate.rows"
        )
    result = Snapshot(folder, len(training), len(holdout), digest(training))
    training.to_parquet(result.training)
    holdout.to_parquet(result.holdout)
    if served is not None:
        served.to_parquet(result.served)
    note = folder / NOTE
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
    for table in (NOTE, "training.parquet", "holdout.parquet", "served.parquet"):
        (folder / table).unlink(missing_ok=True)
