"""`everfit watch`: one check of the newest window, or one at each time of the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deployments.commands.base import (
    Command,
    load_config,
    moment,
    port_option,
    prefect,
    run,
    runs_option,
)

if TYPE_CHECKING:
    from monitoring.records import Decision

_MOVED = 3  # columns; `everfit explain` names all


@click.command(cls=Command, short_help="Check the newest window and act on it.")
@click.argument(
    "configs", metavar="CONFIG...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--now", metavar="ISO", help="Check as of this time instead of the clock's.")
@click.option("--no-act", is_flag=True, help="Measure and decide, but start nothing.")
@click.option(
    "--schedule", is_flag=True, help="Stay, and check whenever schedule.cron says; several models."
)
@runs_option
@port_option
def command(
    configs: tuple[Path, ...],
    now: str | None,
    no_act: bool,
    schedule: bool,
    runs: Path | None,
    port: int | None,
) -> None:
    """Measure the newest window, decide, and retrain or roll back if the decision says so."""
    at = moment(now)
    if schedule and at is not None:
        raise click.UsageError("--schedule checks as of each time it runs: leave out --now")
    if len(configs) > 1:
        _several(configs, schedule, not no_act, runs, port)
        return
    config = configs[0]
    loaded = load_config(config, runs, serving__port=port)
    with prefect(loaded):
        if schedule:
            from deployments.schedule import run_schedule

            click.echo(f"checks {loaded.name} at '{loaded.schedule.cron}' (UTC); Ctrl-C stops")
            run_schedule(loaded, config, act=not no_act)
            return
        from flows.watch import watch

        decision = run(lambda: watch(loaded, now=at, act=not no_act))
    from tasks.explaining import outcome_of

    click.echo("\n".join(lines(decision, outcome_of(loaded, decision.window_id), config)))


def _several(
    configs: tuple[Path, ...], schedule: bool, act: bool, runs: Path | None, port: int | None
) -> None:
    """Check several models on their schedules, as a runner that checks and retrains."""
    if not schedule:
        raise click.UsageError("one model at a time is checked now; several with --schedule")
    if runs is not None or port is not None:
        raise click.UsageError("--runs and --port are of one model: several have their configs'")
    from deployments.definitions import Model, distinct

    models = distinct([Model(load_config(path), path) for path in configs])
    with prefect(models[0].config):
        from deployments.schedule import run_schedules

        click.echo(f"checks {len(models)} models on their schedules (UTC); Ctrl-C stops")
        run_schedules(models, act=act)


def lines(
    decision: Decision, outcome: Mapping[str, Any] | None, config: Path | str = "CONFIG"
) -> list[str]:
    """What a check decided, why, what moved, what nearly fired, and what a retrain came to."""
    text = [f"{decision.action.value} ({decision.rule}), window {decision.window_id}"]
    text += [f"  {reason}" for reason in decision.reasons]
    text += [f"  moved {sentence}" for sentence in decision.signals.moved[:_MOVED]]
    text += [
        f"  nearly {near}"
        for near in decision.nearly
        if not any(
            near.missing in reason or reason.startswith(f"{near.rule} seen in")
            for reason in decision.reasons  # told already
        )
    ]
    if outcome is not None and "restored" in outcome:
        text.append(
            f"  rolled back: version {outcome['restored']} is the champion again, "
            f"{outcome['rolled_back']} is not"
        )
    elif outcome is not None:
        verdict = "is the champion" if outcome["passed"] else "was refused"
        going = outcome.get("rollout")
        if outcome["passed"] and going and going["mode"] not in ("bake", "done"):
            verdict = f"passed, and is {going['stage']}"
        text.append(f"  retrained: version {outcome['version']} {verdict}: {outcome['reason']}")
    elif decision.retrain:
        text.append("  not retrained yet: `everfit watch` without --no-act does")
    elif decision.action.value == "roll back":
        text.append("  not rolled back yet: `everfit watch` without --no-act does")
    return [*text, f"  more: everfit explain {config}"]
