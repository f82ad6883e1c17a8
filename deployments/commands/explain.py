"""`everfit explain`: why one decision was made, for a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deployments.commands.base import Command, config_argument, load_config, runs_option

if TYPE_CHECKING:
    from monitoring.explain import Section

_STYLES = {"breached": "bold red", "fine": "green", "silent": "yellow", "plain": ""}


@click.command(cls=Command, short_help="Say why a decision was made, and what came of it.")
@config_argument
@click.argument("window", required=False)
@click.option(
    "--prediction",
    metavar="ID",
    help="From this prediction to its version, and to the decision that caused that.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
def command(
    config: Path, window: str | None, prediction: str | None, as_json: bool, runs: Path | None
) -> None:
    """Say what was decided on WINDOW and why, with all evidence; the last decision without WINDOW.

    WINDOW is the day or the minute of the decision as `everfit status` has it (2026-01-31), or a
    window's id, or so much of it that no other has it.
    """
    from monitoring import explain
    from tasks.explaining import told, traced

    if window is not None and prediction is not None:
        raise click.UsageError("--prediction finds its own window: leave out WINDOW")
    loaded = load_config(config, runs)
    trace: dict[str, Any] = {}
    if prediction is None:
        found = told(loaded, window)
    else:
        found, trace = traced(loaded, prediction)
    if as_json:
        click.echo(_json(found, trace))
        return
    show(explain.page(found) if found else explain.trace_sections(trace))


def show(sections: Sequence[Section]) -> None:
    """In colours on a terminal, in plain columns elsewhere."""
    from monitoring.explain import text

    if not sys.stdout.isatty():
        click.echo(text(sections))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for section in sections:
        console.print(Text(section.title, style="bold"))
        table = Table.grid(padding=(0, 2))
        for line in section.lines:
            table.add_row(*(Text(cell, style=_STYLES[line.word]) for cell in line.cells))
        console.print(Padding(table, (0, 0, 1, 2)))


def _json(found: Any, trace: dict[str, Any]) -> str:
    import json

    from monitoring.records import to_dict

    body = {
        "decision": to_dict(found.decision) if found else None,
        "outcome": found.outcome if found else None,
        **trace,
    }
    return json.dumps(body, indent=2, default=str)
