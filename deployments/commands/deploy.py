"""`everfit deploy`: a Prefect server learns the models' deployments, for workers elsewhere."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import Command, load_config, run

if TYPE_CHECKING:
    from deployments.definitions import Model


@click.command(cls=Command, short_help="Register the deployments with a Prefect server.")
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True, type=Path)
@click.option("--pool", default="everfit", help="The work pool; one that is there is kept.")
@click.option(
    "--retrains",
    type=click.IntRange(1),
    help="Retrains at once, of all models; without it by this machine's cores.",
)
@click.option(
    "--environment",
    "print_environment",
    is_flag=True,
    help="Register nothing: print what `prefect deploy --all` needs, for one CONFIG.",
)
def command(
    configs: tuple[Path, ...], pool: str, retrains: int | None, print_environment: bool
) -> None:
    """Register work pool, queues, schedules and triggers with the server of PREFECT_API_URL.

    `everfit up` does so by itself. Here nothing is worked: start workers on the pool, such as
    `python -m deployments.runner CONFIG...` or Kubernetes'.
    """
    from deployments.definitions import Model, distinct, environment

    models = distinct([Model(load_config(path), path) for path in configs])
    if print_environment:
        if len(models) > 1:
            raise click.UsageError("--environment is of one model: name one CONFIG")
        for name, value in environment(models[0], pool).items():
            click.echo(f"export {name}={shlex.quote(value)}")
        return
    if not os.environ.get("PREFECT_API_URL"):
        raise click.UsageError(
            "PREFECT_API_URL must name a running Prefect server: set it, or use `everfit up`, "
            "which starts one"
        )
    run(lambda: _registered(models, pool, retrains))
    for model in models:
        click.echo(f"{model.name} is deployed to the pool {pool}")


async def _registered(models: list[Model], pool: str, retrains: int | None) -> None:
    from prefect.client.orchestration import get_client

    from deployments import register
    from deployments.runner import retrains_at_once

    async with get_client() as client:
        await register.pool(client, pool, retrains=retrains or retrains_at_once(models))
        for model in models:
            await register.model(client, model, pool)
