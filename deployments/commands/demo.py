"""`everfit demo`: a year of New York flights, or a summer of mails, through the whole loop."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command


@click.command(cls=Command, short_help="Replay flights or mails through the loop.")
@click.argument("world", type=click.Choice(["flights", "spam"]), default="flights")
@click.option("--weeks", type=click.IntRange(1, 52), help="So many of them; 52: all there are.")
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
    world: str,
    weeks: int | None,
    json_path: Path | None,
    runs: Path | None,
    port: int | None,
    prefect_port: int | None,
    seed: int,
    quick: bool,
) -> None:
    """Replay a world through the running loop, beside a frozen and a weekly model.

    flights: New York's of 2013, will one arrive late? spam: the mails of 2002 that reached
    SpamAssassin's makers, a model of texts.
    """
    from deployments.demo.run import demo

    options = {"weeks": weeks, "json_path": json_path, "runs": runs, "port": port}
    given = {name: value for name, value in options.items() if value is not None}
    demo(world, **given, prefect_port=prefect_port, seed=seed, quick=quick)
