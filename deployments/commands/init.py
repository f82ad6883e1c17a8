"""`everfit init`: a commented config from a table."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deployments.commands.base import Command


@click.command(cls=Command, short_help="Write a commented config from a table.")
@click.argument("name")
@click.option(
    "--data", required=True, metavar="FILE", type=click.Path(path_type=Path), help="CSV or Parquet."
)
@click.option("--target", required=True, metavar="COL", help="The column to predict.")
@click.option("--time", metavar="COL", help="When each row's prediction is asked for.")
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Instead of NAME.yaml."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def command(
    name: str, data: Path, target: str, time: str | None, output: Path | None, force: bool
) -> None:
    """Write a config for a model NAME, columns and types inferred from the data."""
    from deployments.init import write_config

    path, notes = write_config(name, data, target, time, output=output, force=force)
    for note in notes:
        click.echo(f"  {note}")
    shown = os.path.relpath(path)
    click.echo(f"wrote {shown}: read it, then `everfit check {shown}` and `everfit train {shown}`")
