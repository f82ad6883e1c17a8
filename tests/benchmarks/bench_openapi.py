"""What schemathesis finds in the server by its own OpenAPI description: nothing.

    everfit bench openapi
    everfit bench openapi --set examples=500 --set seed=7

Two models are trained on made-up rows, registered and served by a process of its own each: one of
numbers and categories with text as classes, one of numbers alone with 0 and 1. schemathesis (the
extra `bench`) reads /openapi.json and sends requests that fit it, that nearly fit it, and chains of
them, with all of its checks: no 500, nothing undescribed, what fits is answered, what doesn't is
refused. A row's `findings` are its reports; they are printed whole when there are any.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

_CONFIG = """\
name: described
data:
  source: rows.csv
  target: outcome
  time: due
  columns: {%s}
  classes: %s
train: {families: [logistic]}
serving: {maximum_rows: 1000}
"""
_MODELS = {
    "numbers and categories": (
        {"hour": "number", "wind": "number", "carrier": "category"},
        ("on time", "late"),
    ),
    "numbers": ({f"x{i}": "number" for i in range(4)}, (0, 1)),
}


def run(
    json_path: Path | None = None, *, examples: int = 100, seed: int = 0
) -> list[dict[str, Any]]:
    """One row for each model; `examples` requests are made for each operation and kind."""
    rows = []
    for name, (columns, classes) in _MODELS.items():
        with tempfile.TemporaryDirectory(prefix="bench-openapi-") as home:
            config = _prepare(Path(home), columns, classes)
            with _served(config, Path(home)) as url:
                rows.append({"model": name} | _examined(url, examples, seed, Path(home)))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _prepare(home: Path, columns: dict[str, str], classes: tuple[Any, ...]) -> Path:
    """A config with one champion."""
    import pandas as pd

    from models import families
    from models.records import Verdict
    from models.registry import Registry
    from models.schema import Column, Schema
    from models.training import fit_bundle
    from tasks.config import load

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            name: rng.normal(size=500) if kind == "number" else rng.choice(["UA", "B6"], 500)
            for name, kind in columns.items()
        }
    )
    first = next(iter(columns))
    frame["outcome"] = np.where(frame[first] + rng.normal(size=500) > 0, classes[1], classes[0])
    frame["due"] = pd.date_range("2013-01-01", periods=500, freq="h", tz="UTC")
    frame.to_csv(home / "rows.csv", index=False)
    path = home / "described.yaml"
    listed = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
    path.write_text(_CONFIG % (listed, json.dumps(classes)))
    config = load(path)
    schema = Schema(
        tuple(Column(name, kind) for name, kind in columns.items()),  # type: ignore[arg-type]
        target="outcome",
        classes=classes,
        time="due",
    )
    (params,) = families.defaults(["logistic"])
    folder = config.folder / "bundle"
    candidate = fit_bundle(frame, schema, params, folder=folder, seed=0)
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    now = datetime.now(UTC)
    made = registry.register(folder, candidate, verdict, window_id="bench", now=now)
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    return path


@contextmanager
def _served(config: Path, home: Path) -> Iterator[str]:
    from deployments.processes import free_port, running

    port = free_port()
    command = [sys.executable, "-m", "deployments", "serve", str(config), "--port", str(port)]
    url, log = f"http://127.0.0.1:{port}", home / "server.log"
    with running("server", command, url=url, health="/v2/health/ready", log=log) as server:
        yield url
        if not server.alive or "incident" in log.read_text():
            raise RuntimeError(f"the server failed:\n{log.read_text()[-2000:]}")


def _examined(url: str, examples: int, seed: int, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{url}/openapi.json", "--checks", "all", "--no-color"]
    command += ["--max-examples", str(examples), "--seed", str(seed)]
    begun = time.perf_counter()
    ended = subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=False, env={**os.environ}
    )
    operations = re.search(r"Tested: (\d+)", ended.stdout)
    cases = re.search(r"(\d+) generated", ended.stdout)
    found = re.search(r"found (\d+) unique failures?", ended.stdout)
    if ended.returncode or not operations or not cases:
        sys.stderr.write(ended.stdout + ended.stderr)
    return {
        "operations": int(operations[1]) if operations else 0,
        "requests": int(cases[1]) if cases else 0,
        "findings": int(found[1]) if found else int(ended.returncode != 0),
        "seconds": round(time.perf_counter() - begun, 1),
    }
