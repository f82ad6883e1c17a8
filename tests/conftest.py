"""What every test shares: a quiet environment, small data, a free port, a Prefect server."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments import environment

if TYPE_CHECKING:
    import pandas as pd

# Before anything imports torch, scikit-learn, prefect or mlflow; the user's own profile and server
# stay out of it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PREFECT_API_URL", None)
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="everfit-tests-")
environment.prepare()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the Prefect server also waits for it to start."""
    for item in items:
        needs_server = item.get_closest_marker("prefect") or "prefect_server" in getattr(
            item, "fixturenames", ()
        )
        if needs_server and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server for the whole session; it takes about 9 s to start."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(autouse=True)
def _server_for_marked_tests(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("prefect"):
        request.getfixturevalue("prefect_server")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _flights(rows: int = 600, *, seed: int = 0, start: str = "2013-01-01", shift: float = 0.0):  # type: ignore[no-untyped-def]
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    carrier = rng.choice(["AA", "B6", "EV", "UA"], rows)
    hour = rng.integers(6, 23, rows)
    wind = rng.gamma(2.0, 5.0, rows) + shift
    visibility = np.where(rng.random(rows) < 0.05, np.nan, rng.uniform(0, 10, rows))
    score = 0.25 * (hour - 14) + 0.15 * (wind - 10) + 0.9 * (carrier == "EV")
    late = rng.random(rows) < 1 / (1 + np.exp(1.0 - score))
    return pd.DataFrame(
        {
            "due": pd.date_range(start, periods=rows, freq="15min", tz="UTC"),
            "carrier": carrier,
            "hour": hour,
            "wind": wind.round(2),
            "visibility": visibility.round(2),
            "late": np.where(late, "late", "on time"),
        }
    )


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., pd.DataFrame]:
    """`make_frame(rows, seed=, start=, shift=)`: flights with a learnable target `late`.

    Columns: due (UTC, every 15 minutes), carrier (4 categories), hour, wind, visibility (5 % NaN);
    `shift` is added to the wind, so that the world moves.
    """
    return _flights


@pytest.fixture
def small_frame() -> pd.DataFrame:
    """600 rows of `make_frame`."""
    return _flights()


TINY_CONFIG = """\
name: tiny
data:
  source: flights.csv
  target: late
  time: due
  columns: {carrier: category, hour: number, wind: number, visibility: number}
  classes: [on time, late]
train:
  families: [logistic]
  trials: 2
  warm_trials: 2
  seconds: 20
  parallel: 1
monitor:
  minimum_rows: 50
  minimum_labels: 50
  permutations: 99
  mmd_rows: 100
policy: {minimum_new_labels: 50}
gate: {rows: 150, minimum_rows: 50, resamples: 200}
"""


@pytest.fixture
def tiny_config(tmp_path: Path, small_frame: pd.DataFrame, free_port: int) -> Path:
    """A valid config on disk beside its 600 rows; one family, two trials, a free port."""
    small_frame.to_csv(tmp_path / "flights.csv", index=False)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_CONFIG + f"serving: {{port: {free_port}}}\n", encoding="utf-8")
    return path
