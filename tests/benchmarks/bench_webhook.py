"""From a promotion at a real MLflow server to the new version's first answer, woken by its webhook.

    everfit bench webhook

An MLflow server sends signed webhooks over the loopback to a model's server that polls once in ten
minutes. The champion changes hands at the MLflow server, and it is measured how long it takes from
there until the new version answers.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

CONFIG = """\
name: flights
data:
  source: rows.csv
  target: late
  columns: {wind: number, carrier: category}
  classes: ["on time", "late"]
train: {families: [logistic]}
serving: {poll_seconds: 600, port: %d}
runs: runs
"""
ALLOWED = {"ALLOWED_SCHEMES": "http", "ALLOW_PRIVATE_IPS": "true"}  # MLflow's own limits


def run(json_path: Path | None = None, *, promotions: int = 6) -> list[dict[str, Any]]:
    """One row: median and longest of so many promotions, in seconds."""
    from deployments.commands.bench import write
    from deployments.processes import free_port, running
    from deployments.serving.hooks import PATH, SECRET
    from deployments.stack import inference_server
    from models.registry import Registry
    from models.registry_webhooks import subscribe
    from tasks.config import load
    from tests import registry_parts as parts

    key = secrets.token_hex(32)
    os.environ[SECRET] = key
    with tempfile.TemporaryDirectory(prefix="everfit-webhook-") as place:
        folder = Path(place)
        (folder / "rows.csv").write_text("wind,carrier,late\n")
        port, tracking = free_port(), free_port()
        path = folder / "flights.yaml"
        path.write_text(CONFIG % port)
        config = load(path)
        registry = Registry(config.registry_url, config.name, config.artifacts)
        versions = [parts.register(registry, number) for number in range(2)]
        parts.promote(registry, versions[0], None)
        mlflow = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        mlflow += ["--port", str(tracking), "--backend-store-uri", config.registry_url]
        mlflow += ["--default-artifact-root", str(config.artifacts)]
        with (
            running(
                "MLflow",
                mlflow,
                url=f"http://127.0.0.1:{tracking}",
                health="/health",
                log=folder / "mlflow.log",
                env=_environment(),
                timeout=300.0,
            ) as server,
            inference_server(path, port),
        ):
            url = f"http://127.0.0.1:{port}"
            _until(lambda: _version(url) == versions[0])
            _, tried = subscribe(server.url, config.name, url + PATH, key)
            taken = []
            remote = Registry(server.url, config.name, config.artifacts)
            for number in range(promotions):
                before, after = versions[number % 2], versions[(number + 1) % 2]
                began = time.monotonic()
                remote.promote(
                    after,
                    expected=before,
                    decision_id=f"d{number}",
                    who="bench",
                    why="bench",
                    now=datetime.now(UTC),
                )
                promoted = time.monotonic()
                _until(lambda v=after: _version(url) == v)
                taken.append((promoted - began, time.monotonic() - promoted))
    row = {
        "trial": tried,
        "promotions": promotions,
        "seconds to promote": round(statistics.median(t for t, _ in taken), 2),
        "then to the first answer, median": round(statistics.median(t for _, t in taken), 2),
        "longest": round(max(t for _, t in taken), 2),
    }
    if json_path is not None:
        write([row], json_path)
    return [row]


def _environment() -> dict[str, str]:
    """An MLflow server that may send to this machine, and can read its secrets again."""
    from cryptography.fernet import Fernet

    more = {f"MLFLOW_WEBHOOK_{name}": value for name, value in ALLOWED.items()}
    more |= {f"_{name}": value for name, value in more.items()}
    more["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = Fernet.generate_key().decode()
    more["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return {**os.environ, **more}


def _version(url: str) -> str | None:
    try:
        answer = httpx.get(f"{url}/v2/health/ready", timeout=5)
    except httpx.TransportError:
        return None
    return answer.json().get("model_version") if answer.status_code == 200 else None


def _until(condition: Callable[..., bool], patience: float = 120.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("it has not come in time")
        time.sleep(0.01)
