"""What the chosen models take at a server: asked in turns, at a fixed rate, over HTTP."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.objectives.arms import Made, Rows
from tests.benchmarks.serve import load, servers
from tests.benchmarks.serve.models import Prepared

BATCH, ROUNDS = 100, 3


def measure(
    made: Sequence[Made], rows: Rows, *, seconds: float, rate: int
) -> dict[str, dict[str, float]]:
    """Latencies, CPU share and memory of each arm's server, the medians of `ROUNDS` turns."""
    bodies = {count: _body(rows, count) for count in (1, BATCH)}
    rates = {1: rate, BATCH: max(rate // 5, 1)}
    turns: dict[str, list[dict[str, float]]] = {one.arm: [] for one in made}
    with ExitStack() as stack:
        start = servers.everfit()
        running = {
            one.arm: stack.enter_context(start(Prepared(one.arm, one.path, Path(), None), 1))
            for one in made
        }
        for server in running.values():  # warm
            load.wrk(server.port, server.path, bodies[1], connections=2, seconds=1.0)
        for _ in range(ROUNDS):
            for arm, server in running.items():
                found: dict[str, float] = {"server_mb": server.memory_mb()}
                for count, body in bodies.items():
                    found |= _asked(server, body, count, rates[count], seconds)
                turns[arm].append(found)
    return {
        arm: {name: statistics.median(turn[name] for turn in told) for name in told[0]}
        for arm, told in turns.items()
    }


def _asked(
    server: servers.Running, body: bytes, count: int, rate: int, seconds: float
) -> dict[str, float]:
    cpu, began = server.cpu_seconds(), time.monotonic()
    told = load.at_rate(server.port, server.path, body, rate=rate, seconds=seconds, connections=8)
    wall = time.monotonic() - began
    if told["errors"]:
        raise load.LoadFault(f"{told['errors']} requests failed at {rate}/s: see the server's log")
    kind = f"{count}_row" if count == 1 else f"{count}_rows"
    return {
        f"{kind}_p50_ms": told["p50 ms"],
        f"{kind}_p95_ms": told["p95 ms"],
        f"{kind}_cpu_share": (server.cpu_seconds() - cpu) / wall,
    }


def _body(rows: Rows, count: int) -> bytes:
    """The first of the later rows, as plain values."""
    names = [column.name for column in rows.schema.columns]
    plain: list[list[Any]] = [
        [None if value != value or value is None else value for value in row]  # noqa: PLR0124 - NaN
        for row in rows.after[names].head(count).astype(object).to_numpy().tolist()
    ]
    return json.dumps({"dataframe_split": {"columns": names, "data": plain}}).encode()
