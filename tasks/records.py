"""What passes between tasks: ids, paths and small figures, never frames or models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The labelled rows of one retrain, frozen on disk so that a resumed run sees the same."""

    folder: Path
    rows: int  # for training
    holdout_rows: int  # newest rows that neither model has seen
    digest: str

    @property
    def training(self) -> Path:
        return self.folder / "training.parquet"

    @property
    def holdout(self) -> Path:
        return self.folder / "holdout.parquet"

    @property
    def served(self) -> Path:
        """Rows without labels that a model may adapt to; there only where the config asks."""
        return self.folder / "served.parquet"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found, and what it cost."""

    params: dict[str, float | int | str | bool]
    loss: float
    trials: int
    failed: int
    seconds: float  # fitting time of all trials
    stopped: str  # why the search ended
    warm: bool = False  # it started from what earlier searches learnt
    tuner: str = "controller"
    wall_seconds: float = 0.0  # of the whole search
    chosen: str = ""  # why these parameters and no others
    early: int = 0  # trials that were stopped before their whole budget
    screened: int = 0  # proposals that could not have kept a limit, passed over before a trial
    front: tuple[dict[str, Any], ...] = ()  # of several metrics: number, params, metrics of each


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one retrain ended. The same window always gives the same outcome."""

    window_id: str
    version: str | None
    passed: bool  # the gate let it through, and it serves or is on its way
    reason: str
    trials: int
    seconds: float  # spent on fitting: trials and the final model
    finished: str  # ISO time by the caller's clock
    warm: bool = False  # the search started from what earlier ones learnt
    stage: str = ""  # of its roll-out, where that had one when the retrain ended


def now_utc() -> datetime:
    return datetime.now(UTC)


def utc(moment: datetime) -> datetime:
    """A moment with a timezone; one without is refused rather than guessed at."""
    if moment.tzinfo is None:
        raise ValueError(f"a time needs a timezone, got {moment.isoformat()}: add +00:00 for UTC")
    return moment
