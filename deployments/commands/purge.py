"""`everfit purge`: delete old predictions and their labels."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command, config_argument, load_config, moment, runs_option


@click.command(cls=Command, short_help="Delete old predictions and their labels.")
@config_argument
@click.option(
    "--before",
    metavar="DATE",
    help="Delete what is older, not what is older than the config's telemetry.keep.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Delete also what checks still look at and what still waits for its label.",
)
@runs_option
def command(
    config: Path, before: str | None, dry_run: bool, force: bool, runs: Path | None
) -> None:
    """Delete old predictions with their labels from the telemetry store; decisions stay.

    Deleted rows teach no model any more. The server may run meanwhile.
    """
    from tasks.retention import purge
    from tasks.rows import now_utc

    loaded = load_config(config, runs)
    gone, limits = purge(
        loaded, now_utc(), moment(before, "--before"), force=force, dry_run=dry_run
    )
    word = "would be deleted" if dry_run else "were deleted"
    click.echo(
        f"{gone.predictions:,} predictions before {limits.labelled:%Y-%m-%d %H:%M} UTC and "
        f"{gone.labels:,} labels {word}, and {gone.counts:,} minutes of counted requests"
    )
    if gone.waiting:
        click.echo(f"{gone.waiting:,} older ones were left, since their labels may still come")
