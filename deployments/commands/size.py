"""`everfit size`: what a configuration takes to train and to serve, foretold from all trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command, config_argument, load_config, runs_option


def _pairs(_: Any, __: Any, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise click.BadParameter(f"it is NAME=VALUE, got {pair!r}: write family=hgb")
        found[name.strip()] = value.strip()
    return found


@click.command(cls=Command, short_help="Foretell what a configuration takes, and size for it.")
@config_argument
@click.option("--set", "changes", metavar="NAME=VALUE", multiple=True, callback=_pairs,
              help="A parameter that differs from the champion's, such as family=hgb or "
              "hgb.max_iter=200.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0, min_open=True),
              help="Requests of one row a second: how many workers that takes.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1), default=None,
              help="Rows to fit on; as many as the latest trials otherwise.")  # fmt: skip
@click.option("--server-ms", type=click.FloatRange(0), default=0.03, show_default=True,
              help="CPU of a request besides the model's.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
def command(
    config: Path,
    changes: dict[str, str],
    rate: float | None,
    rows: int | None,
    server_ms: float,
    as_json: bool,
    runs: Path | None,
) -> None:
    """Say what the performance predictor knows, and what a configuration would take.

    It has learnt from the trials of all retrains in the registry, and says how far off it was on
    trials that were left out. Changes nothing.
    """
    import json

    from tasks.sizing import size

    loaded = load_config(config, runs)
    found = size(loaded, changes, rate=rate, rows=rows or 0, server_ms=server_ms)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


def lines(found: dict[str, Any]) -> list[str]:
    """All of it as a person reads it."""
    learnt = found["learnt"]
    text = [
        f"{found['name']}: learnt from {learnt['trials']:,} trials of {learnt['searches']} searches"
    ]
    text += [f"  {one['said']}, {one['held']:.0%} within 90 %" for one in found["reports"]]
    if not found["reports"]:
        text.append("  nothing is foretold yet: of no family 5 configurations were tried")
    which = f"the champion, version {found['version']}" if found["version"] else "a configuration"
    text += ["", f"{which}:", f"  {_params(found['params'])}"]
    for name, told in found["foretold"].items():
        row = f"  {name:<20}{told['value']:>10.3g}   {told['low']:.3g} to {told['high']:.3g}"
        more = [
            f"{word} {figures[name]:.3g}"
            for word, figures in (("its trial", found["tried"]), ("now", found["measured"]))
            if name in figures
        ]
        text.append(row + (f"   ({', '.join(more)})" if more else ""))
    if not found["foretold"]:
        text.append("  of its family too few configurations were tried: nothing is foretold")
    return text + _search(found["search"]) + _serving(found["serving"])


def _search(found: dict[str, float] | None) -> list[str]:
    if found is None:
        return []
    return [
        "",
        f"a search: {found['trials']:.0f} trials of {found['trial_seconds']:.2g} s take "
        f"{found['seconds']:.2g} s; {found['fit']:.0f} of them fit into its seconds",
    ]


def _serving(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    memory = "" if found["model_mb"] is None else f", {found['model_mb']:.2g} MB of model in each"
    return [
        "",
        f"{found['rate']:,.0f} requests a second: {found['cpu_ms']:.3g} ms of CPU each, "
        f"{found['cores']:.2g} cores; serving.workers: {found['workers']} keeps them busy to 70 % "
        f"at most{memory} (configured: {found['configured']})",
    ]


def _params(params: dict[str, Any]) -> str:
    from tasks.artifacts import short

    return ", ".join(f"{name}={short(value)}" for name, value in params.items())
