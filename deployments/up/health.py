"""Whether a part is well: it is asked, each time, and what does not answer is not well."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.processes import answers

if TYPE_CHECKING:
    from tasks.config import Config

_PATIENCE = 5.0  # seconds for one answer; a machine may be busy
STALE = 15.0  # seconds after which a runner that has not beaten is unwell


@dataclass(frozen=True, slots=True)
class Health:
    """`well` or not, and in a few words why; `ready` is False for a server without a model."""

    well: bool
    detail: str = ""
    ready: bool = True


Probe = Callable[[], Health]


def of_server(url: str, *, whatever: bool = False) -> Probe:
    """A server that answers at `url` with a success, or, with `whatever`, at all."""

    def probe() -> Health:
        well = answers(url, _PATIENCE, whatever=whatever)
        return Health(well, "" if well else f"no answer from {url}")

    return probe


def of_mlflow(url: str) -> Probe:
    """MLflow's /health says OK whatever its store does, so a question goes to the store as well."""
    asked = mlflow_question(url)

    def probe() -> Health:
        if answers(asked, _PATIENCE):
            return Health(True)
        alive = answers(f"{url}/health", _PATIENCE)
        return Health(False, "its store does not answer" if alive else f"no answer from {url}")

    return probe


def mlflow_question(url: str) -> str:
    """What only a server whose store answers can answer."""
    return f"{url}/api/2.0/mlflow/registered-models/search?max_results=1"


def of_model(config: Config, url: str) -> Probe:
    """A model's server that lives, and whether a version answers there."""
    from tasks.server import served

    def probe() -> Health:
        if not answers(f"{url}/v2/health/live", _PATIENCE):
            return Health(False, f"no answer from {url}")
        found = served(config, _PATIENCE)
        if not found.running:
            return Health(False, found.reason)
        if found.version is None:
            why = f", version {found.failed} failed: {found.reason}" if found.failed else ""
            return Health(True, f"no model is loaded{why}", ready=False)
        return Health(True, f"answers with version {found.version}")

    return probe


def of_beat(path: Path, clock: Callable[[], float] = time.time) -> Probe:
    """A process that touches `path` as long as its work turns, and has not before it was ready."""

    def probe() -> Health:
        try:
            silent = clock() - path.stat().st_mtime
        except FileNotFoundError:
            return Health(False, "not registered yet")
        return Health(silent < STALE, "" if silent < STALE else f"silent for {silent:.0f} s")

    return probe
