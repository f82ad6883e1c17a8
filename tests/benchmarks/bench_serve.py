"""Requests a second, latency and memory of the server, beside its peers on the same model.

Everything runs on this machine, over the loopback, in one run: the servers are started together and
measured in turns, so that what else the machine does meets all of them. wrk (Debian's package) asks
in a closed loop over 32 and 256 connections, then with batches of 100 rows; then an open loop in C
asks at 70 % of what the server managed, with latencies from when each request was due. Peers live
in environments of their own: `everfit bench peers serve_bento serve_fastapi serve_ray`.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write
from tests.benchmarks.peers.environment import PeerFault
from tests.benchmarks.serve import load
from tests.benchmarks.serve.aims import aims, ratios
from tests.benchmarks.serve.models import prepare
from tests.benchmarks.serve.servers import SERVERS, Running


def _words(_: Any, __: Any, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(cls=Command)
@click.option(
    "--models",
    default="mlp,mlp:native",
    show_default=True,
    callback=_words,
    help="Families, by comma; FAMILY:native without the ONNX form.",
)
@click.option("--workers", default="1,2", show_default=True, callback=_words)
@click.option(
    "--servers",
    default="",
    callback=_words,
    help=f"Parts of names, by comma; all of: {', '.join(SERVERS)}.",
)
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(1, 60),
    help="Of each measurement.",
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1, 20),
    help="Turns of all servers at 32 connections; the median counts.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the models there, and take those that are there; else a temporary folder.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    models: tuple[str, ...],
    workers: tuple[str, ...],
    servers: tuple[str, ...],
    seconds: float,
    rounds: int,
    home: Path | None,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Measure the server beside granian's empty handler, MLflow, BentoML, FastAPI and Ray Serve."""
    rows: list[dict[str, Any]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are ended
    try:
        for wanted in models:
            family, _, form = wanted.partition(":")
            for number in map(int, workers):
                rows += run(family, form == "native", number, servers, seconds, rounds, home)
    except load.LoadFault as fault:
        raise click.ClickException(str(fault)) from None
    show([{k: v for k, v in row.items() if k != "requests"} for row in rows])
    show(ratios(rows))
    show(aims(rows))
    if json_path is not None:
        write(rows, json_path)


def run(
    family: str,
    native: bool,
    workers: int,
    wanted: Sequence[str],
    seconds: float,
    rounds: int,
    home: Path | None = None,
) -> list[dict[str, Any]]:
    """One row for each server and kind of load; latencies in milliseconds."""
    names = [n for n in SERVERS if not wanted or any(w.lower() in n.lower() for w in wanted)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as scratch, ExitStack() as stack:
        place = (home or Path(scratch)).absolute() / (family + "-native" * native)
        model = prepare(place, family, native=native)
        running: dict[str, Running] = {}
        for name in names:
            try:
                running[name] = stack.enter_context(SERVERS[name](model, workers))
            except PeerFault as fault:
                click.echo(f"{name}: {fault}", err=True)

        def add(name: str, kind: str, figures: dict[str, Any], memory: float | None = None) -> None:
            about = {"server": name, "model": model.label, "workers": workers, "load": kind}
            rows.append(about | figures | {"MB": memory})
            click.echo(f"{name}, {workers}, {kind}: {figures['requests/s']:.0f}/s", err=True)

        for server in running.values():  # warm
            _closed(server, 1, 32, 1.0)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, server in running.items():
                turns[name].append(_closed(server, 1, 32, seconds))
        for name, server in running.items():
            add(name, "32", _median(turns[name]), server.memory_mb())
        # before the others, which leave telemetry of millions of rows to be caught up with
        for name, server in running.items():
            rate = 0.7 * _median(turns[name])["requests/s"]
            found = load.at_rate(
                server.port, server.path, server.body(1), rate=rate, seconds=seconds
            )
            add(name, "70 %", found)
        for name, server in running.items():
            add(name, "256", _closed(server, 1, 256, seconds))
        for name, server in running.items():
            add(name, "100 rows", _closed(server, 100, 32, seconds))
    return rows


def _closed(server: Running, rows: int, connections: int, seconds: float) -> dict[str, Any]:
    before = server.cpu_seconds()
    found = load.wrk(
        server.port, server.path, server.body(rows), connections=connections, seconds=seconds
    )
    spent = server.cpu_seconds() - before
    return found | {"CPU us": spent / max(found["requests"], 1) * 1e6}


def _median(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several turns as one row; errors are added up."""
    row = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return row | {key: sum(turn[key] for turn in turns) for key in ("requests", "errors")}
