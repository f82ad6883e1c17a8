"""`everfit init`: a commented config from a table."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deployments.commands.base import Command


@click.command(cls=Command, short_help="Write a commented config from a table.")
@click.argument("name")
@click.option("--data", metavar="FILE", type=click.Path(path_type=Path), help="CSV or Parquet.")
@click.option("--sql", metavar="URL", help="Instead: a database, without its password.")
@click.option("--query", metavar="SELECT", help="With --sql: what to ask it.")
@click.option("--target", required=True, metavar="COL", help="The column to predict.")
@click.option("--time", metavar="COL", help="When each row's prediction is asked for.")
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Instead of NAME.yaml."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def command(
    name: str,
    data: Path | None,
    sql: str | None,
    query: str | None,
    target: str,
    time: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write a config for a model NAME, columns and types inferred from the data."""
    from deployments.init import write_config

    source = sql if data is None else data
    if source is None or (data is not None and sql is not None) or (sql is None) != (query is None):
        raise click.UsageError("name the rows by --data FILE, or by --sql URL and --query SELECT")
    path, notes = write_config(name, source, target, time, query=query, output=output, force=force)
    for note in notes:
        click.echo(f"  {note}")
    shown = os.path.relpath(path)
    click.echo(f"wrote {shown}: read it, then `everfit check {shown}` and `everfit train {shown}`")
