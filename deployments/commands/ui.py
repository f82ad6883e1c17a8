"""`everfit ui`: the Prefect, MLflow and Evidently pages on what was written."""

from __future__ import annotations

import time
from pathlib import Path

import click

from deployments import environment
from deployments.commands.base import Command, config_argument, load_config, runs_option


@click.command(cls=Command, short_help="Open the Prefect, MLflow and Evidently pages.")
@config_argument
@click.option("--prefect-port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--evidently-port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--no-open", is_flag=True, help="Print the addresses only, open no browser.")
@runs_option
def command(
    config: Path,
    prefect_port: int | None,
    mlflow_port: int | None,
    evidently_port: int | None,
    no_open: bool,
    runs: Path | None,
) -> None:
    """Open the Prefect, MLflow and Evidently pages of CONFIG's model; Ctrl-C stops them."""
    from deployments.stack import evidently_server, mlflow_server, prefect_server
    from monitoring.reports.workspace import project_page
    from tasks import places

    loaded = load_config(config, runs)
    if not loaded.folder.is_dir():
        raise click.ClickException(
            f"nothing was written to {loaded.folder} yet: run `everfit train {config}` first"
        )
    home = environment.prefect_home(loaded.folder)
    workspace = places.reports_workspace(loaded)
    try:
        with (
            prefect_server(home, prefect_port, hold=False) as api,
            mlflow_server(loaded, mlflow_port) as mlflow,
            evidently_server(
                workspace, loaded.folder / "logs" / "evidently.log", evidently_port
            ) as evidently,
        ):
            pages = {
                "Prefect": f"{api.removesuffix('/api')}/runs",
                "MLflow": f"{mlflow.url}/#/models/{loaded.name}",
                "Evidently": f"{evidently.url}/{project_page(workspace, loaded.name)}",
            }
            for name, url in pages.items():
                click.echo(f"{name:<10} {url}")
            click.echo("Ctrl-C stops them")
            if not no_open:
                _open(list(pages.values()))
            _stay([f"{api}/health", f"{mlflow.url}/health", f"{evidently.url}/api/version"])
    except KeyboardInterrupt:
        click.echo("stopped")


def _open(urls: list[str]) -> None:
    import webbrowser

    for url in urls:
        webbrowser.open(url)


def _stay(health: list[str], every: float = 2.0, misses: int = 5) -> None:
    """Wait until one of the pages is gone, for instance with the run whose server was shown."""
    from deployments.processes import answers

    missed = 0
    while missed < misses:
        time.sleep(every)
        up = all(answers(url) for url in health)
        missed = 0 if up else missed + 1
    raise click.ClickException("a page has gone with the run that showed it: start `ui` again")
