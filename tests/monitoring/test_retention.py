"""A purge deletes what is old, in small steps, and nothing else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from monitoring.records import Label, Prediction, RequestCount
from monitoring.retention import Limits, Purged, purge
from monitoring.tables import label_conflicts, shadow_answers
from monitoring.telemetry import TelemetryStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SECRET = "Ada Lovelace"
LIMITS = Limits(NOW - 30 * DAY, NOW - 60 * DAY, NOW - 90 * DAY)


def prediction(id: str, days: float) -> Prediction:
    return Prediction(id, NOW - days * DAY, "1", {"name": SECRET}, (0.5, 0.5), 1.0)


@pytest.fixture
def filled(store: TelemetryStore) -> TelemetryStore:
    """A prediction a day for 100 days, every second one with a label; lone labels; conflicts."""
    store.record([prediction(f"p{day}", day) for day in range(100)])
    store.label([Label(f"p{day}", 0, NOW) for day in range(0, 100, 2)])
    store.label([Label(f"p{day}", 1, NOW) for day in range(0, 100, 10)])
    store.label([Label(f"lone{day}", 0, NOW - day * DAY) for day in range(50, 70)])
    store.record_counts([RequestCount(NOW - day * DAY, "infer", "1", 5) for day in range(100)])
    with store.database.write() as connection:
        connection.execute(
            shadow_answers.insert(),
            [
                {"id": f"p{day}", "version": "2", "time": 0, "probabilities": "[1]"}
                for day in range(100)
            ],
        )
    return store


def test_a_purge_takes_what_is_old_and_leaves_what_waits_for_its_label(filled) -> None:
    would = purge(filled.database, LIMITS, dry_run=True)
    assert filled.counts()["predictions"] == 100
    gone = purge(filled.database, LIMITS, batch_rows=7, pause=lambda _: None)
    # labelled: 32, 34, ... 98; unlabelled: 61, 63, ... 99; lone labels: 61 to 69 days
    assert gone == would == Purged(34 + 20, 34 + 9, 9, waiting=15)
    left = {int(id_[1:]) for id_ in filled.rows(None, None)["id"]}
    assert left == set(range(31)) | set(range(31, 60, 2))
    assert filled.counts()["unknown"] == 11
    with filled.database.read() as connection:
        conflicts = set(connection.scalars(select(label_conflicts.c.id)))
        assert conflicts == {"p0", "p10", "p20", "p30"}
        assert connection.scalar(select(func.count()).select_from(shadow_answers)) == len(left)
    assert purge(filled.database, LIMITS) == Purged(waiting=15)
    assert len(filled.counts_between(NOW - 200 * DAY, NOW + DAY)) == 91


def test_what_was_deleted_is_no_longer_in_the_file(tmp_path) -> None:
    path = tmp_path / "t.db"
    with TelemetryStore(f"sqlite:///{path}") as store:
        store.record([prediction(f"p{n}", 100) for n in range(200)])
        store.label([Label(f"p{n}", 0, NOW) for n in range(200)])
        store.database.tidy()
        assert SECRET.encode() in path.read_bytes()
        purge(store.database, LIMITS)
        for file in tmp_path.iterdir():  # the log beside it, too
            assert SECRET.encode() not in file.read_bytes(), file.name


def test_a_server_writes_on_while_old_rows_are_purged(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    with TelemetryStore(url) as store, TelemetryStore(url) as other:
        store.record([prediction(f"p{n}", 100) for n in range(4_000)])
        purging = threading.Thread(target=purge, args=(other.database, LIMITS))
        purging.start()
        written = 0
        while purging.is_alive():
            store.record([prediction(f"new{written}", 0)])
            written += 1
        purging.join()
        assert written > 3
        assert store.counts()["predictions"] == written
