"""`everfit transfer`: what a model of one domain is worth in another, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import Command, config_argument, load_config, moment, runs_option

if TYPE_CHECKING:
    from tasks.transfer import Study

_ROWS = 5_000


@click.command(cls=Command, short_help="Say what a model is worth in another domain.")
@config_argument
@click.option("--source", metavar="A", required=True, help="The domain that is learnt.")
@click.option("--target", metavar="B", required=True, help="The domain to be answered.")
@click.option(
    "--by",
    metavar="COLUMN",
    help="The column of the data whose values A and B are; found by itself where one holds both.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.02,
    help="Of accuracy: what may be lost against the source.",
)
@click.option(
    "--way",
    "ways",
    multiple=True,
    type=click.Choice(["weights", "coral", "mmd", "self"]),
    help="A way to adapt that is tried; all that the model's family has otherwise.",
)
@click.option("--rows", type=click.IntRange(100), default=_ROWS, help="Of each domain, at most.")
@click.option("--seed", type=int, default=0, help="Of all splits, samples and fits.")
@click.option("--now", metavar="ISO", help="The time up to which labels count, not the clock's.")
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="For page, picture and figures. [default: transfers/A-B under the runs folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, for programs.")
@runs_option
def command(
    config: Path,
    source: str,
    target: str,
    by: str | None,
    tolerance: float,
    ways: tuple[str, ...],
    rows: int,
    seed: int,
    now: str | None,
    out: Path | None,
    as_json: bool,
    runs: Path | None,
) -> None:
    """Measure how far apart two domains are and what the model of one is worth on the other.

    A and B are values of a column of CONFIG's data, or files with its columns (.csv, .csv.gz,
    .parquet), or `served`: what the model's server was asked. B needs no labels; where it has some,
    they say how far off the estimate was. Changes nothing.
    """
    import json
    import re
    from datetime import UTC, datetime

    from tasks.transfer import study
    from tasks.transfer_page import written
    from tasks.transfer_sides import sides

    loaded = load_config(config, runs)
    at = moment(now) or datetime.now(UTC)
    first, second, column = sides(loaded, source, target, by=by, now=at, rows_each=rows, seed=seed)
    found = study(
        loaded, first, second, by=column, ways=ways or None, tolerance=tolerance, seed=seed
    )
    name = re.sub(r"[^\w.-]+", "_", f"{first.name}-{second.name}")[:80]
    folder = (out or loaded.folder / "transfers" / name).resolve()
    page, picture, _ = written(found, folder, seed=seed)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    click.echo("\n".join(lines(found)))
    click.echo(f"\npage     {page}\npicture  {picture}")


def lines(study: Study) -> list[str]:
    """The study as a person reads it on a terminal."""
    from tasks.transfer_page import subtitle, tables

    source, target = study.sides
    text = [f"{study.name}: from {source} to {target}", subtitle(study)]
    for table in tables(study):
        widths = [
            max(len(row[i]) for row in (table.head, *table.rows)) for i in range(len(table.head))
        ]
        text += ["", table.title]
        text += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table.rows]
    text += ["", f"advice: {study.advice}", *(f"  {reason}" for reason in study.advice.reasons)]
    return text
