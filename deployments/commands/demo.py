"""`everfit demo`: a year of New York flights through the whole loop."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command


@click.command(cls=Command, short_help="Replay a year of flights through the loop.")
@click.option("--weeks", type=click.IntRange(1, 52), help="So many of the year; 52: all.")
@click.option(
    "--json",
    "json_path",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the final table there.",
)
@click.option(
    "--runs",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for everything that is written.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Of the model server.")
@click.option("--prefect-port", type=click.IntRange(1, 65535), help="Of the Prefect server.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--quick", is_flag=True, help="A small search, to see the loop turn.")
def command(
    weeks: int | None,
    json_path: Path | None,
    runs: Path | None,
    port: int | None,
    prefect_port: int | None,
    seed: int,
    quick: bool,
) -> None:
    """Replay flights of 2013 through the running loop, beside a frozen and a weekly model."""
    from deployments.demo.run import demo

    options = {"weeks": weeks, "json_path": json_path, "runs": runs, "port": port}
    given = {name: value for name, value in options.items() if value is not None}
    demo(**given, prefect_port=prefect_port, seed=seed, quick=quick)
