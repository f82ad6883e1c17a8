"""`everfit tune`: the search of a retrain by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    prefect,
    run,
    runs_option,
)

if TYPE_CHECKING:
    from models.records import Params, Trial
    from models.search.objectives import Objective
    from tasks.config import Config
    from tasks.records import Tuned

_SHOWN = 5  # of the best configurations
_FRONT = 12  # of the front's trials


@click.command(cls=Command, short_help="Search for good parameters, and change nothing.")
@config_argument
@click.option("--trials", type=click.IntRange(1), help="At most so many, not the config's.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Of wall clock, at most.")
@click.option(
    "--tuner",
    metavar="WORD",
    help="What proposes: controller, or one of the baselines grid, random, quasi-random, tpe, gp, "
    "cma-es and nsga-ii.",
)
@click.option("--seed", type=int, help="Of the search; the config's otherwise.")
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="For the journal and the picture; one that holds a search is gone on with. "
    "[default: tunings/TIME under the runs folder]",
)
@runs_option
def command(
    config: Path,
    trials: int | None,
    seconds: float | None,
    tuner: str | None,
    seed: int | None,
    out: Path | None,
    runs: Path | None,
) -> None:
    """Tune on all labelled rows of CONFIG: no gate, nothing is registered, nothing is served.

    Starts from what the last retrain learnt, if there is one.
    """
    from datetime import UTC, datetime

    loaded = load_config(
        config,
        runs,
        train__trials=trials,
        train__warm_trials=trials,
        train__seconds=seconds,
        train__seed=seed,
        train__tuner=tuner,
    )
    folder = out or loaded.folder / "tunings" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    tuned = tune_now(loaded, folder.resolve())
    click.echo("\n".join(told(loaded.train.goal, tuned, folder.resolve())))


def tune_now(config: Config, folder: Path) -> Tuned:
    """Run the flow under a Prefect server of its own, with a live line on a terminal."""
    with prefect(config):
        from deployments.commands.progress import trials
        from flows.tune import tune_only
        from tasks import tune

        budget, seconds = tune.budget(config), config.train.seconds
        with trials(folder / tune.TRIALS, budget, seconds=seconds):
            return run(lambda: tune_only(config, folder))


def told(goal: Objective, tuned: Tuned, folder: Path) -> list[str]:
    """What came of it, as a person reads it."""
    from tasks.journal import recorded
    from tasks.tune import ASKS, PICTURE, TRIALS

    trials = recorded(folder)
    best = ranked(trials)[:_SHOWN]
    early = f", {tuned.early} stopped early" if tuned.early else ""
    lines = [
        f"{tuned.tuner}, {'started from memory' if tuned.warm else 'started cold'}: "
        f"{tuned.trials} trials ({tuned.failed} failed{early}) in {tuned.wall_seconds:.1f} s",
        f"ended: {tuned.stopped}",
        f"goal: {goal} (lower is better)" if goal.plain else f"goal: {goal}",
        "",
    ]
    for place, trial in enumerate(best, 1):
        mark = "*" if dict(trial.params) == tuned.params else " "
        lines.append(f"{mark}{place}. {_figures(goal, trial)}   trial {trial.number}")
        lines.append(f"      {_parameters(trial.params)}")
    chosen = next((t for t in trials if dict(t.params) == tuned.params), None)
    if chosen is not None and chosen not in best:
        lines += [f"*   {_figures(goal, chosen)}   trial {chosen.number}"]
        lines += [f"      {_parameters(chosen.params)}"]
    lines += [f"  *: {tuned.chosen}", ""]
    if tuned.screened:
        lines += [f"passed over, untried: {tuned.screened} that could not keep the limits", ""]
    lines += _front(tuned)
    if (folder / PICTURE).exists():
        lines.append(f"picture  {folder / PICTURE}")
    lines.append(f"trials   {folder / TRIALS}, in the order of their ends; asks in {ASKS}")
    return lines


def _front(tuned: Tuned) -> list[str]:
    """The trials that no other beats in everything, of a goal of several metrics."""
    if not tuned.front:
        return []
    lines = [f"the front: no other trial beats these {len(tuned.front)} in everything"]
    for row in tuned.front[:_FRONT]:
        mark = "*" if row["params"] == tuned.params else " "
        told = ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
        lines.append(f"{mark} {told}   trial {row['number']}, {row['params'].get('family', '')}")
    if len(tuned.front) > _FRONT:
        lines.append(f"  and {len(tuned.front) - _FRONT} more")
    return [*lines, ""]


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials, best first."""
    from models.search.reward import loss_of

    known = [(loss, t.number, t) for t in trials if (loss := loss_of(t)) is not None]
    return [trial for _, _, trial in sorted(known, key=lambda row: row[:2])]


def _figures(goal: Objective, trial: Trial) -> str:
    from models.search.objectives import value_of

    if goal.plain:
        return f"{goal.metric} {value_of(goal.metric, trial.metrics):.5g}"
    parts = [f"{name} {value_of(name, trial.metrics):.4g}" for name in goal.named]
    beyond = "" if goal.feasible(trial.metrics) else ", beyond a limit"
    return ", ".join(parts) + beyond


def _parameters(params: Params) -> str:
    from tasks.artifacts import short

    return ", ".join(f"{name}={short(value)}" for name, value in params.items())
