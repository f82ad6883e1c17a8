"""`everfit webhook`: have an MLflow server wake the model's server."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command, config_argument, load_config


@click.command(cls=Command, short_help="Have an MLflow server wake the model's server.")
@config_argument
@click.option(
    "--mlflow",
    "server",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    help="The MLflow server; by default that in MLFLOW_TRACKING_URI.",
)
@click.option(
    "--url",
    help="Where MLflow finds the model's server, for instance https://models.example/hooks/mlflow; "
    "by default the config's host and port.",
)
def command(config: Path, server: str | None, url: str | None) -> None:
    """Register a webhook, or renew it, and try it once.

    It is signed with the secret in EVERFIT_WEBHOOK_SECRET, which the model's server needs, too.
    That looks at the registry every serving.poll_seconds all the same.
    """
    from deployments.serving.hooks import PATH, SECRET, secret
    from models.registry_webhooks import subscribe

    loaded = load_config(config)
    if server is None:
        raise click.ClickException("a webhook is sent by an MLflow server: name it with --mlflow")
    key = secret()
    if key is None:
        raise click.ClickException(
            f"a webhook needs a secret in {SECRET}: set it to the output of `openssl rand -hex 32`"
        )
    url = url or loaded.server_url + PATH
    made, said = subscribe(server, loaded.name, url, key)
    click.echo(f"webhook {made} of {server} calls {url}; a trial {said}")
