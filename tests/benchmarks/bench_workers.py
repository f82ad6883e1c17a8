"""Every way in which a worker can end, done to one of two: how long it is missed, and at what cost.

    everfit bench workers

A server of two workers has a model that does what it is told: crash in native code, stand still in
the loop, in a thread, or in native code that keeps the lock, grow. A customer asks all
the time on connections of its own. `seconds` is from the blow to two workers that answer again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

from tests.benchmarks.processes import listens, workers

CONFIG = """\
name: faulty
data: {source: rows.csv, target: y, columns: {x: number}, classes: [0, 1]}
train: {families: [logistic]}
serving: {port: %d, workers: 2, hang_seconds: %s, memory_mb: 250, poll_seconds: 0.2}
"""
ROOT = Path(__file__).resolve().parents[2]
CRASH, HANG, HANG_LOCKED, GROW = -1.0, -2.0, -3.0, -4.0  # as in faulty_server.py
PATIENCE = 180.0


def run(json_path: Path | None = None, *, hang_seconds: float = 5.0) -> list[dict[str, Any]]:
    """One row for each way."""
    from deployments.commands.bench import write
    from deployments.processes import free_port

    with tempfile.TemporaryDirectory(prefix="everfit-workers-") as place:
        folder, port = Path(place), free_port()
        (folder / "rows.csv").write_text("x,y\n1,0\n")
        (folder / "faulty.yaml").write_text(CONFIG % (port, hang_seconds))
        with open(folder / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "tests/simulation/faulty_server.py", str(folder / "faulty.yaml")],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            rows = _drills(process.pid, Server(f"http://127.0.0.1:{port}"), folder)
        except RuntimeError:
            click.echo((folder / "log").read_text(encoding="utf-8")[-3_000:], err=True)
            raise
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if json_path is not None:
        write(rows, json_path)
    return rows


class Server:
    """What can be asked of it, on a new connection each time."""

    def __init__(self, url: str) -> None:
        self.url = url

    def tell(self, what: float, rows: int = 1) -> int | None:
        """The status; None when the connection broke, or there was none."""
        try:
            body = {"inputs": [[what]] * rows}
            return httpx.post(f"{self.url}/invocations", json=body, timeout=60).status_code
        except httpx.TransportError:
            return None

    def figure(self, name: str) -> float:
        try:
            text = httpx.get(f"{self.url}/metrics", timeout=2).text
        except httpx.TransportError:
            return 0.0
        return next((float(x.split()[-1]) for x in text.splitlines() if x.startswith(name)), 0.0)

    def beating(self, parent: int) -> bool:
        """Whether two workers are there, and both wait for connections."""
        alive = self.figure('everfit_workers{state="alive"}') == 2.0
        return alive and len(workers(parent)) == 2 and all(map(listens, workers(parent)))


def _drills(parent: int, server: Server, folder: Path) -> list[dict[str, Any]]:
    _until(lambda: server.beating(parent))
    stop, answers = threading.Event(), []

    def customer() -> None:
        while not stop.is_set():
            answers.append(server.tell(1.0))
            time.sleep(0.01)

    thread = threading.Thread(target=customer, daemon=True)
    thread.start()
    _until(lambda: bool(list(folder.rglob("proven.json"))))
    drills: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("kill -9", "SIGKILL", lambda: os.kill(workers(parent)[0], signal.SIGKILL)),
        ("crash in native code", "SIGSEGV", lambda: server.tell(CRASH)),
        ("loop stands still, lock held", "exit 1", lambda: server.tell(HANG_LOCKED)),
        ("thread stands still", "exit 70", lambda: server.tell(HANG, rows=9_900)),
        ("stopped", "SIGKILL", lambda: os.kill(workers(parent)[0], signal.SIGSTOP)),
        ("grown beyond its bound", "memory", lambda: server.tell(GROW)),
    )
    rows = []
    for name, reason, blow in drills:
        place = f'everfit_worker_restarts_total{{reason="{reason}"}}'
        before, asked, began = server.figure(place), len(answers), time.monotonic()
        blow()
        _until(lambda p=place, b=before: server.figure(p) > b and server.beating(parent))
        took = time.monotonic() - began
        click.echo(f"{name}: {took:.1f} s", err=True)
        since = answers[asked:]
        rows.append(
            {
                "what": name,
                "told as": reason,
                "seconds": round(took, 1),
                "asked meanwhile": len(since),
                "not answered": sum(a is None for a in since),
                "answered wrongly": sum(a not in (200, None) for a in since),
            }
        )
    stop.set()
    thread.join()
    return rows


def _until(condition: Callable[..., bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the workers did not come back in time")
        time.sleep(0.05)
