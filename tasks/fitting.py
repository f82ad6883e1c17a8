"""One trial: the rows that it fits on and is scored on, and the fit. Here, or on another node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pandas as pd

from models.records import Params, Trial
from models.schema import Schema
from tasks import places
from tasks.records import Snapshot
from tasks.rows import TIME

if TYPE_CHECKING:
    from models.search.fidelity import Judge
    from models.training import Split
    from tasks.config import Config

_CAREFUL = 0.2  # seconds of single rows, where the goal asks for what answering takes
_prepared: dict[Job, Split] = {}  # encoded once for all trials of a search in this process
_preparing = Lock()


@dataclass(frozen=True, slots=True)
class Job:
    """What all trials of a search have in common, small enough to be sent as JSON."""

    training: Path
    digest: str  # of its rows
    schema: Schema
    objective: str
    trainer: str | None
    seed: int
    seconds: float  # that a trial may take when nothing else is said
    trial_rows: int
    validation: float
    careful: bool  # measure what answering takes, in the form that is served

    @classmethod
    def of(cls, config: Config, snapshot: Snapshot) -> Job:
        train = config.train
        return cls(
            training=snapshot.training,
            digest=snapshot.digest,
            schema=places.schema(config),
            objective=train.objective,
            trainer=train.trainer,
            seed=train.seed,
            seconds=train.seconds,
            trial_rows=train.trial_rows,
            validation=train.validation,
            careful=not train.goal.plain,
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "training": str(self.training), "schema": self.schema.to_json()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Job:
        known = {"training": Path(row["training"]), "schema": Schema.from_json(row["schema"])}
        return cls(**{**row, **known})


def fit(
    job: Job,
    params: Params,
    number: int,
    seconds: float | None = None,
    judge: Judge | None = None,
) -> Trial:
    """Fit one configuration and score it on the newest training rows. A fault is a failed trial.

    With a `judge` it is stopped once it cannot win any more.
    """
    from models.training import evaluate_trial

    known = _prepared.get(job)
    train, valid = (pd.DataFrame(),) * 2 if known else split(job)
    return evaluate_trial(
        train,
        valid,
        job.schema,
        params,
        number=number,
        seed=job.seed + number,
        objective=job.objective,
        trainer=job.trainer,
        seconds=job.seconds if seconds is None else seconds,
        split=known,
        judge=judge,
        **({"footprint_seconds": _CAREFUL, "served": True} if job.careful else {}),
    )


@contextmanager
def encoded(job: Job) -> Iterator[None]:
    """Encode the split once for all trials that run in this process."""
    prepare(job)
    try:
        yield
    finally:
        _prepared.pop(job, None)


def prepare(job: Job, *, alone: bool = False) -> None:
    """Encode the split, unless that was done; `alone` forgets those of other searches."""
    from models.training import prepare as encode

    with _preparing:
        if alone:
            for other in [known for known in _prepared if known != job]:
                del _prepared[other]
        if job not in _prepared:
            _prepared[job] = encode(*split(job), job.schema)


def split(job: Job) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to fit on, and the newest share of all rows to score on; a sample of each.

    The scored rows come from the whole of that share: the very newest alone are a few days, and a
    configuration that suits a few days is not what is looked for.
    """
    frame = pd.read_parquet(job.training)
    if not job.schema.time:  # no order in time: any rows will do
        frame = frame.sample(frac=1.0, random_state=job.seed)
    cut = len(frame) - max(int(len(frame) * job.validation), 1)
    earlier, newest = frame.iloc[:cut], frame.iloc[cut:]
    parts = ((earlier, job.trial_rows), (newest, max(job.trial_rows // 2, 1)))
    earlier, newest = (
        part.sample(limit, random_state=job.seed).sort_index() if len(part) > limit else part
        for part, limit in parts
    )
    return earlier.drop(columns=[TIME]), newest.drop(columns=[TIME])
