"""`everfit reject`: a person says no to a challenger."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.approve import (
    answered,
    config_of,
    model_argument,
    reason_option,
    version_argument,
)
from deployments.commands.base import Command, load_config, runs_option


@click.command(cls=Command, short_help="Say no to a challenger that waits for approval.")
@model_argument
@version_argument
@reason_option
@runs_option
def command(model: str, version: str, why: str, runs: Path | None) -> None:
    """Reject VERSION: its shadow ends, it never serves, and the next retrain waits as after a
    refusal by the gate."""
    answered(load_config(config_of(model), runs), version, "rejected", why)
