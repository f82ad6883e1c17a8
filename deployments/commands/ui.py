"""`everfit ui`: the Prefect and MLflow pages on what was written."""

from __future__ import annotations

import time
from pathlib import Path

import click

from deployments import environment
from deployments.commands.base import Command, config_argument, load_config, runs_option


@click.command(cls=Command, short_help="Open the Prefect and MLflow pages.")
@config_argument
@click.option("--prefect-port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--no-open", is_flag=True, help="Print the addresses only, open no browser.")
@runs_option
def command(
    config: Path,
    prefect_port: int | None,
    mlflow_port: int | None,
    no_open: bool,
    runs: Path | None,
) -> None:
    """Open the Prefect and MLflow pages of CONFIG's model; Ctrl-C stops them."""
    from deployments.stack import mlflow_server, prefect_server

    loaded = load_config(config, runs)
    if not loaded.folder.is_dir():
        raise click.ClickException(
            f"nothing was written to {loaded.folder} yet: run `everfit train {config}` first"
        )
    home = environment.prefect_home(loaded.folder)
    try:
        with (
            prefect_server(home, prefect_port, hold=False) as api,
            mlflow_server(loaded, mlflow_port) as mlflow,
        ):
            pages = {
                "Prefect": f"{api.removesuffix('/api')}/runs",
                "MLflow": f"{mlflow.url}/#/models/{loaded.name}",
            }
            for name, url in pages.items():
                click.echo(f"{name:<8} {url}")
            click.echo("Ctrl-C stops them")
            if not no_open:
                _open(list(pages.values()))
            _stay(api, mlflow.url)
    except KeyboardInterrupt:
        click.echo("stopped")


def _open(urls: list[str]) -> None:
    import webbrowser

    for url in urls:
        webbrowser.open(url)


def _stay(api: str, mlflow: str, every: float = 2.0, misses: int = 5) -> None:
    """Wait until one of the pages is gone, for instance with the run whose server was shown."""
    from deployments.processes import answers

    missed = 0
    while missed < misses:
        time.sleep(every)
        up = answers(f"{api}/health") and answers(f"{mlflow}/health")
        missed = 0 if up else missed + 1
    raise click.ClickException("a page has gone with the run that showed it: start `ui` again")
