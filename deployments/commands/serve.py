"""`everfit serve`: the model's server."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    port_option,
    runs_option,
)


@click.command(cls=Command, short_help="Answer predictions with the champion.")
@config_argument
@click.option("--host", help="Address to listen on, not the config's.")
@port_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes, not the config's.")
@runs_option
def command(
    config: Path, host: str | None, port: int | None, workers: int | None, runs: Path | None
) -> None:
    """Answer predictions with the champion, and follow it when it changes; Ctrl-C stops."""
    from deployments.serving.run import serve

    loaded = load_config(config, runs, serving__host=host, serving__port=port)
    click.echo(f"{loaded.name} answers at {loaded.server_url} in a moment; Ctrl-C stops", err=True)
    serve(config, host, port, workers, runs=runs.resolve() if runs else None)
