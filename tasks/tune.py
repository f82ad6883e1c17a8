"""The search: the controller proposes, Prefect tasks try, finished trials survive a crash."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE

from models.errors import SpaceFault
from models.records import Params, Scalar, Trial
from models.search import best, trial_from_json
from models.search.controller import Controller
from models.search.memory import repaired
from tasks import artifacts, places
from tasks.lineage import CONTROLLER
from tasks.records import Snapshot, Tuned
from tasks.rows import TIME

if TYPE_CHECKING:
    from tasks.config import Config

TRIALS = "trials.jsonl"
log = logging.getLogger(__name__)


@task(cache_policy=NO_CACHE, task_run_name="trial-{number}")
def trial(config: Config, snapshot: Snapshot, params: Params, number: int) -> Trial:
    """Fit one configuration and score it on the newest training rows. A fault is a failed trial."""
    from models.training import evaluate_trial

    train, valid = _split(config, snapshot)
    return evaluate_trial(
        train,
        valid,
        places.schema(config),
        params,
        number=number,
        seed=config.train.seed + number,
        objective=config.train.objective,
        trainer=config.train.trainer,
        seconds=config.train.seconds,
    )


async def tune(config: Config, snapshot: Snapshot) -> Tuned:
    """Search until the budget is spent or the controller stops by itself.

    Trials go in batches of `train.parallel`, told in the order of their numbers, so that the same
    seed gives the same trials whichever thread is quicker. Called inside the retrain flow.
    """
    controller, known = _controller(config)
    allowed = budget(config)
    journal = snapshot.folder / TRIALS
    trials = _replay(journal, controller)
    progress = await acreate_progress_artifact(
        progress=0.0,
        key=artifacts.key(config.name, "tuning"),
        description=f"tuning: up to {allowed} trials or {config.train.seconds:g} s",
    )
    started = time.monotonic()
    while not (stopped := _stopped(config, controller, trials, allowed, started)):
        told = len(trials)
        batch = [
            (number, known[number] if number < len(known) else controller.ask(number - told))
            for number in range(told, min(told + config.train.parallel, allowed))
        ]
        futures = [trial.submit(config, snapshot, params, number) for number, params in batch]
        for future in futures:
            finished = future.result()
            controller.tell(finished)
            trials.append(finished)
            _append(journal, finished)
        await aupdate_progress_artifact(progress, progress=100.0 * len(trials) / allowed)
    await aupdate_progress_artifact(progress, progress=100.0)
    show(config, trials, stopped)
    (snapshot.folder / CONTROLLER).write_text(json.dumps(controller.state_dict()), encoding="utf-8")
    chosen = best(trials)
    assert chosen.loss is not None
    return Tuned(
        params=dict(chosen.params),
        loss=chosen.loss,
        trials=len(trials),
        failed=sum(t.status == "failed" for t in trials),
        seconds=sum(t.seconds for t in trials),
        stopped=stopped,
    )


def budget(config: Config) -> int:
    """Trials of the next search: fewer once there is something to start from."""
    return config.train.warm_trials if _memory(config) else config.train.trials


def _controller(config: Config) -> tuple[Controller, list[dict[str, Scalar]]]:
    """A controller, and the configurations to try before it is asked.

    It starts from what earlier retrains learnt; the first retrain tries each family's default.
    """
    from models import families

    space = families.space(config.train.families, config.train.trainer)
    space = space.override(config.train.space)
    memory = _memory(config)
    if memory is not None:
        try:
            return Controller.warm(space, memory, seed=config.train.seed), []
        except SpaceFault as fault:  # written by another version: a memory is a help, not a need
            log.warning("%s: the search starts cold: %s", config.name, fault)
    defaults = families.defaults(config.train.families, config.train.trainer)
    known = [repaired(params, space) for params in defaults]
    return Controller(space, seed=config.train.seed), [params for params in known if params]


def _memory(config: Config) -> dict[str, Any] | None:
    """What the last retrain's controller had learnt, whether the gate passed its model or not."""
    registry = places.registry(config)
    for release in sorted(registry.versions(), key=lambda r: -int(r.version)):
        path = registry.fetch_file(release.version, CONTROLLER, places.champion_folder(config))
        if path is not None:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return state
    return None


def _stopped(
    config: Config, controller: Controller, trials: Sequence[Trial], budget: int, started: float
) -> str:
    if len(trials) >= budget:
        return f"all {budget} trials spent"
    if time.monotonic() - started >= config.train.seconds and trials:
        return f"the {config.train.seconds:g} s for the search are spent"
    return controller.done() or ""


def _split(config: Config, snapshot: Snapshot) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to fit on, and the newest share of all rows to score on; a sample of each.

    The scored rows come from the whole of that share: the very newest alone are a few days, and a
    configuration that suits a few days is not what is looked for.
    """
    frame = pd.read_parquet(snapshot.training)
    train = config.train
    if not config.data.time:  # no order in time: any rows will do
        frame = frame.sample(frac=1.0, random_state=train.seed)
    cut = len(frame) - max(int(len(frame) * train.validation), 1)
    earlier, newest = frame.iloc[:cut], frame.iloc[cut:]
    parts = ((earlier, train.trial_rows), (newest, max(train.trial_rows // 2, 1)))
    earlier, newest = (
        part.sample(limit, random_state=train.seed).sort_index() if len(part) > limit else part
        for part, limit in parts
    )
    return earlier.drop(columns=[TIME]), newest.drop(columns=[TIME])


def _replay(journal: Path, controller: Controller) -> list[Trial]:
    """Trials that an interrupted run had finished; a half-written last line is dropped."""
    trials: list[Trial] = []
    if not journal.exists():
        return trials
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            known = trial_from_json(json.loads(line))
        except (json.JSONDecodeError, TypeError):
            break
        controller.tell(known)
        trials.append(known)
    journal.write_text("".join(_line(t) for t in trials), encoding="utf-8")
    return trials


def _append(journal: Path, finished: Trial) -> None:
    with journal.open("a", encoding="utf-8") as file:
        file.write(_line(finished))


def _line(finished: Trial) -> str:
    return json.dumps(asdict(finished)) + "\n"


@task(cache_policy=NO_CACHE)
def show(config: Config, trials: Sequence[Trial], stopped: str) -> None:
    """The trials as a table on Prefect's page."""
    artifacts.trials_table(config.name, trials, stopped)
