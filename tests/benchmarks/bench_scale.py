"""Many models on one machine: what a check costs, and what Prefect's server and database carry.

    everfit bench scale                          # 1,000 models: one round with news, one without
    everfit bench scale --models 50              # the same, small
    everfit bench scale costs                    # one worker's checks by rows and columns
    everfit bench scale telemetry                # size of a million predictions, and their purge

Stores, registries and Prefect's server are real. CPU seconds stand beside the wall clock, since the
machine may have other work; `--postgres` puts Prefect's database and the telemetry into a
PostgreSQL server, started for the benchmark.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write

_HOUR = timedelta(hours=1)


class Group(Command, click.Group):
    """A group that runs the round where no other name is given."""


json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The table as JSON.",
)


@click.group(cls=Group, invoke_without_command=True)
@click.option("--models", default=1_000, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--rows", default=500, show_default=True, type=click.IntRange(100, 1_000_000))
@click.option("--columns", default=8, show_default=True, type=click.IntRange(2, 500))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--postgres", is_flag=True, help="In PostgreSQL instead of SQLite.")
@click.option("--deployments/--no-deployments", default=False, help="Also one a model, beside.")
@click.option("--folder", type=click.Path(path_type=Path), help="Kept; else a temporary one.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    models: int,
    rows: int,
    columns: int,
    workers: int,
    postgres: bool,
    deployments: bool,
    folder: Path | None,
    json_path: Path | None,
) -> None:
    """A round over many models, with news and without."""
    if context.invoked_subcommand is not None:
        return
    table: list[dict[str, Any]] = []
    with place(folder) as at, stack(at, postgres) as engines:
        began = time.monotonic()
        configs = herd(at, models, rows, columns)
        click.echo(f"{models} models made in {time.monotonic() - began:.0f} s", err=True)
        for number, what in enumerate(("first round", "no news", "news")):
            if what == "news":
                for config in configs:
                    fill_hour(config, rows, columns, number)
            table.append(one_round(engines, configs, at, what, workers))
            click.echo(str(table[-1]), err=True)
        if deployments:
            table.append(idle_with_deployments(engines, configs))
    show(table)
    if json_path is not None:
        write(table, json_path)


@command.command(cls=Command, name="costs")
@click.option("--rows", "every", multiple=True, type=int, default=(500, 5_000, 50_000))
@click.option("--columns", "widths", multiple=True, type=int, default=(8, 40))
@click.option("--checks", default=6, show_default=True, type=click.IntRange(2))
@json_option
def costs(
    every: tuple[int, ...], widths: tuple[int, ...], checks: int, json_path: Path | None
) -> None:
    """What a check costs by the rows of its window and the columns."""
    table = []
    with place(None) as at, stack(at, False) as engines:
        for columns in widths:
            for rows in every:
                folder = at / f"{rows}-{columns}"
                configs = herd(folder, checks, rows, columns)
                table.append({"rows": rows, "columns": columns} | cost_of(engines, configs, folder))
                click.echo(str(table[-1]), err=True)
                shutil.rmtree(folder)
    show(table)
    if json_path is not None:
        write(table, json_path)


@command.command(cls=Command, name="telemetry")
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1_000))
@click.option("--columns", default=8, show_default=True, type=click.IntRange(1, 500))
@click.option("--postgres", is_flag=True, help="In PostgreSQL instead of SQLite.")
@json_option
def telemetry(rows: int, columns: int, postgres: bool, json_path: Path | None) -> None:
    """How large predictions are, and how long their purge takes."""
    from tests.benchmarks.scale import telemetry as measured

    with place(None) as at, ExitStack() as exits:
        url = f"sqlite:///{at / 'telemetry.db'}"
        if postgres:
            from deployments import postgres as servers

            url = exits.enter_context(servers.temporary()).create("telemetry")
        table = [measured.run(url, rows, columns)]
    show(table)
    if json_path is not None:
        write(table, json_path)


@contextmanager
def place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="everfit-scale-") as made:
        yield Path(made)


@dataclass(frozen=True)
class Engines:
    """Prefect's server and its database."""

    pid: int
    database: Any


@contextmanager
def stack(at: Path, postgres: bool) -> Iterator[Engines]:
    """Prefect's server, in this process's environment; telemetry in PostgreSQL if told."""
    import json

    from deployments.stack import prefect_server
    from tests.benchmarks.scale.meter import Postgres, Sqlite

    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    home = at / "prefect"
    with ExitStack() as exits:
        database: Any = Sqlite(home / "prefect.db")
        if postgres:
            from deployments import postgres as servers

            server = exits.enter_context(servers.temporary())
            database = Postgres(server.create("prefect"))
            os.environ["EVERFIT_TELEMETRY_URL"] = server.create("telemetry")
            os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = database.url.replace(
                "postgresql://", "postgresql+asyncpg://"
            )
        exits.enter_context(prefect_server(home))
        pid = int(json.loads((home / "server.json").read_text(encoding="utf-8"))["pid"])
        yield Engines(pid, database)


