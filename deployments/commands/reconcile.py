"""`everfit reconcile`: carry on or clean up what broken-off processes have left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from tasks.reconcile import Done


@click.command(cls=Command, short_help="Carry on what a crash has broken off.")
@config_argument
@click.option("--now", metavar="ISO", help="Look as of this time instead of the clock's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
@port_option
def command(
    config: Path, now: str | None, as_json: bool, runs: Path | None, port: int | None
) -> None:
    """Look for what processes that died have left half done; carry it on, or clean it up.

    Safe at any time, and as often as you like. `everfit up` does it every few minutes.
    """
    import json

    at = moment(now)
    loaded = load_config(config, runs, serving__port=port)
    with prefect(loaded):
        from flows.reconcile import reconcile
        from tasks.reconcile import plain

        done = run(lambda: reconcile(loaded, at))
    if as_json:
        click.echo(json.dumps(plain(done), indent=2, default=str))
    else:
        click.echo("\n".join(map(line, done)) if done else "nothing was left half done")
    if not all(one.ok for one in done):
        raise click.exceptions.Exit(1)


def line(done: Done) -> str:
    """A finding, and what came of it."""
    found = done.finding
    return f"{found.subject}: {found.why}\n  {found.do.value}: {done.result}"
