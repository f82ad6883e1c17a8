"""kill -9 of a writer and of a claimant: what was answered is there, and the window is free."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitoring.claims import Claims, process_owner
from monitoring.records import Label, LabelResult
from monitoring.telemetry import TelemetryStore

NOW = datetime(2013, 1, 1, tzinfo=UTC)

# Records and labels one row after the other and says so on a line of its own after each.
WRITER = """
import sys
from datetime import UTC, datetime
from monitoring.records import Label, Prediction
from monitoring.telemetry import TelemetryStore
now = datetime(2013, 1, 1, tzinfo=UTC)
store = TelemetryStore(sys.argv[1])
for n in range(1_000_000):
    store.record([Prediction(f"p{n}", now, "1", {"x": n}, (0.5, 0.5), 1.0)])
    (result,) = store.label([Label(f"p{n}", n, now)])
    print(result, n, flush=True)
"""

# Writes large batches, so that the kill meets a transaction half-way.
BATCHES = """
import sys
from datetime import UTC, datetime
from monitoring.records import Label, Prediction
from monitoring.telemetry import TelemetryStore
now = datetime(2013, 1, 1, tzinfo=UTC)
store = TelemetryStore(sys.argv[1])
for b in range(1_000_000):
    ids = [f"p{b}-{n}" for n in range(500)]
    store.record([Prediction(i, now, "1", {"x": "y" * 200}, (0.5, 0.5), 1.0) for i in ids])
    store.label([Label(i, b, now) for i in ids])
    print(b, flush=True)
"""

CLAIMANT = """
import sys
from datetime import UTC, datetime
from monitoring.claims import Claims, process_owner
now = datetime(2013, 1, 1, tzinfo=UTC)
book = Claims(sys.argv[1])
print(book.claim("w1", process_owner(), now, model="flights").status, flush=True)
book.advance("w1", "tuned", now)
print("tuned", flush=True)
sys.stdin.readline()
"""


def start(code: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(child: subprocess.Popen[str]) -> list[str]:
    """kill -9, and the whole lines it had still said."""
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate(timeout=20)
    assert child.returncode == -signal.SIGKILL
    return [line for line in rest.split("\n")[:-1] if line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.mark.parametrize("acknowledged", [1, 2, 60])
def test_an_acknowledged_label_survives_the_kill_of_its_writer(
    path: Path, acknowledged: int
) -> None:
    child = start(WRITER, f"sqlite:///{path}")
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(acknowledged)]
    said += kill(child)

    numbers = [int(line.split()[1]) for line in said]
    assert numbers == list(range(len(said)))
    with TelemetryStore(f"sqlite:///{path}") as store:
        frame = store.rows(None, None, labelled_only=True).set_index("id")
        for n in numbers:
            assert frame["label"][f"p{n}"] == n
        # The next process goes on as if nothing had been.
        assert store.label([Label("p0", 0, NOW)]) == [LabelResult.DUPLICATE]
        assert store.label([Label("new", 0, NOW)]) == [LabelResult.UNKNOWN]


def test_a_kill_leaves_no_half_of_a_batch(path: Path) -> None:
    rng = random.Random(0)
    for _ in range(3):
        path.unlink(missing_ok=True)
        child = start(BATCHES, f"sqlite:///{path}")
        assert child.stdout is not None
        said = [child.stdout.readline()]
        time.sleep(rng.uniform(0.0, 0.2))
        said += kill(child)
        with TelemetryStore(f"sqlite:///{path}") as store:
            counts = store.counts()
        assert counts["predictions"] % 500 == counts["labels"] % 500 == 0
        assert counts["labelled"] == counts["labels"] >= 500 * len(said)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_a_killed_claimant_is_taken_over_where_it_stopped(path: Path) -> None:
    url = f"sqlite:///{path}"
    child = start(CLAIMANT, url)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["new\n", "tuned\n"]
    with Claims(url) as book:
        assert book.claim("w1", process_owner(), NOW, model="flights").status == "busy"
        other = book.claim("w2", process_owner(), NOW, model="flights")
        assert (other.status, other.window_id) == ("busy", "w1")

        kill(child)

        taken = book.claim("w1", process_owner(), NOW, model="flights")
        assert (taken.status, taken.stage, taken.attempts) == ("resumed", "tuned", 2)
        book.finish("w1", {"version": "2"}, NOW)
        assert book.claim("w1", process_owner(), NOW, model="flights").status == "done"


def test_a_claimant_killed_before_it_claims_leaves_the_window_new(path: Path) -> None:
    held = CLAIMANT.replace(
        'print(book.claim("w1"', 'print("opened", flush=True); sys.stdin.readline()\n#('
    )
    child = start(held, f"sqlite:///{path}")
    assert child.stdout is not None
    assert child.stdout.readline() == "opened\n"
    kill(child)
    with Claims(f"sqlite:///{path}") as book:
        assert book.claim("w1", process_owner(), NOW, model="flights").status == "new"
