"""kill -9 of a retrain half-way: the next run carries on, and one champion comes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks import places
from tasks.config import load

pytestmark = pytest.mark.prefect

RETRAIN = """
import asyncio, sys
from datetime import UTC, datetime
from tasks.config import load
from flows.retrain import retrain
asyncio.run(retrain(load(sys.argv[1]), "first", datetime(2013, 1, 7, 6, tzinfo=UTC)))
"""


def test_a_killed_retrain_goes_on_from_its_finished_trials(tiny_config: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    from flows.retrain import retrain

    text = tiny_config.read_text(encoding="utf-8")
    tiny_config.write_text(
        text.replace("trials: 2\n  warm", "trials: 40\n  warm", 1), encoding="utf-8"
    )
    config = load(tiny_config)
    journal = places.retrain_folder(config, "first") / "trials.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", RETRAIN, str(tiny_config)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )
    deadline = time.monotonic() + 60
    while not (journal.exists() and len(journal.read_text().splitlines()) >= 3):
        assert child.poll() is None, "the retrain ended before it could be killed"
        assert time.monotonic() < deadline, "the retrain finished no trial in a minute"
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finished = journal.read_text(encoding="utf-8").splitlines()
    registry = places.registry(config)
    assert registry.champion() is None
    assert registry.versions() == ()

    few = config.train.model_copy(update={"trials": len(finished) + 2})
    outcome = asyncio.run(
        retrain(
            config.model_copy(update={"train": few}),
            "first",
            datetime(2013, 1, 7, 6, tzinfo=UTC),
        )
    )
    assert outcome.passed, outcome.reason
    assert outcome.trials <= len(finished) + 2
    kept = journal.read_text(encoding="utf-8").splitlines()[: len(finished) - 1]
    assert kept == finished[: len(kept)]  # not one finished trial was run again
    assert [r.version for r in registry.versions()] == [registry.champion().version]
