"""From a decision's event to the running retrain, through a real server, automation and runner.

    everfit bench trigger
    everfit bench trigger --set tries=20

A Prefect server on SQLite and a runner, each a process of its own, work one model. An event as a
check emits it asks for a retrain, and it is measured how long it takes until the run is RUNNING in
a process of its own. `created` is until the automation has made the run, `taken` until the runner
has begun to start its process. The windows are noted as retrained before, so that each run ends
when it has looked for its window; what is measured lies before that.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tasks.config import Config

CONFIG = """\
name: flights
data:
  source: rows.csv
  target: late
  columns: {wind: number, hour: number}
  classes: ["on time", "late"]
train: {families: [logistic], trials: 2, warm_trials: 2, parallel: 1}
gate: {rows: 150, minimum_rows: 50, resamples: 200}
schedule: {safety: never, report: never, reconcile: never}
serving: {port: %d}
runs: runs
"""


def run(
    json_path: Path | None = None, *, tries: int = 10, patience: float = 300.0
) -> list[dict[str, Any]]:
    """One row: median and longest of the tries, in seconds."""
    del json_path
    from deployments import environment
    from deployments.processes import free_port, running
    from deployments.stack import python

    with tempfile.TemporaryDirectory(prefix="everfit-trigger-") as place:
        folder = Path(place)
        write(folder, free_port())
        home, port = folder / "prefect", free_port()
        env = environment.child(
            PREFECT_HOME=str(home),
            PREFECT_API_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        )
        env.pop("PREFECT_API_URL", None)
        home.mkdir()
        command = [*python("prefect"), "server", "start", "--host", "127.0.0.1"]
        with running(
            "the Prefect server",
            [*command, "--port", str(port)],
            url=f"http://127.0.0.1:{port}",
            health="/api/health",
            log=home / "server.log",
            env=env,
            timeout=patience,
        ):
            return [measured(f"http://127.0.0.1:{port}/api", folder, tries, patience)]


def measured(api: str, folder: Path, tries: int, patience: float) -> dict[str, Any]:
    from deployments import environment
    from tasks.config import load

    retrained(load(folder / "flights.yaml"), tries)
    beat, log = folder / "beat", folder / "runner.log"
    env = environment.child(
        PREFECT_API_URL=api, PREFECT_HOME=str(folder / "prefect"), EVERFIT_BEAT=str(beat)
    )
    command = [sys.executable, "-P", "-m", "deployments.runner", str(folder / "flights.yaml")]
    with log.open("ab") as output:
        runner = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        wait(lambda: beat.exists() or runner.poll() is not None, patience, "the runner")
        if runner.poll() is not None:
            raise RuntimeError(f"the runner ended: {log.read_text()[-500:]}")
        with httpx.Client(base_url=api, timeout=30, trust_env=False) as http:
            seconds = [one(http, f"w{number}", patience) for number in range(tries)]
    finally:
        runner.terminate()
        runner.wait(timeout=60)
    row: dict[str, Any] = {"tries": tries}
    for name in ("created", "taken", "running"):
        values = [times[name] for times in seconds]
        row[f"{name} s"] = statistics.median(values)
        row[f"{name} s, longest"] = max(values)
    row["load"] = os.getloadavg()[0]
    return row


def one(http: httpx.Client, window: str, patience: float) -> dict[str, float]:
    """Seconds from the event of `window` to each step; returns when its retrain has ended."""
    from tasks.events import ASKS, RETRAIN, resource_id

    asked = datetime.now(UTC)
    told = {
        "id": str(uuid.uuid4()),
        "event": "everfit.decision.retrain",
        "occurred": asked.isoformat(),
        "resource": {"prefect.resource.id": resource_id("flights"), ASKS: RETRAIN},
        "payload": {"window_id": window, "attempt": 0, "why": "measured"},
    }
    http.post("/events", json=[told]).raise_for_status()
    found: dict[str, Any] = {}

    def ended() -> bool:
        answer = http.post("/flow_runs/filter", json={"limit": 50, "sort": "START_TIME_DESC"})
        runs = answer.json() if answer.status_code == 200 else []
        for flow_run in runs:
            if flow_run["parameters"].get("window_id") == window and flow_run["deployment_id"]:
                found.update(flow_run)
        return found.get("state_type") in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    wait(ended, patience, f"the retrain of {window}")
    if found["state_type"] != "COMPLETED":
        raise RuntimeError(f"the retrain of {window} ended as {found['state']}")
    states = http.get("/flow_run_states/", params={"flow_run_id": found["id"]}).json()
    pending = min(s["timestamp"] for s in states if s["type"] == "PENDING")
    moments = {"created": found["created"], "taken": pending, "running": found["start_time"]}
    return {
        name: (datetime.fromisoformat(moment) - asked).total_seconds()
        for name, moment in moments.items()
    }


def retrained(config: Config, tries: int) -> None:
    from dataclasses import asdict

    from monitoring.claims import process_owner
    from tasks import places
    from tasks.records import Outcome

    now = datetime.now(UTC)
    with places.claims(config) as book:
        for window in (f"w{number}" for number in range(tries)):
            book.claim(window, process_owner(), now, model=config.name)
            outcome = Outcome(window, None, False, "noted before", 0, 0.0, now.isoformat())
            book.finish(window, asdict(outcome), now, owner=process_owner())


def wait(found: Callable[[], bool], patience: float, what: str) -> None:
    deadline = time.monotonic() + patience
    while not found():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} took longer than {patience:.0f} s")
        time.sleep(0.1)


def write(folder: Path, port: int) -> None:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    wind, hour = rng.gamma(2.0, 5.0, 600), rng.integers(6, 23, 600)
    late = rng.random(600) < 1 / (1 + np.exp(1.0 - 0.15 * (wind - 10) - 0.25 * (hour - 14)))
    frame = pd.DataFrame({"wind": wind, "hour": hour, "late": np.where(late, "late", "on time")})
    frame.to_csv(folder / "rows.csv", index=False)
    (folder / "flights.yaml").write_text(CONFIG % port, encoding="utf-8")
