"""Install the peers that the benchmarks compare with, each in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command
from tests.benchmarks.peers import environment


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder of the environments, instead of ${environment.VARIABLE} or .peers.",
)
def command(names: tuple[str, ...], into: Path | None) -> None:
    """Install what the benchmarks compare with, each in an environment of its own (3 GB).

    NAME is one of the requirements files under tests/benchmarks/peers; all of them without it.
    """
    place = into or environment.folder()
    for name in names or environment.NAMES:
        click.echo(f"{name}: installing ...")
        try:
            made = environment.make(name, place)
        except environment.PeerFault as fault:
            raise click.ClickException(str(fault)) from None
        click.echo(f"{name}: in {made}")
    if place.absolute() != environment.folder():
        click.echo(f"the benchmarks look there with {environment.VARIABLE}={place.absolute()}")
