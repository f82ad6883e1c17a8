"""`everfit watch`: one check of the newest window."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    moment,
    port_option,
    prefect,
    run,
    runs_option,
)


@click.command(cls=Command, short_help="Check the newest window and act on it.")
@config_argument
@click.option("--now", metavar="ISO", help="Check as of this time instead of the clock's.")
@click.option("--no-act", is_flag=True, help="Measure and decide, but start nothing.")
@runs_option
@port_option
def command(
    config: Path, now: str | None, no_act: bool, runs: Path | None, port: int | None
) -> None:
    """Measure the newest window, decide, and retrain if the decision says so."""
    at = moment(now)
    loaded = load_config(config, runs, serving__port=port)
    with prefect(loaded):
        from flows.watch import watch

        decision = run(lambda: watch(loaded, now=at, act=not no_act))
    click.echo(f"{decision.action.value} ({decision.rule}), window {decision.window_id}")
    for reason in decision.reasons:
        click.echo(f"  {reason}")
