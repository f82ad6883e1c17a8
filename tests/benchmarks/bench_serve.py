"""Requests a second of the inference server, everything on: validation, ids, telemetry.

    everfit bench serve
    everfit bench serve --set 'families=["mlp"]' --set workers=2 --set peer=true

Each model is trained on made-up rows of 20 numbers, registered, and served by a process of its
own; a closed-loop client (each connection waits for its answer) sends single rows, then batches of
100.
`peer=true` measures `mlflow models serve` on the same model by the same client. Client and server
share the machine's cores, so figures are a lower bound of the server's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = [f"x{i}" for i in range(20)]
CONFIG = """\
name: bench
data:
  source: rows.csv
  target: y
  columns: {%s}
  classes: [0, 1]
train: {families: [%s]}
"""


def run(
    json_path: Path | None = None,
    *,
    families: Sequence[str] = ("logistic", "hgb", "mlp"),
    connections: int = 32,
    seconds: float = 5.0,
    workers: int = 1,
    peer: bool = False,
) -> list[dict[str, Any]]:
    """One row for each server, model and batch size; latencies in milliseconds."""
    rows = []
    for family in families:
        with tempfile.TemporaryDirectory(prefix="bench-serve-") as home:
            path, model = _prepare(Path(home), family)
            servers = [("everfit", _everfit(path, workers))]
            if peer:
                servers.append(("mlflow models serve", _mlflow(model, workers)))
            for name, server in servers:
                with server as port:
                    for batch in (1, 100):
                        measured = asyncio.run(_load(port, _request(batch), connections, seconds))
                        rows.append(
                            {"server": name, "model": family, "workers": workers, "rows": batch}
                            | measured
                        )
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _prepare(home: Path, family: str) -> tuple[Path, Path]:
    """A config with one champion, and the folder of its MLflow model."""
    import pandas as pd

    from models import families
    from models.records import Verdict
    from models.registry import Registry
    from models.schema import Column, Schema
    from models.training import fit_bundle
    from tasks.config import load

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2_000, len(COLUMNS))), columns=COLUMNS)
    frame["y"] = (frame[COLUMNS].sum(axis=1) + rng.normal(size=len(frame)) > 0).astype(int)
    frame.to_csv(home / "rows.csv", index=False)
    path = home / "bench.yaml"
    path.write_text(CONFIG % (", ".join(f"{c}: number" for c in COLUMNS), family))
    config = load(path)
    schema = Schema(tuple(Column(c, "number") for c in COLUMNS), target="y", classes=(0, 1))
    (params,) = families.defaults([family])
    folder = config.folder / "bundle"
    candidate = fit_bundle(frame, schema, params, folder=folder, seed=0)
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    now = datetime.now(UTC)
    made = registry.register(folder, candidate, verdict, window_id="bench", now=now)
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    (marker,) = config.artifacts.rglob("MLmodel")
    return path, marker.parent


@contextmanager
def _everfit(path: Path, workers: int) -> Iterator[int]:
    port = _free_port()
    code = (
        "from deployments.serving.run import serve; "
        f"serve({str(path)!r}, port={port}, workers={workers})"
    )
    with _process([sys.executable, "-c", code], port, "/v2/health/ready"):
        yield port


@contextmanager
def _mlflow(model: Path, workers: int) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model)]
    command += ["--env-manager", "local", "--port", str(port), "--workers", str(workers)]
    with _process(command, port, "/ping"):
        yield port


@contextmanager
def _process(command: list[str], port: int, health: str) -> Iterator[None]:
    import httpx

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},  # mlflow calls uvicorn by name
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not become ready")
            try:
                if httpx.get(f"http://127.0.0.1:{port}{health}", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _request(rows: int) -> bytes:
    data = np.random.default_rng(1).normal(size=(rows, len(COLUMNS))).round(4).tolist()
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": data}}).encode()
    head = (
        "POST /invocations HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _load(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Send `request` over so many kept-alive connections; the first second is not counted."""
    times: list[float] = []
    errors = [0]
    begin = time.perf_counter() + 1.0
    end = begin + seconds
    await asyncio.gather(
        *(_connection(port, request, begin, end, times, errors) for _ in range(connections))
    )
    ms = np.array(times) * 1000
    p50, p95, p99 = np.percentile(ms, [50, 95, 99]) if len(ms) else (np.nan,) * 3
    return {
        "requests/s": len(ms) / seconds,
        "p50 ms": float(p50),
        "p95 ms": float(p95),
        "p99 ms": float(p99),
        "errors": errors[0],
    }


async def _connection(
    port: int, request: bytes, begin: float, end: float, times: list[float], errors: list[int]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (started := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.lower().split(b"content-length:")
            await reader.readexactly(int(fields[1].split(b"\r\n")[0]))
            if started < begin:
                continue
            times.append(time.perf_counter() - started)
            errors[0] += not head.startswith(b"HTTP/1.1 200")
    except (OSError, asyncio.IncompleteReadError):
        errors[0] += 1
    finally:
        writer.close()
