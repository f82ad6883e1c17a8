"""`everfit bench`: the benchmarks under tests/benchmarks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from deployments.commands.base import Command

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "benchmarks"


@click.command(cls=Command, short_help="Run a benchmark, or list them.")
@click.argument("name", required=False)
@click.option(
    "--json",
    "json_path",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table there as well.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of the benchmark, for instance --set trials=40.",
)
def command(name: str | None, json_path: Path | None, settings: tuple[str, ...]) -> None:
    """Run a benchmark and print its table; without NAME, list them."""
    found = benchmarks()
    if name is None:
        for each, path in found.items():
            click.echo(f"{each:<16}{_summary(path)}")
        return
    if name not in found:
        from models.schema import closest

        raise click.BadParameter(
            f"no benchmark {name!r}: {closest(name, found)}", param_hint="NAME"
        )
    rows = _module(name, found[name]).run(json_path=json_path, **options(settings))
    show(rows)
    if json_path is not None and not json_path.exists():
        json_path.write_text(json.dumps(rows, indent=2, default=str) + "\n", encoding="utf-8")


def benchmarks() -> dict[str, Path]:
    """File by name: tests/benchmarks/bench_<name>.py, each with `run(json_path, **options)`."""
    paths = sorted(FOLDER.glob("bench_*.py"))
    return {path.stem.removeprefix("bench_"): path for path in paths}


def options(settings: tuple[str, ...]) -> dict[str, Any]:
    """--set KEY=VALUE as keywords; a value is JSON where it can be.

    >>> options(("trials=40", "family=hgb"))
    {'trials': 40, 'family': 'hgb'}
    """
    result: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.isidentifier():
            raise click.BadParameter(f"it is KEY=VALUE, got {setting!r}", param_hint="--set")
        try:
            result[key] = json.loads(value)
        except ValueError:
            result[key] = value
    return result


def show(rows: list[dict[str, Any]]) -> None:
    """A list of rows as a table; the first row names the columns."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        click.echo("no rows")
        return
    table = Table()
    for name in rows[0]:
        table.add_column(str(name))
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    Console().print(table)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _summary(path: Path) -> str:
    import ast

    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return text.splitlines()[0] if text else ""


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
