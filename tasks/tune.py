"""The search: a searcher proposes, Prefect tasks try, finished trials survive a crash."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.records import Params, Trial
from models.search import Searcher, best
from models.search.objectives import value_of
from models.search.standing import settled
from tasks import artifacts, foretelling, runners, searchers
from tasks.journal import ASKS, TRIALS, Journal
from tasks.lineage import CONTROLLER
from tasks.live import Live
from tasks.records import Snapshot, Tuned
from tasks.searchers import budget
from tasks.trials import Limits, Search
from tasks.tuning_pictures import PICTURE, Shown, drawn

if TYPE_CHECKING:
    from models.performance.screen import Screen
    from models.search.frontier import Frontier
    from models.search.objectives import Objective
    from tasks.config import Config

__all__ = ["ASKS", "PICTURE", "TRIALS", "budget", "choose", "tune"]

log = logging.getLogger(__name__)


async def tune(config: Config, snapshot: Snapshot) -> Tuned:
    """Search until trials or seconds are spent or the searcher stops by itself.

    Called inside a flow. A search that a killed process began goes on from its journal.
    """
    memory = searchers.memory(config)
    searcher, known, warm = searchers.searcher(config, memory)
    before = _distribution(searcher)
    journal = Journal(snapshot.folder)
    recovered = runners.recovered(journal)
    journal.replay(searcher, {trial.number for trial in recovered})
    train = config.train
    curves = searchers.curves(memory) if warm else []
    before_it = foretelling.Before.of(config, snapshot.folder.name)
    screen, frontier = helped(config, searcher, before_it)
    with runners.runner(config, snapshot, journal, curves) as (start, care):
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
            start,
            seed=train.seed,
            known=known,
            care=care,
            screen=screen,
            frontier=frontier,
            expect=before_it.seconds,
            recovered=recovered,
        )
        heading = (
            f"{config.name}: tuning by {searcher.kind}, started {'from memory' if warm else 'cold'}"
        )
        live = await Live.begin(config.name, search, heading)
        stopped = await search.run(live.show)
        spent = search.seconds
        await live.end(search, stopped)
    standing = [*known, *getattr(searcher, "standing", ())]
    chosen, why = choose(config, searcher, journal.trials, standing)
    assert chosen.loss is not None
    if (ended := getattr(searcher, "ended", None)) is not None:
        ended(chosen.params)
    state = json.dumps(searcher.state_dict())
    (snapshot.folder / CONTROLLER).write_text(state, encoding="utf-8")
    foretelling.write(config, snapshot.folder, before_it, journal.trials)
    show(config, snapshot, journal, searcher, chosen, why, stopped, before)
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
        screened=len(search.screened),
        front=front_of(config, journal.trials),
    )


def helped(
    config: Config, searcher: Searcher, before: foretelling.Before
) -> tuple[Screen | None, Frontier | None]:
    """What passes proposals over that cannot keep a limit, and what widens the front; where the
    config asks for them."""
    from models.performance.screen import Screen
    from models.search.frontier import Frontier

    train, goal = config.train, config.train.goal
    screen = frontier = None
    if train.screen and goal.limits:
        screen = Screen(goal, before.past, search=before.search)
    if train.pareto is not None and len(goal.named) > 1:
        frontier = Frontier(
            searcher.space, goal, seed=train.seed, past=before.past, search=before.search
        )
    return screen, frontier


def front_of(config: Config, trials: Sequence[Trial]) -> tuple[dict[str, Any], ...]:
    """The trials that no other beats in every metric of the goal, best first in the first; none for
    a goal of one metric."""
    from models.search.pareto import front

    names = config.train.goal.named
    if len(names) < 2:
        return ()
    return tuple(
        {
            "number": trial.number,
            "params": dict(trial.params),
            "metrics": {name: value_of(name, trial.metrics) for name in names},
        }
        for trial in front(trials, names)
    )


def choose(
    config: Config, searcher: Searcher, trials: Sequence[Trial], standing: Sequence[Params] = ()
) -> tuple[Trial, str]:
    """The trial whose configuration is fitted on all rows, and why it is that one.

    By the config's pick rule; else the searcher's own champion, the best by posterior mean; else
    the best score. A champion beyond a limit gives way to the best trial within. With one metric
    for a goal, what stood before (`standing`) stays unless it is certainly behind. Raises
    SpaceFault when no trial is complete.
    """
    goal, pick = config.train.goal, config.train.pick
    luckiest = best(trials)
    if pick is not None:
        return pick.choose(trials)
    if (champion := getattr(searcher, "champion", None)) is not None:
        chosen: Trial = champion()
        if goal.plain and (stays := settled(chosen, trials, standing))[1]:
            return stays
        if goal.feasible(chosen.metrics) or not goal.feasible(luckiest.metrics):
            return chosen, "best by posterior mean" + _within(goal, chosen)
    if goal.plain and (stays := settled(luckiest, trials, standing))[1]:
        return stays
    return luckiest, "best score" + _within(goal, luckiest)


def _within(goal: Objective, chosen: Trial) -> str:
    if not goal.limits:
        return ""
    limits = " and ".join(map(str, goal.limits))
    if goal.feasible(chosen.metrics):
        return f" with {limits}"
    return f"; no trial keeps {limits}, this one exceeds it least"


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
    why: str,
    stopped: str,
    before: dict[str, dict[str, Any]],
) -> None:
    """The trials as a table, and the picture of the search, on Prefect's page."""
    goal = config.train.goal
    if (told := snapshot.folder / foretelling.FILE).exists():
        artifacts.predictor_table(config.name, foretelling.rows(told))
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
        subtitle=f"{stopped}; chosen: {why}",
    )
    path = drawn(shown, snapshot.folder / PICTURE)
    if path is not None:
        artifacts.picture(config.name, "tuning-picture", path, f"the search: {stopped}")
