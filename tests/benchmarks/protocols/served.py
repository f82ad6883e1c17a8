"""A small champion behind a server of its own, for the benchmarks of the protocols."""

from __future__ import annotations

import json
import sys
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
serving: {maximum_rows: 1000, workers: %d%s}
"""
MODELS = {
    "numbers and categories": (
        {"hour": "number", "wind": "number", "carrier": "category"},
        ("on time", "late"),
    ),
    "numbers": ({f"x{i}": "number" for i in range(4)}, (0, 1)),
}


def frame(columns: dict[str, str], rows: int, seed: int) -> Any:
    """A table of made-up inputs."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            name: rng.normal(size=rows) if kind == "number" else rng.choice(["UA", "B6"], rows)
            for name, kind in columns.items()
        }
    )


def prepare(
    home: Path,
    columns: dict[str, str],
    classes: tuple[Any, ...],
    *,
    workers: int = 1,
    grpc_port: int | None = None,
) -> Path:
    """A config with one champion, trained on 500 rows; artifacts lie under `home`."""
    import pandas as pd

    from models import families
    from models.records import Verdict
    from models.registry import Registry
    from models.schema import Column, Schema
    from models.training import fit_bundle
    from tasks.config import load

    rng = np.random.default_rng(0)
    table = frame(columns, 500, 0)
    first = next(iter(columns))
    table["outcome"] = np.where(table[first] + rng.normal(size=500) > 0, classes[1], classes[0])
    table["due"] = pd.date_range("2013-01-01", periods=500, freq="h", tz="UTC")
    table.to_csv(home / "rows.csv", index=False)
    path = home / "described.yaml"
    listed = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
    grpc = f", grpc_port: {grpc_port}" if grpc_port else ""
    path.write_text(_CONFIG % (listed, json.dumps(classes), workers, grpc))
    config = load(path)
    schema = Schema(
        tuple(Column(name, kind) for name, kind in columns.items()),  # type: ignore[arg-type]
        target="outcome",
        classes=classes,
        time="due",
    )
    (params,) = families.defaults(["logistic"])
    folder = config.folder / "bundle"
    candidate = fit_bundle(table, schema, params, folder=folder, seed=0)
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    now = datetime.now(UTC)
    made = registry.register(folder, candidate, verdict, window_id="bench", now=now)
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    return path


@contextmanager
def served(config: Path, home: Path) -> Iterator[str]:
    """The url of `everfit serve`. Raises RuntimeError when it failed at anything meanwhile."""
    from deployments.processes import free_port, running

    port = free_port()
    command = [sys.executable, "-m", "deployments", "serve", str(config), "--port", str(port)]
    url, log = f"http://127.0.0.1:{port}", home / "server.log"
    with running("server", command, url=url, health="/v2/health/ready", log=log) as server:
        yield url
        if not server.alive or "incident" in log.read_text():
            raise RuntimeError(f"the server failed:\n{log.read_text()[-2000:]}")
