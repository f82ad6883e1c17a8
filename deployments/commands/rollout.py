"""`everfit rollout`: one step of the roll-out under way, or all of them as they become due."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    why_option,
)

if TYPE_CHECKING:
    from tasks.config import Config


@click.command(cls=Command, short_help="Take a challenger's roll-out one step on.")
@config_argument
@click.option("--now", metavar="ISO", help="Step as of this time instead of the clock's.")
@click.option("--no-act", is_flag=True, help="Show where it stands, and change nothing.")
@click.option(
    "--follow",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="Stay, and step every so many seconds until it is over.",
)
@click.option("--stop", is_flag=True, help="Roll it back now, whatever the guards say.")
@why_option
@runs_option
@port_option
def command(
    config: Path,
    now: str | None,
    no_act: bool,
    follow: float | None,
    stop: bool,
    why: str | None,
    runs: Path | None,
    port: int | None,
) -> None:
    """Judge the challenger's stage by its guards: wait, go on, promote, or roll back.

    `everfit watch` takes a step at each check; call this as often as stages are short.
    """
    at = moment(now)
    if sum(map(bool, (no_act, follow, stop))) > 1:
        raise click.UsageError("--no-act, --follow and --stop exclude each other: choose one")
    if follow and at is not None:
        raise click.UsageError("--follow steps as of each time it looks: leave out --now")
    loaded = load_config(config, runs, serving__port=port)
    if no_act:
        click.echo("\n".join(standing(loaded)))
        return
    with prefect(loaded):
        from flows.rollout import abandon, advance

        if stop:
            reason = why or "asked for by hand"
            version = run(lambda: abandon(loaded, reason, at))
            click.echo(
                f"version {version} is rolled back" if version else "there is no roll-out to stop"
            )
            return
        while True:
            step = run(lambda: advance(loaded, at))
            click.echo("no roll-out is under way" if step is None else _said(step))
            over = step is None or step.move.value in ("done", "roll back")
            if follow is None or over:
                break
            time.sleep(follow)


def standing(config: Config) -> list[str]:
    """Where the roll-out stands and what was said of it last."""
    from tasks.standing import told

    found = told(config)
    if found is None:
        return ["no roll-out is under way"]
    text = [
        f"version {found['version']} is {found['stage']}, against version {found['against']}, "
        f"since {found['since'][:19]}"
    ]
    text += [f"  {reading}" for reading in found["readings"]]
    if found["step"]:
        text.append(f"  {found['step']['move']}: {'; '.join(found['step']['reasons'])}")
    return text


def _said(step: Any) -> str:
    return "\n".join([step.move.value, *(f"  {reason}" for reason in step.reasons)])
