"""Swaps under load, and the way back: no request lost, no answer wrong, no memory kept.

    everfit bench swap
    everfit bench swap --set swaps=200 --set workers=2 --set clients=8

A real server in a process of its own follows a real registry in which the champion changes hands
again and again, while clients ask all the time and check each answer against the version that it
names. Then a new champion bakes, and `everfit rollback` is timed from the command to the first
answer by the old version. Clients, server and command share the machine's cores.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.swap.clients import ROWS, Load

CONFIG = """\
name: flights
data:
  source: rows.csv
  target: late
  columns: {wind: number, carrier: category}
  classes: ["on time", "late"]
train: {families: [logistic]}
serving: {poll_seconds: 0.05, workers: %d}
rollout: {bake: 1h}
runs: runs
"""
SETTLE = 20  # swaps before memory is first looked at: caches and allocators have filled


def run(
    json_path: Path | None = None,
    *,
    swaps: int = 200,
    clients: int = 4,
    workers: int = 1,
    quiet_seconds: float = 5.0,
) -> list[dict[str, Any]]:
    """One row: what became of the requests, the latencies, the memory and the way back."""
    from deployments.processes import free_port
    from deployments.stack import inference_server
    from models.bundle import Predictor
    from models.registry import Registry
    from tasks.config import load
    from tests import registry_parts as parts

    with tempfile.TemporaryDirectory(prefix="everfit-swap-") as place:
        folder = Path(place)
        (folder / "rows.csv").write_text("wind,carrier,late\n")
        (folder / "flights.yaml").write_text(CONFIG % workers)
        port = free_port()
        config = load(folder / "flights.yaml", serving__port=port)
        registry = Registry(config.registry_url, config.name, config.artifacts)
        versions = [parts.register(registry, number) for number in range(3)]
        columns = {name: [row[name] for row in ROWS] for name in ("wind", "carrier")}
        right = {
            version: Predictor.load(parts.candidates()[number].bundle).predict_proba(columns)[:, 1]
            for number, version in enumerate(versions)
        }
        parts.promote(registry, versions[0], None)
        with inference_server(folder / "flights.yaml", port) as server:
            until(port, versions[0])
            with Load(port, clients, right) as load_:
                time.sleep(quiet_seconds)
                quiet = load_.take()
                memory, taken = [], []
                for number in range(swaps):
                    before, after = versions[number % 2], versions[(number + 1) % 2]
                    began = time.monotonic()
                    parts.promote(registry, after, before)
                    until(port, after)
                    taken.append(time.monotonic() - began)
                    memory.append(resident(server.process.pid))
                busy = load_.take()
                champion = versions[swaps % 2]
                way_back = rolled_back(folder, config, registry, load_, champion, versions[2])
                after = load_.take()
        settled = memory[min(SETTLE, len(memory) // 4) :]
        figures = {
            "swaps": swaps,
            "workers": workers,
            "seconds a swap": round(float(np.median(taken)), 2),
            "requests": sum(len(part.latencies) for part in (quiet, busy, after)),
            "failed": sum(part.failed for part in (quiet, busy, after)),
            "wrong": sum(part.wrong for part in (quiet, busy, after)),
            "p99 ms quiet": quiet.p99,
            "p99 ms swapping": busy.p99,
            "MB settled": round(settled[0] / 2**20, 1),
            "MB at the end": round(float(np.median(settled[-5:])) / 2**20, 1),
            "growth %": round(100 * (float(np.median(settled[-5:])) / settled[0] - 1), 1),
            **way_back,
        }
    return [figures]


def rolled_back(
    folder: Path, config: Any, registry: Any, load_: Load, before: str, after: str
) -> dict[str, Any]:
    """Promote `after`, let it bake, and take it back by the command."""
    from deployments.stack import python
    from models.registry_stages import Staged
    from tests import registry_parts as parts

    port = config.serving.port
    parts.promote(registry, after, before)
    at = datetime.now(UTC).isoformat()
    baking = Staged("bake", 0, 0.0, at, at, before, "w2")
    registry.stage(after, baking, expected=None)
    until(port, after)
    while beside(port)["previous"] != before:
        time.sleep(0.02)
    began = time.monotonic()
    command = [*python("deployments"), "rollback", str(folder / "flights.yaml")]
    ended = subprocess.run(
        [*command, "--port", str(port), "--why", "the drill"], check=False, capture_output=True
    )
    whole = time.monotonic() - began
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode())
    first = load_.first(before, began)
    return {
        "rollback: first answer s": round(first - began, 2) if first else None,
        "rollback: recorded s": round(whole, 1),
        "champion": registry.champion().version == before,
    }


def about(port: int) -> dict[str, Any]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        client.request("GET", "/v2/models/flights")
        return dict(json.load(client.getresponse()))
    finally:
        client.close()


def beside(port: int) -> dict[str, Any]:
    return dict(about(port)["parameters"]["beside"])


def until(port: int, version: str, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while (about(port).get("versions") or [None])[0] != version:
        if time.monotonic() > deadline:
            raise RuntimeError(f"version {version} has not taken over: {about(port)}")
        time.sleep(0.01)


def resident(pid: int) -> int:
    """Bytes of the largest process that `pid` has started: a worker."""
    found, todo = [0], [pid]
    while todo:
        one = todo.pop()
        try:
            todo += [int(p) for p in children(one)]
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    found.append(int(line.split()[1]) * 1024)
        except OSError:
            continue
    return max(found)


def children(pid: int) -> Sequence[str]:
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
