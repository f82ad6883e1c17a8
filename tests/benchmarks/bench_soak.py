"""The server at 70 % load, with a swap every few seconds and a worker killed again and again.

    everfit bench soak                   # ten minutes
    everfit bench soak --seconds 90

Every answer is checked against what the version that it names must say, every acknowledged label
and every answered row is looked for in the store afterwards. Server, customers and registry share
this machine's cores; the load is 70 % of what the customers got out of the server before.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write
from tests.benchmarks import processes

CONFIG = """\
name: flights
data:
  source: rows.csv
  target: late
  columns: {wind: number, carrier: category}
  classes: ["on time", "late"]
train: {families: [logistic]}
serving: {poll_seconds: 0.2, workers: %d}
runs: runs
"""
ROWS = [{"wind": float(wind), "carrier": c} for wind in range(0, 40, 2) for c in ("AA", "B6", "EV")]
ROOT = Path(__file__).resolve().parents[2]
WRITE = 0.25 + 0.5  # seconds: the writer's patience, and a slow disk


@dataclass
class Timeline:
    """What was done to the server, and what it weighed."""

    kills: list[float] = field(default_factory=list)
    swaps: int = 0
    taken: list[float] = field(default_factory=list)  # seconds from a promotion to its answers
    memory: list[float] = field(default_factory=list)  # MB of the largest worker


@click.command(cls=Command)
@click.option("--seconds", default=600.0, show_default=True, type=click.FloatRange(20, 86_400))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--swap-every", default=5.0, show_default=True, type=click.FloatRange(0.5))
@click.option("--kill-every", default=30.0, show_default=True, type=click.FloatRange(2))
@click.option("--load", default=0.7, show_default=True, type=click.FloatRange(0.05, 1))
@click.option("--rate", type=click.FloatRange(1), help="Requests a second, instead of --load.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    seconds: float,
    workers: int,
    swap_every: float,
    kill_every: float,
    load: float,
    rate: float | None,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Soak the server: swaps and kills under load, and nothing lost that was promised."""
    figures = run(
        seconds=seconds,
        workers=workers,
        swap_every=swap_every,
        kill_every=kill_every,
        load=load,
        rate=rate,
    )
    show([{"figure": name, "": value} for name, value in figures.items()])
    if json_path is not None:
        write(figures, json_path)


def run(
    *,
    seconds: float = 600.0,
    workers: int = 2,
    swap_every: float = 5.0,
    kill_every: float = 30.0,
    load: float = 0.7,
    rate: float | None = None,
) -> dict[str, Any]:
    """All figures of one soak."""
    from deployments.processes import free_port
    from deployments.stack import inference_server
    from models.bundle import Predictor
    from models.registry import Registry
    from tasks.config import load as load_config
    from tests import registry_parts as parts
    from tests.benchmarks.soak.verdict import Notes, failures, telemetry

    with tempfile.TemporaryDirectory(prefix="everfit-soak-") as place:
        folder = Path(place)
        (folder / "rows.csv").write_text("wind,carrier,late\n")
        (folder / "flights.yaml").write_text(CONFIG % workers)
        port = free_port()
        config = load_config(folder / "flights.yaml", serving__port=port)
        registry = Registry(config.registry_url, config.name, config.artifacts)
        versions = [parts.register(registry, number) for number in range(2)]
        columns = {name: [row[name] for row in ROWS] for name in ("wind", "carrier")}
        right = {
            version: Predictor.load(parts.candidates()[number].bundle)
            .predict_proba(columns)[:, 1]
            .tolist()
            for number, version in enumerate(versions)
        }
        parts.promote(registry, versions[0], None)
        plan = {"port": port, "rows": ROWS, "right": right, "connections": 64, "label_every": 20}
        with inference_server(folder / "flights.yaml", port) as server:
            _until(lambda: _served(port) == versions[0])
            for before, after in (versions, versions[::-1]):  # both are fetched, as of then
                parts.promote(registry, after, before)
                _until(lambda version=after: _served(port) == version)
            full = _asked(folder, "full", plan, seconds=5.0, rate=0.0)
            most = full.right / 5.0
            rate = rate or load * most
            click.echo(f"{most:.0f} requests/s at most, {rate:.0f} from now on", err=True)
            quiet = _asked(folder, "quiet", plan, seconds=max(10.0, seconds / 20), rate=rate)
            timeline = Timeline()
            with _customers(folder, "soak", plan, seconds, rate) as customers:
                _drill(
                    customers,
                    server.process.pid,
                    registry,
                    versions,
                    timeline,
                    port,
                    swap_every,
                    kill_every,
                )
            soak = Notes(folder / "soak")
            restarts = _restarts(port)
        stored, labels = _stored(config)
        promise = config.serving.flush_seconds + WRITE
        memory = timeline.memory
        middle = len(memory) // 2
        return {
            "seconds": seconds,
            "workers": workers,
            "requests/s": round(len(soak.outcome) / seconds),
            "of at most": round(most),
            "swaps": timeline.swaps,
            "seconds a swap": round(statistics.median(timeline.taken or [float("nan")]), 2),
            "kills": len(timeline.kills),
            "restarts": restarts,
            **failures(soak, timeline.kills),
            "failed while quiet": failures(quiet, [])["failed else"],
            **telemetry(soak, timeline.kills, stored, labels, "soak", promise),
            "versions that answered": ", ".join(soak.versions),
            "p50 ms quiet": quiet.quantile(0.5),
            "p50 ms soaking": soak.quantile(0.5),
            "p99 ms quiet": quiet.quantile(0.99),
            "p99 ms soaking": soak.quantile(0.99),
            "MB early": round(max(memory[:middle]), 1),
            "MB late": round(max(memory[middle:]), 1),
        }


