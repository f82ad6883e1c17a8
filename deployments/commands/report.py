"""`everfit report`: the digest of some days as a page."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    moment,
    prefect,
    run,
    runs_option,
)


@click.command(cls=Command, short_help="Write the digest of the last days.")
@config_argument
@click.option("--days", type=click.IntRange(1, 366), default=7, help="How far it looks back.")
@click.option("--now", metavar="ISO", help="The end of those days instead of the clock's time.")
@runs_option
def command(config: Path, days: int, now: str | None, runs: Path | None) -> None:
    """What was checked, decided, retrained and measured, as one HTML page.

    `everfit up` writes one each week, when schedule.report says.
    """
    at = moment(now)
    loaded = load_config(config, runs)
    with prefect(loaded):
        from flows.report import report

        path = run(lambda: report(loaded, now=at, days=days))
    click.echo(f"written to {path}")
