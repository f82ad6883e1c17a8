"""`everfit up`: everything on this machine, with one command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from deployments.commands.base import Command, load_config

_PORT = click.IntRange(1, 65535)


@click.command(cls=Command, short_help="Run everything on this machine: servers, checks, pages.")
@click.argument(
    "configs", metavar="CONFIG...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--train", is_flag=True, help="Train the first champion where there is none.")
@click.option("--detach", is_flag=True, help="Run on in the background once all is healthy.")
@click.option("--evidently", is_flag=True, help="Show Evidently's page of each model as well.")
@click.option(
    "--mlflow/--no-mlflow", default=True, help="MLflow's page, some 0.5 GB for each registry."
)
@click.option("--prefect-port", type=_PORT, help="Default: as last time, else 4200 or a free one.")
@click.option("--mlflow-port", type=_PORT, help="Default: as last time, else 5000 or a free one.")
@click.option(
    "--evidently-port", type=_PORT, help="Default: as last time, else 8000 or a free one."
)
@click.option(
    "--home",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it keeps Prefect's database, ports and logs. Default: runs/NAME of one model, "
    "runs/_up of several.",
)
@click.option(
    "--postgres",
    metavar="URL",
    help="Keep telemetry, registry and Prefect's runs in this PostgreSQL server; the password in "
    "PGPASSWORD.",
)
@click.option("--silent", is_flag=True, hidden=True)  # what --detach starts
def command(
    configs: tuple[Path, ...],
    train: bool,
    detach: bool,
    evidently: bool,
    mlflow: bool,
    prefect_port: int | None,
    mlflow_port: int | None,
    evidently_port: int | None,
    home: Path | None,
    postgres: str | None,
    silent: bool,
) -> None:
    """Run the models of CONFIG... : Prefect, MLflow, a server for each model, and what checks,
    retrains and rolls out; Ctrl-C stops all of it in order.

    What fails is started anew. `everfit status` and `everfit down` work from any terminal.
    """
    from deployments.up import detached
    from deployments.up.place import place_of
    from deployments.up.plan import Model, Wishes

    exports: dict[str, str] = {}
    if postgres is not None:
        exports = _on_postgres(
            postgres, lambda line: None if silent else click.echo(line, err=True)
        )
    models = [Model(path.resolve(), load_config(path)) for path in configs]
    place = place_of([m.config for m in models], home)
    wishes = Wishes(
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        evidently_port=evidently_port,
        evidently=evidently,
        mlflow=mlflow,
        train=train,
        postgres=postgres,
        exports=exports,
    )
    if detach:
        detached.start(place, models, wishes, click.echo)
        return
    _run(place, models, wishes, silent=silent)


def _on_postgres(url: str, tell: Callable[[str], None]) -> dict[str, str]:
    """Have everything that is started from here on, and this process, use that server."""
    from deployments.up.databases import create, databases, exports

    wanted = databases(url)
    for name in create(url, wanted):
        tell(f"made the database {name}")
    os.environ.update(wanted.variables)
    os.environ.update(wanted.servers)
    tell("everfit in another terminal needs PGPASSWORD as it is here, and")
    for line in exports(wanted.variables):
        tell(f"  {line}")
    return wanted.variables


def _run(place, models, wishes, *, silent: bool) -> None:  # type: ignore[no-untyped-def]
    from rich.console import Console

    from deployments.up import screen
    from deployments.up.events import Events
    from deployments.up.run import Up, on_signals

    console = Console()
    log = place.logs / "up.log"
    terminal = console.is_terminal and not silent
    plain = screen.Nothing() if silent or terminal else screen.Lines(click.echo)
    events = Events(log, plain.look)
    up = Up(place, models, wishes, events)
    with on_signals(up.stop):
        if not terminal:
            up.run(plain)
            return
        with screen.live(console, events) as page:
            up.run(page)
