"""`everfit check`: every fault of a config at once."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command, config_argument


@click.command(cls=Command, short_help="Name every fault of a config.")
@config_argument
def command(config: Path) -> None:
    """Validate CONFIG and its data; name every fault with its path and remedy."""
    from deployments.check import check

    report = check(config)
    if report.faults:
        raise click.ClickException(str(report))
    click.echo(str(report))
