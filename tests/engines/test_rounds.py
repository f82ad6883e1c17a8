"""Rounds with real models, real processes and a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.deployments.places import ROOT


@pytest.mark.timeout(600)
def test_a_round_is_flow_runs_and_one_ill_model_harms_no_other(tmp_path):
    script = [sys.executable, "-m", "tests.engines.rounds_script", str(tmp_path)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    first, idle, hurried = said["rounds"]
    ill = str(tmp_path / "scale-00001.yaml")
    assert first["did"] == {"checked": 2, "failed": 1}
    assert list(first["faults"]) == [ill]
    assert "StoreFault" in first["faults"][ill]
    assert idle["did"] == {"skipped": 2, "failed": 1}  # nothing had come
    # a check that takes too long is ended, and Prefect knows what became of its run
    assert hurried["did"]["failed"] == 3
    assert set(said["states"].values()) <= {"Crashed"}
    assert said["runs"]["watch-scale-00000 Completed"] == 1
    assert said["runs"]["watch-scale-00002 Completed"] == 1
    assert not any("Running" in name for name in said["runs"])
    assert {"model:scale-00000", "model:scale-00002"} <= set(said["tags"])
    # the second check in a process imports nothing any more: a check alone takes over 10 s
    assert said["warm"][1] < 5
