"""`everfit train`: the first champion."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command, config_argument, load_config, runs_option
from deployments.commands.retrain import retrain_now

FIRST_WINDOW = "first"


@click.command(cls=Command, short_help="Train the first champion.")
@config_argument
@runs_option
def command(config: Path, runs: Path | None) -> None:
    """Tune, prove and register the first champion from CONFIG's data.

    Asked again it changes nothing: use `everfit retrain` for a new try.
    """
    if not retrain_now(load_config(config, runs), FIRST_WINDOW, why="first training"):
        raise click.ClickException(
            "the gate refused it, so there is no champion yet: give it more or better data, or "
            f"change the config, then `everfit retrain {config}`"
        )
