"""The search: a searcher proposes, Prefect tasks try, finished trials survive a crash."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import SpaceFault
from models.records import Params, Scalar, Trial
from models.search import Searcher, best, trial_from_json
from models.search.controller import Controller
from models.search.fidelity import Judge
from models.search.memory import repaired
from tasks import artifacts, places
from tasks.journal import ASKS, TRIALS, Journal
from tasks.lineage import CONTROLLER
from tasks.live import Live
from tasks.records import Snapshot, Tuned
from tasks.rows import TIME
from tasks.trials import Limits, Search
from tasks.tuning_pictures import PICTURE, Shown, drawn

if TYPE_CHECKING:
    from models.search.objectives import Objective
    from models.training import Split
    from tasks.config import Config

__all__ = ["ASKS", "PICTURE", "TRIALS", "budget", "choose", "trial", "tune"]

_CAREFUL = 0.2  # seconds of single rows, where the goal asks for what answering takes
log = logging.getLogger(__name__)
_prepared: dict[Path, Split] = {}  # encoded once for all trials of a search in this process


@task(cache_policy=NO_CACHE, task_run_name="trial-{number}")
def trial(
    config: Config,
    snapshot: Snapshot,
    params: Params,
    number: int,
    seconds: float | None = None,
    judge: Judge | None = None,
) -> Trial:
    """Fit one configuration and score it on the newest training rows. A fault is a failed trial.

    With a `judge` it is stopped once it cannot win any more.
    """
    from models.training import evaluate_trial

    split = _prepared.get(snapshot.training)
    train, valid = (pd.DataFrame(),) * 2 if split else _split(config, snapshot)
    return evaluate_trial(
        train,
        valid,
        places.schema(config),
        params,
        number=number,
        seed=config.train.seed + number,
        objective=config.train.objective,
        trainer=config.train.trainer,
        seconds=config.train.seconds if seconds is None else seconds,
        split=split,
        judge=judge,
        **({} if config.train.goal.plain else {"footprint_seconds": _CAREFUL, "served": True}),
    )


async def tune(config: Config, snapshot: Snapshot) -> Tuned:
    """Search until trials or seconds are spent or the searcher stops by itself.

    Called inside a flow. A search that a killed process began goes on from its journal.
    """
    memory = _memory(config)
    searcher, known, warm = _searcher(config, memory)
    before = _distribution(searcher)
    journal = Journal(snapshot.folder)
    journal.replay(searcher)
    train = config.train
    with _encoded(config, snapshot):
        search = Search(
            searcher,
            train.goal,
            journal,
            Limits(
                train.warm_trials if warm else train.trials,
                train.seconds,
                train.parallel,
                train.trial_seconds,
            ),
            _starter(config, snapshot, journal, _curves(memory) if warm else []),
            seed=train.seed,
            known=known,
        )
        start = "from memory" if warm else "cold"
        heading = f"{config.name}: tuning by {searcher.kind}, started {start}"
        live = await Live.begin(config.name, search, heading)
        stopped = await search.run(live.show)
        spent = search.seconds
        await live.end(search, stopped)
    state = json.dumps(searcher.state_dict())
    (snapshot.folder / CONTROLLER).write_text(state, encoding="utf-8")
    chosen, why = choose(config, searcher, journal.trials)
    assert chosen.loss is not None
    show(config, snapshot, journal, searcher, chosen, stopped, before)
    return Tuned(
        params=dict(chosen.params),
        loss=chosen.loss,
        trials=len(journal.trials) - journal.killed,
        failed=sum(t.status == "failed" for t in journal.trials) - journal.killed,
        early=sum(t.status == "stopped" for t in journal.trials),
        seconds=sum(t.seconds for t in journal.trials),
        stopped=stopped,
        warm=warm,
        tuner=searcher.kind,
        wall_seconds=spent,
        chosen=why,
    )


def choose(config: Config, searcher: Searcher, trials: Sequence[Trial]) -> tuple[Trial, str]:
    """The trial whose configuration is fitted on all rows, and why it is that one.

    By the config's pick rule; else the searcher's own champion, the best by posterior mean; else
    the best score. A champion beyond a limit gives way to the best trial within. Raises SpaceFault
    when no trial is complete.
    """
    goal, pick = config.train.goal, config.train.pick
    luckiest = best(trials)
    if pick is not None:
        return pick.choose(trials)
    if (champion := getattr(searcher, "champion", None)) is not None:
        chosen: Trial = champion()
        if goal.feasible(chosen.metrics) or not goal.feasible(luckiest.metrics):
            return chosen, "best by posterior mean" + _within(goal, chosen)
    return luckiest, "best score" + _within(goal, luckiest)


def _within(goal: Objective, chosen: Trial) -> str:
    if not goal.limits:
        return ""
    limits = " and ".join(map(str, goal.limits))
    if goal.feasible(chosen.metrics):
        return f" with {limits}"
    return f"; no trial keeps {limits}, this one exceeds it least"


def budget(config: Config) -> int:
    """Trials of the next search: fewer once there is something to start from."""
    return config.train.warm_trials if _memory(config) else config.train.trials


def _searcher(
    config: Config, memory: dict[str, Any] | None
) -> tuple[Searcher, list[dict[str, Scalar]], bool]:
    """The config's searcher, the configurations to try before it is asked, whether it remembers.

    The controller starts from what earlier retrains learnt; a cold search tries each family's
    default first.
    """
    from models import families

    space = families.space(config.train.families, config.train.trainer)
    space = space.override(config.train.space)
    if memory is not None:
        try:
            return Controller.warm(space, memory, seed=config.train.seed), [], True
        except SpaceFault as fault:  # written by another version: a memory is a help, not a need
            log.warning("%s: the search starts cold: %s", config.name, fault)
    defaults = families.defaults(config.train.families, config.train.trainer)
    known = [repaired(params, space) for params in defaults]
    if _word(config) == Controller.kind:
        cold: Searcher = Controller(space, seed=config.train.seed)
    else:
        from models.search.catalog import searcher

        cold = searcher(_word(config), space, seed=config.train.seed)
    return cold, [params for params in known if params], False


def _word(config: Config) -> str:
    return str(getattr(config.train, "tuner", Controller.kind))


def _memory(config: Config) -> dict[str, Any] | None:
    """What the last retrain's controller had learnt, whether the gate passed its model or not."""
    if _word(config) != Controller.kind or not config.train.remember:
        return None
    registry = places.registry(config)
    for release in sorted(registry.versions(), key=lambda r: -int(r.version)):
        path = registry.fetch_file(release.version, CONTROLLER, places.champion_folder(config))
        if path is not None:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if state.get("kind") == Controller.kind:
                return state
    return None


