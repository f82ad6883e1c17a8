"""`everfit status`: champion, challenger, last decisions, labels; what runs, and how it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command, load_config, port_option, runs_option

_REASONS = 3  # of each decision; `everfit explain` and --json tell all


@click.command(cls=Command, short_help="Show champion, decisions and labels, and what runs.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
@port_option
def command(config: Path | None, as_json: bool, runs: Path | None, port: int | None) -> None:
    """Show the champion, the challenger, the last decisions with their reasons, and the labels;
    and the parts of the `everfit up` that runs CONFIG's model.

    Without CONFIG: all that `everfit up` runs for you now.
    """
    import json

    state = _all() if config is None else _one(config, runs, port)
    if as_json:
        click.echo(json.dumps(state, indent=2, default=str))
    elif config is None:
        click.echo("\n".join(all_lines(state)))
    else:
        click.echo("\n".join(lines(state)))


def _one(config: Path, runs: Path | None, port: int | None) -> dict[str, Any]:
    from deployments.up import asking, place
    from tasks.status import status

    loaded = load_config(config, runs, serving__port=port)
    state = status(loaded)
    running = place.running_place(loaded)
    state["up"] = asking.state(running) if running else None
    return state


def _all() -> dict[str, Any]:
    from deployments.up import asking, place

    return {"up": [asking.state(running) for running in place.running_places()]}


def all_lines(state: dict[str, Any]) -> list[str]:
    """All that runs, as a person reads it."""
    from datetime import UTC, datetime

    from deployments.up import asking
    from deployments.up.screen import about

    if not state["up"]:
        return ["no `everfit up` of yours runs; of one model: everfit status CONFIG"]
    text = []
    for known in state["up"]:
        text += asking.lines(known)
        for model in known["models"]:
            text.append(f"  {model['name']}")
            text += [f"    {what:<12}{said}" for what, said in about(model, datetime.now(UTC))]
    return text


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
    if asked := state.get("approval"):
        text.append(f"  approval   {asked['said']}")
        if asked["waits"]:
            name = f"{state['name']} {asked['version']}"
            text.append(f"             everfit approve {name} --why ..., or everfit reject")
    for moved in state.get("moved", ()):
        server = f"; the server {moved['server']}" if moved["server"] else ""
        text.append(f"  by hand    {moved['at'][:16]}  {moved['said']}{server}")
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
    if state.get("up"):
        from deployments.up import asking

        text += asking.lines(state["up"])
    return text


def _version(version: dict[str, Any] | None) -> str:
    if version is None:
        return "none"
    if fault := version.get("fault"):
        return f"version {version['version']}: {fault}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in version["metrics"].items())
    return (
        f"version {version['version']}, {version['age_days']:.1f} days old, "
        f"{version['rows']:,} rows" + (f", {metrics}" if metrics else "")
    )
