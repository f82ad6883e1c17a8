"""Requests a second and latency of models of texts through the server, beside MLflow's own.

Each model is trained on the file's first four fifths, registered, promoted and served; the load is
the last fifth's texts, another one with each request, over 32 connections in a closed loop (wrk,
Debian's package), one text a request and then 100, and in an open loop at 70 % of what the server
managed, where a latency counts from when the request was due. All in one run, over the loopback.
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
from tests.benchmarks.serve import load, servers
from tests.benchmarks.serve.texts import FILES, Texts, prepare

SERVERS = {
    "everfit": servers.everfit(),
    "everfit, no telemetry": servers.everfit(telemetry=False),
    "mlflow models serve": servers.mlflow,
}


def _words(_: Any, __: Any, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(cls=Command)
@click.option("--families", default="tfidf,textnet", show_default=True, callback=_words)
@click.option(
    "--files",
    default=",".join(FILES),
    show_default=True,
    callback=_words,
    help="Of the folder in EVERFIT_DATA.",
)
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(1, 60))
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1, 20),
    help="Turns of all servers at one text a request; the median counts.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    families: tuple[str, ...],
    files: tuple[str, ...],
    seconds: float,
    rounds: int,
    json_path: Path | None,
) -> None:
    """Measure models of texts through the server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are ended
    rows: list[dict[str, Any]] = []
    try:
        for file in files:
            for family in families:
                rows += measured(file, family, seconds, rounds)
    except load.LoadFault as fault:
        raise click.ClickException(str(fault)) from None
    show([{k: v for k, v in row.items() if k != "requests"} for row in rows])
    if json_path is not None:
        write(rows, json_path)


def measured(file: str, family: str, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """One row for each server and kind of load; latencies in milliseconds."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-text-") as scratch, ExitStack() as stack:
        texts = prepare(Path(scratch), file, family)
        running: dict[str, servers.Running] = {}
        for name, start in SERVERS.items():
            try:
                running[name] = stack.enter_context(start(texts.prepared, 1))
            except PeerFault as fault:
                click.echo(f"{name}: {fault}", err=True)
        for server in running.values():  # warm
            _closed(server, texts, 1, 1.0)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, server in running.items():
                turns[name].append(_closed(server, texts, 1, seconds))
        for name, server in running.items():
            about = {"server": name, "model": texts.prepared.label, "file": file}
            about |= {"characters": texts.characters, "error": texts.error}
            single = _median(turns[name])
            memory = {"MB": server.memory_mb()}
            rows.append({**about, "load": "32", **single, **memory})
            rows.append({**about, "load": "100 rows", **_closed(server, texts, 100, seconds)})
            at = load.at_rate(
                server.port,
                server.path,
                texts.typical,
                rate=0.7 * single["requests/s"],
                seconds=seconds,
            )
            rows.append({**about, "load": "70 %", **at})
            click.echo(
                f"{name}, {texts.prepared.label}, {file}: {single['requests/s']:.0f}/s", err=True
            )
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _closed(server: servers.Running, texts: Texts, rows: int, seconds: float) -> dict[str, Any]:
    before = server.cpu_seconds()
    bodies = texts.bodies(rows)
    found = load.wrk(server.port, server.path, bodies, connections=32, seconds=seconds)
    spent = server.cpu_seconds() - before
    return found | {"CPU us": spent / max(found["requests"], 1) * 1e6}


def _median(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several turns as one row; errors are added up."""
    row = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return row | {key: sum(turn[key] for turn in turns) for key in ("requests", "errors")}