def _curves(memory: dict[str, Any] | None) -> list[Trial]:
    """The trials of the last search that have a learning curve: they teach what curves come to."""
    rows = [row for row in (memory or {}).get("trials", ()) if row.get("curve")]
    return [trial_from_json(row) for row in rows]


@contextmanager
def _encoded(config: Config, snapshot: Snapshot) -> Iterator[None]:
    """Encode the split once for all trials that run in this process."""
    from models.training import prepare

    _prepared[snapshot.training] = prepare(*_split(config, snapshot), places.schema(config))
    try:
        yield
    finally:
        del _prepared[snapshot.training]


def _starter(
    config: Config, snapshot: Snapshot, journal: Journal, earlier: Sequence[Trial]
) -> Callable[[Params, int, float, Callable[[Trial], None]], None]:
    """Trials as Prefect tasks, on threads.

    Each is judged by those that had ended when it was asked for, which is when it is started.
    """
    judged = config.train.judged

    def start(
        params: Params, number: int, seconds: float, finished: Callable[[Trial], None]
    ) -> None:
        began = time.monotonic()
        judge = Judge(params, journal.trials, earlier) if judged else None

        def ended(future: Any) -> None:
            try:
                outcome = future.result()
            except BaseException as fault:  # of Prefect, or a task that was cancelled there
                error, spent = f"{type(fault).__name__}: {fault}", time.monotonic() - began
                seed = config.train.seed + number
                outcome = Trial(number, params, "failed", None, spent, seed, error=error)
            finished(outcome)

        trial.submit(config, snapshot, params, number, seconds, judge).add_done_callback(ended)

    return start


def _distribution(searcher: Searcher) -> dict[str, dict[str, Any]]:
    tell = getattr(searcher, "distribution", None)
    return tell() if tell else {}


def _importance(searcher: Searcher) -> dict[str, float]:
    """Shares per parameter, where the searcher has a predictor that tells."""
    tell = getattr(searcher, "importance", None)
    try:
        return dict(tell()) if tell else {}
    except Exception:  # too few trials, for instance: the picture does without
        log.warning("the importance of the parameters is not known", exc_info=True)
        return {}


@task(cache_policy=NO_CACHE)
def show(
    config: Config,
    snapshot: Snapshot,
    journal: Journal,
    searcher: Searcher,
    chosen: Trial,
    stopped: str,
    before: dict[str, dict[str, Any]],
) -> None:
    """The trials as a table, and the picture of the search, on Prefect's page."""
    goal = config.train.goal
    artifacts.trials_table(config.name, journal.trials, stopped, () if goal.plain else goal.named)
    shown = Shown(
        space=searcher.space,
        trials=tuple(journal.trials),
        goal=goal,
        chosen=chosen,
        before=before,
        after=_distribution(searcher),
        importance=_importance(searcher),
        title=f"{config.name}: {searcher.kind}, {len(journal.trials)} trials",
        subtitle=stopped,
    )
    path = drawn(shown, snapshot.folder / PICTURE)
    if path is not None:
        artifacts.picture(config.name, "tuning-picture", path, f"the search: {stopped}")


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
