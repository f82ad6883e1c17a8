"""Processes that open an older store at the same moment change it once, and none fails."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitoring.telemetry import TelemetryStore
from tests.monitoring.test_migrations import differences, earlier_store

CODE = """
import logging, sys
logging.basicConfig(format="%(message)s")
import alembic.runtime.migration, alembic.script
from monitoring.telemetry import TelemetryStore
sys.stdin.readline()
TelemetryStore(sys.argv[1]).close()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_start_at_once_change_a_store_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    sqlite = kind == "sqlite"
    url = f"sqlite:///{tmp_path / 't.db'}" if sqlite else request.getfixturevalue("store_url")
    earlier_store(url, "0001")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    time.sleep(2.0)  # let the interpreters start, so that the four open the store together
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = "".join(child.communicate(timeout=60)[1] for child in children)
    assert [child.returncode for child in children] == [0] * 4, said
    assert said.count("a store was brought from revision (none) to") == 1
    with TelemetryStore(url) as store:
        assert differences(store.database) == []
        assert store.counts()["predictions"] == 1
