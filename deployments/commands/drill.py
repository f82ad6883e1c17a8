"""`everfit drill`: break each step and each part on purpose, and see that nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import Command

if TYPE_CHECKING:
    from deployments.drill.cases import Result


@click.command(cls=Command, short_help="Break each part on purpose, and see that nothing is lost.")
@click.option("--short", is_flag=True, help="A few faults that stand for the others.")
@click.option("--faults", metavar="TEXT", multiple=True, help="Those with this in their name.")
@click.option("--patroni", is_flag=True, help="A fail-over of PostgreSQL, under patroni and etcd.")
@click.option("--times", type=click.IntRange(1, 1_000), default=1, help="How often each.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this folder and leave it: stores and logs of the last fault.",
)
def command(
    short: bool,
    faults: tuple[str, ...],
    patroni: bool,
    times: int,
    as_json: bool,
    keep: Path | None,
) -> None:
    """Kill processes of a small real model at each step of a retrain, and what it leans on, and
    check after each recovery: one champion, no orphan alias, no half version, all labels there,
    every decision acted on once, no finished trial tried again.

    Touches nothing but a folder of its own.
    """
    import json
    from dataclasses import asdict

    from deployments.drill.run import drill

    def tell(result: Result) -> None:
        if not as_json:
            click.echo(line(result))
        for what in (*result.lost, *result.doubled):
            click.echo(f"  {what}", err=True)

    if not as_json:
        click.echo(f"{'fault':<52}{'tried':>6}{'recovered in':>14}{'lost':>6}{'doubled':>9}")
    results = drill(
        faults,
        short=short,
        patroni=patroni,
        times=times,
        place=keep and keep.resolve(),
        tell=tell,
    )
    if as_json:
        click.echo(json.dumps([asdict(r) for r in results], indent=2))
    if not all(result.ok for result in results):
        raise click.exceptions.Exit(1)


def line(result: Result) -> str:
    """A row of the table."""
    if result.skipped:
        return f"{result.fault:<52}{'not tried: ' + result.skipped}"
    return (
        f"{result.fault:<52}{result.tried:>6}{result.seconds:>12.1f} s"
        f"{len(result.lost):>6}{len(result.doubled):>9}"
    )
