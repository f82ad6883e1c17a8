"""Latency and throughput through the server: HTTP, validation, ids and telemetry included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.compress.tables import Task
from tests.benchmarks.serve import load, servers

ROUNDS = 3

CONFIG = """\
name: bench
task: {task}
data:
  source: rows.csv
  target: target
  columns: {columns}
  classes: {classes}
train: {{families: [{family}]}}
"""


@dataclass(frozen=True)
class Place:
    """As much of a prepared model as starting a server needs."""

    config: Path


def registered(task: Task, predictor: Any, bundle: Path, family: str, home: Path) -> Place:
    """A config under `home` whose champion is the bundle."""
    from models.records import Candidate, Verdict
    from models.registry import Registry
    from tasks.config import load as read

    home.mkdir(parents=True, exist_ok=True)
    task.train.head(1_000).to_csv(home / "rows.csv", index=False)
    path = home / "bench.yaml"
    columns = {column.name: column.kind for column in task.schema.columns}
    text = CONFIG.format(
        task="text" if task.text else "table",
        columns=json.dumps(columns),
        classes=json.dumps(list(task.schema.classes)),
        family=family,
    )
    path.write_text(text, encoding="utf-8")
    config = read(path)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    candidate = Candidate(
        bundle=str(bundle),
        digest=predictor.digest,
        family=family,
        params={"family": family},
        rows=len(task.train),
        trained_from=None,
        trained_through=None,
        data_digest="",
        seconds=0.0,
        metrics={},
    )
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    now = datetime.now(UTC)
    made = registry.register(bundle, candidate, verdict, window_id="bench", now=now)
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    return Place(path)


def body(task: Task) -> Callable[[int], bytes]:
    """Requests of so many of the test rows."""
    columns = [column.name for column in task.schema.columns]

    def of(count: int) -> bytes:
        rows = task.test[columns].head(count)
        data = json.loads(rows.to_json(orient="values"))
        return json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()

    return of


def measured(places: dict[str, Place], task: Task, seconds: float) -> list[dict[str, Any]]:
    """One line for each model: they take turns, the median of the rounds counts."""
    import statistics
    from contextlib import ExitStack

    bodies = {count: body(task)(count) for count in (1, 100)}
    kinds = {"1 at a time": (1, 1), "32 at a time": (1, 32), "100 rows": (100, 4)}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in places}
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(servers.everfit()(place, 1))  # type: ignore[arg-type]
            for name, place in places.items()
        }
        for server in running.values():
            load.wrk(server.port, server.path, bodies[100], connections=4, seconds=1)
        memory = {name: server.memory_mb() for name, server in running.items()}
        for _ in range(ROUNDS):
            for kind, (rows, connections) in kinds.items():
                for name, server in running.items():
                    turn = load.wrk(
                        server.port,
                        server.path,
                        bodies[rows],
                        connections=connections,
                        seconds=seconds,
                    )
                    found[name].setdefault(kind, []).append(turn)
    out = []
    for name, turns in found.items():
        line: dict[str, Any] = {"data": task.name, "method": name}
        for kind, many in turns.items():
            line[f"{kind}: p50 ms"] = round(statistics.median(t["p50 ms"] for t in many), 3)
            line[f"{kind}: requests/s"] = round(statistics.median(t["requests/s"] for t in many))
        line["errors"] = sum(t["errors"] for many in turns.values() for t in many)
        line["MB"] = round(memory[name])
        out.append(line)
    return out
