"""`everfit rollback`: back to the previous champion."""

from __future__ import annotations

from pathlib import Path

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


@click.command(cls=Command, short_help="Return to the previous champion.")
@config_argument
@why_option
@runs_option
@port_option
def command(config: Path, why: str | None, runs: Path | None, port: int | None) -> None:
    """Make the previous champion the champion again."""
    import getpass

    loaded = load_config(config, runs, serving__port=port)
    with prefect(loaded):
        from flows.rollout import rollback

        release = run(lambda: rollback(loaded, why or "asked for by hand", getpass.getuser()))
    click.echo(f"version {release.version} is the champion again")