@contextlib.contextmanager
def _customers(folder: Path, name: str, plan: dict[str, Any], seconds: float, rate: float) -> Any:
    out = folder / name
    more = {"seconds": seconds, "rate": rate, "prefix": name, "out": str(out), "seed": 0}
    (folder / f"{name}.plan").write_text(json.dumps(plan | more))
    command = [sys.executable, "-m", "tests.benchmarks.soak.client", str(folder / f"{name}.plan")]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
        process.wait(seconds + 120)
        if process.returncode:
            raise RuntimeError(f"the customers ended with code {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _asked(folder: Path, name: str, plan: dict[str, Any], *, seconds: float, rate: float) -> Any:
    from tests.benchmarks.soak.verdict import Notes

    with _customers(folder, name, plan, seconds, rate):
        pass
    return Notes(folder / name)


def _drill(
    customers: subprocess.Popen[bytes],
    server: int,
    registry: Any,
    versions: list[str],
    timeline: Timeline,
    port: int,
    swap_every: float,
    kill_every: float,
) -> None:
    """Swap and kill until the customers are done; a swap waits until the one before is done."""
    from tests import registry_parts as parts

    rng = random.Random(0)
    now = time.monotonic()
    swap, kill, look = now + swap_every, now + kill_every, now
    due, promoted = "", now  # the version that has been promoted, until a worker answers with it
    while customers.poll() is None:
        now = time.monotonic()
        alive = _workers(server)
        if now >= look:
            look = now + 1.0
            timeline.memory.append(max((_resident(pid) for pid in alive), default=0.0))
        if due and _served(port) == due:
            due = ""
            timeline.swaps += 1
            timeline.taken.append(now - promoted)
        if now >= swap and not due:
            swap, promoted = max(swap + swap_every, now), now
            before, due = (versions[(timeline.swaps + n) % 2] for n in (0, 1))
            parts.promote(registry, due, before)
        if now >= kill and alive:
            kill += kill_every
            os.kill(rng.choice(alive), signal.SIGKILL)
            timeline.kills.append(time.monotonic())
        time.sleep(0.02)


def _workers(guard: int) -> list[int]:
    """The workers: children of the server, which is the child of its guard."""
    return [w for server in processes.children(guard) for w in processes.workers(server)]


def _served(port: int) -> str | None:
    """The version that the worker says which happens to answer."""
    import httpx

    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5)
    except httpx.TransportError:
        return None
    return answer.json().get("model_version") if answer.status_code == 200 else None


def _resident(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _until(condition: Callable[..., bool], patience: float = 180.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the server is not ready in time")
        time.sleep(0.1)


def _restarts(port: int) -> str:
    import httpx

    text, deadline = "", time.monotonic() + 60
    while not text and time.monotonic() < deadline:  # a kill at the end may have left nobody
        with contextlib.suppress(httpx.TransportError):
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    mark = "everfit_worker_restarts_total{"
    return ", ".join(
        line.removeprefix(mark).replace('reason="', "").replace('"}', "")
        for line in text.splitlines()
        if line.startswith(mark)
    )


def _stored(config: Any) -> tuple[set[str], dict[str, Any]]:
    """Ids and labels in the store; what was still on disk at the end is sent to it first."""
    from sqlalchemy import select

    from deployments.serving.spool import Spool
    from monitoring.storage import from_json
    from monitoring.tables import labels, predictions
    from monitoring.telemetry import TelemetryStore

    with TelemetryStore(config.store_url) as store:
        spool = Spool(config.folder / "spool", 1 << 40)
        spool.adopt()
        while (segment := spool.next()) is not None:
            for batch in spool.read(segment):
                store.record_encoded(batch.data, batch.rows)
            spool.done(segment)
        with store.database.read() as connection:
            ids = set(connection.scalars(select(predictions.c.id)))
            known = connection.execute(select(labels.c.id, labels.c.value)).all()
    return ids, {id_: from_json(value) for id_, value in known}