def herd(folder: Path, models: int, rows: int, columns: int) -> list[Path]:
    from tests.benchmarks.scale import herd as made

    config = made.first(folder, rows, columns)
    paths = list(made.copies(config, models))
    if "EVERFIT_TELEMETRY_URL" in os.environ:  # nothing was copied there
        for number, path in enumerate(paths):
            made.fill(path, rows, columns, seed=number, ago=made.OLD)
    return paths


def fill_hour(config: Path, rows: int, columns: int, seed: int) -> None:
    from tests.benchmarks.scale import herd as made

    made.fill(config, max(2, rows // 24), columns, seed=seed, over=_HOUR)


def one_round(
    engines: Engines, configs: list[Path], at: Path, what: str, workers: int
) -> dict[str, Any]:
    """A round, and what the server and its database took of it."""
    from deployments.rounds.flow import checked
    from tests.benchmarks.scale import meter

    before = meter.cpu_seconds(engines.pid)
    size, rows = engines.database.size_mb(), engines.database.tables()
    seconds: list[float] = []
    peak = 0.0

    def ended(done: Any) -> None:
        nonlocal peak
        seconds.append(done.seconds)
        if len(seconds) % 50 == 1:
            peak = max(peak, meter.memory_mb(os.getpid()) - meter.memory_mb(engines.pid))

    began = time.monotonic()
    made = checked(
        [str(c) for c in configs], at / "book.json", act=True, workers=workers,
        period=100 * _HOUR, ended=ended,
    )  # fmt: skip
    took = time.monotonic() - began
    time.sleep(5)  # the server writes events down in the background
    n = len(configs)
    if made.faults:
        click.echo(str(made), err=True)
    grown = engines.database.tables()
    return {
        "round": what,
        "models": n,
        **{word: made.did[word] for word in ("checked", "skipped", "failed")},
        "wall s": round(took, 1),
        "models/min": round(60 * n / took, 1),
        "check CPU s": round(made.cpu_seconds / n, 3),
        "server CPU s": round((meter.cpu_seconds(engines.pid) - before) / n, 3),
        "slowest s": round(max(seconds), 2),
        "processes MB": round(peak),
        "DB KB/model": round(1e3 * (engines.database.size_mb() - size) / n, 2),
        "DB rows/model": round(sum(grown[k] - rows[k] for k in grown) / n, 1),
    }


def cost_of(engines: Engines, configs: list[Path], folder: Path) -> dict[str, Any]:
    """CPU seconds of a check once its process is warm: the median over models."""
    import statistics

    from deployments.rounds.flow import checked
    from tests.benchmarks.scale import meter

    done: list[Any] = []
    before = meter.cpu_seconds(engines.pid)
    made = checked(
        [str(c) for c in configs], folder / "book.json", act=True, period=100 * _HOUR,
        ended=done.append,
    )  # fmt: skip
    if made.faults:
        raise click.ClickException(str(made))
    warm = done[1:]
    cpu = statistics.median(d.cpu_seconds for d in warm)
    server = (meter.cpu_seconds(engines.pid) - before) / len(configs)
    return {
        "check CPU s": round(cpu, 3),
        "wall s": round(statistics.median(d.seconds for d in warm), 2),
        "server CPU s": round(server, 3),
        "checks/min of a core": round(60 / (cpu + server), 1),
        "process MB": round(max(d.memory_mb for d in done)),
    }


def idle_with_deployments(engines: Engines, configs: list[Path]) -> dict[str, Any]:
    """The server's load with five deployments a model and nothing to run: schedules alone."""
    import asyncio

    from prefect.client.orchestration import get_client

    from deployments import register
    from deployments.definitions import Model
    from tasks.config import load
    from tests.benchmarks.scale import meter

    async def register_all() -> None:
        async with get_client() as client:
            await register.pool(client)
            for path in configs:
                await register.model(client, Model(load(path), path))

    before, size = meter.cpu_seconds(engines.pid), engines.database.size_mb()
    began = time.monotonic()
    asyncio.run(register_all())
    registered = time.monotonic() - began
    spent = meter.cpu_seconds(engines.pid) - before
    time.sleep(90)  # until the scheduler has been through all of them
    before, began = meter.cpu_seconds(engines.pid), time.monotonic()
    time.sleep(120)
    idle = (meter.cpu_seconds(engines.pid) - before) / (time.monotonic() - began)
    n = len(configs)
    return {
        "round": "deployments of each model, idle",
        "models": n,
        "wall s": round(registered, 1),
        "server CPU s": round(spent / n, 3),
        "idle cores": round(idle, 3),
        "DB KB/model": round(1e3 * (engines.database.size_mb() - size) / n, 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
