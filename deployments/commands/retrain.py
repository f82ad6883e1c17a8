"""`everfit retrain`: a new challenger now, whatever the checks say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    port_option,
    prefect,
    run,
    runs_option,
    why_option,
)

if TYPE_CHECKING:
    from tasks.config import Config


@click.command(cls=Command, short_help="Train a challenger now.")
@config_argument
@click.option(
    "--window", metavar="ID", help="The window it answers; the same one never retrains twice."
)
@why_option
@runs_option
@port_option
def command(
    config: Path, window: str | None, why: str | None, runs: Path | None, port: int | None
) -> None:
    """Train a challenger on all labels known now; it serves if the gate lets it through."""
    from datetime import UTC, datetime

    window = window or f"manual-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    retrain_now(load_config(config, runs, serving__port=port), window, why or "asked for by hand")


def retrain_now(config: Config, window: str, why: str) -> bool:
    """Run the flow and say what came of it. Returns whether the gate passed it."""
    with prefect(config):
        from deployments.commands.progress import trials
        from flows.retrain import retrain
        from tasks import places, tune

        journal = places.retrain_folder(config, window) / tune.TRIALS
        with trials(journal, tune.budget(config)):
            outcome = run(lambda: retrain(config, window, why=why))
    if outcome.version is None:
        click.echo(f"no challenger was made: {outcome.reason}\n  window {outcome.window_id}")
        return False
    verb = "is the champion" if outcome.passed else "was refused"
    if outcome.passed and outcome.stage:
        verb = "passed its gate, and is on its way"
    click.echo(
        f"version {outcome.version} {verb}: {outcome.reason}\n"
        f"  window {outcome.window_id}, {outcome.trials} trials, {outcome.seconds:.1f} s, "
        f"{'started from memory' if outcome.warm else 'started cold'}"
    )
    return bool(outcome.passed)
