"""The store under the telemetry: opened by many, killed by none of its faults, fast enough."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from monitoring import connecting
from monitoring.errors import StoreFault
from monitoring.records import Label, Prediction
from monitoring.telemetry import TelemetryStore

START = datetime(2013, 1, 1, tzinfo=UTC)


def prediction(number: int) -> Prediction:
    """Prediction p<number>, made `number` hours after START, with the features of a flight."""
    features = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400.0, "hour": 5}
    features |= {"temp": 39.02, "wind": 12.66, "precip": 0.0, "visibility": 10.0, "gust": None}
    time = START + timedelta(hours=number)
    return Prediction(f"p{number}", time, "1", features, (0.25, 0.75), 2.5)


def label(number: int) -> Label:
    return Label(f"p{number}", "late", START + timedelta(hours=number + 3))


def test_the_store_stays_when_it_is_closed(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        store.record([prediction(0)])
    with TelemetryStore(store_url) as store:
        assert store.counts()["predictions"] == 1


def test_writing_needs_no_pandas(tmp_path: Path) -> None:
    code = f"""
import sys
from datetime import UTC, datetime
from monitoring.records import Label, Prediction
from monitoring.telemetry import TelemetryStore
now = datetime(2013, 1, 1, tzinfo=UTC)
with TelemetryStore("sqlite:///{tmp_path / "t.db"}") as store:
    store.record([Prediction("a", now, "1", {{"x": 1}}, (0.5, 0.5), 1.0)])
    print(*store.label([Label("a", 1, now)]))
print(sorted({{"pandas", "numpy", "prefect", "mlflow", "torch"}} & sys.modules.keys()))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["accepted", "[]"]


def test_several_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = f"""
import sys
from datetime import UTC, datetime
from monitoring.records import Prediction
from monitoring.telemetry import TelemetryStore
now = datetime(2013, 1, 1, tzinfo=UTC)
sys.stdin.readline()
with TelemetryStore("sqlite:///{tmp_path / "t.db"}") as store:
    for n in range(20):
        store.record([Prediction(f"{{sys.argv[1]}}-{{n}}", now, "1", {{}}, (1.0,), 1.0)])
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    time.sleep(0.5)  # let the interpreters start, so that the four open the file together
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=40)
        assert child.returncode == 0, errors.decode()
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        assert store.counts()["predictions"] == 80


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        store.record([prediction(0)])
        with store.database.write() as writing:
            writing.exec_driver_sql("DELETE FROM predictions")
            assert store.counts()["predictions"] == 1
        assert store.counts()["predictions"] == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("mysql://host/db", "SQLite or PostgreSQL"),
        ("telemetry.db", "a store is a database URL"),
        ("sqlite:////dev/null/x/t.db", "cannot be made"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreFault, match=message):
        TelemetryStore(url)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_text("this is a text file, and long enough to have a header" * 40)
    with pytest.raises(StoreFault, match=r"not a database.*move the file aside"):
        TelemetryStore(f"sqlite:///{path}")
    assert path.read_text().startswith("this is a text file")


def test_a_damaged_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with TelemetryStore(f"sqlite:///{path}") as store:
        store.record([prediction(n) for n in range(2000)])
    size = path.stat().st_size
    with path.open("r+b") as file:  # keep the header and the layout, spoil the rows
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    with (
        TelemetryStore(f"sqlite:///{path}") as store,
        pytest.raises(StoreFault, match=r"malformed.*restore a copy"),
    ):
        store.rows(None, None)


def test_a_store_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    TelemetryStore(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE everfit_layout SET version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StoreFault, match="layout version 99, this everfit reads 1"):
        TelemetryStore(f"sqlite:///{path}")


def test_a_read_only_store_can_be_read_and_says_why_it_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with TelemetryStore(f"sqlite:///{path}") as store:
        store.record([prediction(0)])
    with TelemetryStore(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert len(store.rows(None, None)) == 1
        with pytest.raises(StoreFault, match=r"readonly.*write permission"):
            store.record([prediction(1)])
        with pytest.raises(StoreFault, match=r"readonly.*write permission"):
            store.label([label(0)])


def test_a_full_disk_loses_no_answered_row_and_takes_no_half_batch(tmp_path: Path) -> None:
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        store.record([prediction(n) for n in range(50)])
        store.label([label(n) for n in range(50)])

        def fill(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
            connection.execute("PRAGMA max_page_count = 1").close()  # clamps to what is in use

        event.listen(store.database.engine, "checkout", fill)
        with pytest.raises(StoreFault, match=r"full.*free disk space"):
            store.record([prediction(n) for n in range(50, 2000)])
        with pytest.raises(StoreFault, match=r"full.*free disk space"):
            store.label([label(n) for n in range(50, 2000)])
        assert store.counts()["predictions"] == store.counts()["labels"] == 50

        event.remove(store.database.engine, "checkout", fill)
        event.listen(
            store.database.engine,
            "checkout",
            lambda c, _r, _p: c.execute("PRAGMA max_page_count = 1000000").close(),
        )
        assert store.record([prediction(n) for n in range(50, 2000)]) == (1950, 0)


def test_a_locked_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.db"
    monkeypatch.setattr("monitoring.connecting.WAIT_SECONDS", 0.1)
    with TelemetryStore(f"sqlite:///{path}") as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFault, match=r"locked.*another process holds the store"):
            store.record([prediction(0)])
        other.execute("ROLLBACK")
        other.close()
        assert store.record([prediction(0)]) == (1, 0)


def test_a_year_is_written_and_a_week_read_in_time(tmp_path: Path) -> None:
    minute = timedelta(minutes=1.5)
    batch = [replace(prediction(n), time=START + n * minute) for n in range(40_000)]
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        begin = time.process_time()
        for at in range(0, len(batch), 5_000):
            store.record(batch[at : at + 5_000])
        written = time.process_time() - begin
        store.label([label(n) for n in range(0, 20_000)])
        begin = time.process_time()
        week = store.rows(START + timedelta(days=10), START + timedelta(days=17))
        read = time.process_time() - begin
    assert len(week) == 6720
    # 20,000 rows a second and 0.2 s are the aim; half of it leaves room for a slow machine.
    assert written < 4.0
    assert read < 0.4


class _LockedAtFirst:
    """A connection whose switch to WAL meets another process that opens the same new file."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.said: list[str] = []
        self.isolation_level: str | None = ""

    def cursor(self) -> _LockedAtFirst:
        return self

    def execute(self, statement: str) -> _LockedAtFirst:
        self.said.append(statement)
        if "journal_mode" in statement and self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("database is locked")
        return self

    def fetchall(self) -> list[object]:
        return []

    def close(self) -> None:
        self.said.append("closed")


def test_the_switch_to_wal_is_tried_again_while_another_process_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient = _LockedAtFirst(failures=2)
    connecting._pragmas(patient, None)
    assert patient.said[:3] == ["PRAGMA journal_mode=WAL"] * 3
    assert patient.said[-1] == "closed"

    monkeypatch.setattr(connecting, "WAIT_SECONDS", 0.05)
    hopeless = _LockedAtFirst(failures=1_000_000)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        connecting._pragmas(hopeless, None)
    assert hopeless.said[-1] == "closed"


def test_a_store_is_in_wal_mode_and_waits_for_others(tmp_path: Path) -> None:
    with (
        TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store,
        store.database.read() as connection,
    ):
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 15_000}


def test_a_store_without_its_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreFault, match=r"pip install 'everfit\[postgres\]'"):
        TelemetryStore("postgresql://localhost/everfit")
