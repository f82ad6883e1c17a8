"""`everfit bench`: the benchmarks under tests/benchmarks.

A benchmark is a module bench_<name>.py there. One that defines a click command or group called
`command` gets every argument after its name; any other has `run(json_path, **options)`, reached by
--json and --set.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from deployments.commands.base import Command

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "benchmarks"


class Benchmarks(Command, click.Group):
    """A group whose commands are the files of FOLDER; listing them imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(benchmarks())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        found = benchmarks()
        return _command(cmd_name, found[cmd_name]) if cmd_name in found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = benchmarks()
        if args[0] not in found:
            from models.schema import closest

            raise click.BadParameter(
                f"no benchmark {args[0]!r}: {closest(args[0], found)}", ctx, param_hint="NAME"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Benchmarks"):
            formatter.write_dl([(name, _summary(path)) for name, path in benchmarks().items()])


@click.group(
    cls=Benchmarks,
    invoke_without_command=True,
    subcommand_metavar="[NAME [ARGS]...]",
    short_help="Run a benchmark, or list them.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Run a benchmark and print its table; without NAME, list them.

    `everfit bench NAME --help` says what it takes.
    """
    if ctx.invoked_subcommand is None:
        for name, path in benchmarks().items():
            click.echo(f"{name:<16}{_summary(path)}")


def _command(name: str, path: Path) -> click.Command:
    """The benchmark's own command, or one with --json and --set around its `run`."""
    module = _module(name, path)
    own = getattr(module, "command", None)
    if isinstance(own, click.Command):
        return own

    def invoke(json_path: Path | None, settings: tuple[str, ...]) -> None:
        rows = module.run(json_path=json_path, **options(settings))
        show(rows)
        if json_path is not None and not json_path.exists():
            write(rows, json_path)

    return Command(
        name,
        callback=invoke,
        help=(module.__doc__ or name).partition("\n\n")[0],
        params=[
            click.Option(
                ["--json", "json_path"],
                metavar="PATH",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write the table there as well.",
            ),
            click.Option(
                ["--set", "settings"],
                metavar="KEY=VALUE",
                multiple=True,
                help="An option of the benchmark, for instance --set trials=40.",
            ),
        ],
    )


def write(rows: Any, path: Path) -> None:
    """`rows` as JSON, for --json."""
    path.write_text(json.dumps(rows, indent=2, default=str) + "\n", encoding="utf-8")


def benchmarks() -> dict[str, Path]:
    """File by name: tests/benchmarks/bench_<name>.py."""
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
    # in a file or a pipe there is no width to keep to
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _summary(path: Path) -> str:
    import ast

    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return text.splitlines()[0] if text else ""


@functools.cache
def _module(name: str, path: Path) -> ModuleType:
    """The benchmark's module; its rooms are `tests.benchmarks.<name>...`, found from the root."""
    root = str(FOLDER.parents[1])
    if root not in sys.path:
        sys.path.append(root)
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"bench_{name}"] = module  # dataclasses look their own module up there
    spec.loader.exec_module(module)
    return module
