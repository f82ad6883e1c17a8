"""`everfit status`: champion, challenger, last decisions, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    port_option,
    runs_option,
)

_REASONS = 3  # of each decision; `everfit explain` and --json tell all


@click.command(cls=Command, short_help="Show champion, decisions and labels.")
@config_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
@port_option
def command(config: Path, as_json: bool, runs: Path | None, port: int | None) -> None:
    """Show the champion, the challenger, the last decisions with their reasons, and the labels."""
    import json

    from tasks.status import status

    state = status(load_config(config, runs, serving__port=port))
    if as_json:
        click.echo(json.dumps(state, indent=2, default=str))
    else:
        click.echo("\n".join(lines(state)))


def lines(state: dict[str, Any]) -> list[str]:
    """The state as a person reads it."""
    text = [state["name"]]
    for role in ("champion", "challenger"):
        text.append(f"  {role:<11}{_version(state[role])}")
    if going := state.get("rollout"):
        text.append(
            f"  roll-out   version {going['version']} is {going['stage']} since "
            f"{going['since'][:16]}; more: everfit rollout CONFIG --no-act"
        )
    labels, server = state["labels"], state["server"]
    sampled = labels["recorded_share"] < 1
    if labels["coverage"] is None:
        text.append(f"  labels     no prediction since {labels['since'][:16]}")
    else:
        text.append(
            f"  labels     {labels['labelled']:,} of {labels['predictions']:,} predictions since "
            f"{labels['since'][:16]} ({labels['coverage']:.0%})"
            + (f", a sample: {labels['recorded_share']:.3g} of all are recorded" if sampled else "")
        )
    answers = f"answers with version {server['version']}" if server["version"] else "is not ready"
    where = f"{server['url']} {answers}" if server["running"] else f"{server['url']} does not run"
    text.append(f"  server     {where}")
    text.append("  decisions" + ("" if state["decisions"] else "  none yet"))
    for decision in state["decisions"]:
        text.append(f"    {str(decision['time'])[:16]}  {decision['action']} ({decision['rule']})")
        reasons = decision["reasons"]
        text += [f"      {reason}" for reason in reasons[:_REASONS]]
        if len(reasons) > _REASONS:
            text.append(f"      and {len(reasons) - _REASONS} more")
    if state["decisions"]:
        text.append("  all of it: everfit explain CONFIG DAY")
    return text


def _version(version: dict[str, Any] | None) -> str:
    if version is None:
        return "none"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in version["metrics"].items())
    return (
        f"version {version['version']}, {version['age_days']:.1f} days old, "
        f"{version['rows']:,} rows" + (f", {metrics}" if metrics else "")
    )
