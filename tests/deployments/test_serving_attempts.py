"""A version that kills who loads it is refused after some deaths, and the proven one serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from deployments.serving.attempts import DEATHS, Attempts, Killed
from deployments.serving.follower import Follower
from deployments.serving.metrics import Metrics
from deployments.serving.slots import Slots
from models.records import Release

GOOD = Release("tiny", "1", "digest-1", "window-1", "run-1")
BAD = Release("tiny", "2", "digest-2", "window-2", "run-2")

# Loads a version as a worker does, and then dies of it.
DYING = """
import os, signal, sys
from pathlib import Path
from deployments.serving.attempts import Attempts
from models.records import Release
version = sys.argv[2]
Attempts(Path(sys.argv[1])).begin(Release("tiny", version, f"digest-{version}", "w", "r"))
if sys.argv[3] == "crash":
    import ctypes
    ctypes.string_at(0)
print("loaded", flush=True)
sys.stdin.read()
"""


def die(folder: Path, version: str, how: str = "kill") -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", DYING, str(folder), version, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if how == "kill":
        assert child.stdout.readline() == b"loaded\n"
        os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=20)
    assert child.returncode in (-signal.SIGKILL, -signal.SIGSEGV)


def test_deaths_are_counted_by_version_and_forgotten_when_it_answers(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin(BAD)
    attempts.begin(BAD)
    assert attempts.deaths(BAD) == 0  # this process lives
    die(tmp_path, "2", "crash")  # in native code
    die(tmp_path, "2")
    assert (attempts.deaths(BAD), attempts.deaths(GOOD)) == (2, 0)
    other = Attempts(tmp_path)
    assert other.deaths(BAD) == 2  # whose lock is held here is alive there, too
    attempts.proven(BAD)
    assert other.deaths(BAD) == 0
    other.begin(BAD)
    other.close()
    assert attempts.deaths(BAD) == 0
    die(tmp_path, "2")
    later = Attempts(tmp_path, clock=lambda: time.time() + 7200)
    assert later.deaths(BAD) == 0  # an hour has gone


def test_without_a_disk_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("no folder")
    attempts = Attempts(tmp_path / "attempts")
    attempts.begin(GOOD)
    attempts.proven(GOOD)
    assert attempts.deaths(GOOD) == 0


@pytest.fixture
def follower_of(serving_alias, tmp_path):
    def make(alias):
        slots, metrics = Slots(), Metrics()
        return (
            Follower(slots, metrics, tmp_path, registry=lambda: alias, load=alias.load),
            slots,
            metrics,
        )

    return make


def test_a_version_that_kills_is_refused_and_the_proven_one_serves(
    serving_alias, serving_double, follower_of, tmp_path
):
    alias = serving_alias()
    alias.models["2"] = serving_double(bias=1.0)
    follower, slots, metrics = follower_of(alias)
    assert follower.step()
    follower.step()
    assert not (tmp_path / "proven.json").exists()  # loaded, but not asked anything yet
    metrics.predicted("1", 30)
    follower.step()
    assert json.loads((tmp_path / "proven.json").read_text())["version"] == "1"
    for _ in range(DEATHS):
        die(tmp_path / "attempts", "2")
    alias.version = "2"
    follower.step()
    assert slots.current.release.version == "1"
    assert (slots.failure.version, slots.failure.reason) == ("2", Killed.__name__)
    follower.close()

    # A worker that starts now has nothing loaded, and the last that served may be the killer.
    note = {**asdict(BAD), "tags": {}}
    (tmp_path / "last.json").write_text(json.dumps(note))
    fresh, slots, _ = follower_of(alias)
    fresh.step()
    assert slots.current.release.version == "1"
    fresh.close()
