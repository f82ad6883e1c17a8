"""Counts of requests: added up over writers and restarts, in stores old and new."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring import migrations
from monitoring.errors import RecordFault, StoreFault, WindowFault
from monitoring.records import Prediction, RequestCount
from monitoring.tables import request_counts
from monitoring.telemetry import TelemetryStore

START = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def count(minute: int, requests: int = 1, route: str = "infer", version: str = "1", **figures: int):
    return RequestCount(START + minute * MINUTE, route, version, requests, **figures)


def test_counts_add_up_over_writes_and_restarts(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        store.record_counts([count(0, 3, rows=30, server_errors=1), count(1, 2, rows=5)])
        store.record_counts([count(0, 4, rows=8, client_errors=2), count(0, 1, version="2")])
    with TelemetryStore(store_url) as store:
        store.record_counts([count(0, 1, rows=1)])
        assert store.counts_between(START, START + 2 * MINUTE) == (
            count(0, 8, rows=39, client_errors=2, server_errors=1),
            count(0, 1, version="2"),
            count(1, 2, rows=5),
        )


def test_a_minute_is_named_by_its_beginning_and_twice_in_a_batch_adds_up(store_url: str) -> None:
    late = RequestCount(START + timedelta(seconds=59.9), "infer", "1", 2)
    with TelemetryStore(store_url) as store:
        store.record_counts([late, count(0, 1)])
        assert store.counts_between(START, START + MINUTE) == (count(0, 3),)


def test_the_end_is_outside_and_spans_add_up(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        store.record_counts([count(m, rows=2) for m in range(150)])
        hours = store.counts_between(START, START + timedelta(hours=2), every=timedelta(hours=1))
        assert hours == (count(0, 60, rows=120), count(60, 60, rows=120))
        assert len(store.counts_between(START, START + 5 * MINUTE)) == 5
        assert store.counts_between(START - MINUTE, START) == ()
        with pytest.raises(WindowFault, match="whole minutes"):
            store.counts_between(START, START + MINUTE, every=timedelta(seconds=90))


def test_a_negative_count_is_refused(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        store.record_counts([])
        with pytest.raises(RecordFault, match="not negative"):
            store.record_counts([count(0), count(1, -1)])
        assert store.counts_between(START, START + timedelta(days=1)) == ()


def test_writers_beside_each_other_lose_nothing(store_url: str) -> None:
    def write() -> None:
        with TelemetryStore(store_url) as own:
            for _ in range(20):
                own.record_counts([count(m, 1) for m in (2, 0, 1)])

    with TelemetryStore(store_url) as store:
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.counts_between(START, START + timedelta(hours=1))
    assert [c.requests for c in found] == [80, 80, 80]


def older(store_url: str) -> None:
    """A store as it was before there were counts, with one prediction in it."""
    with TelemetryStore(store_url) as store:
        store.record([Prediction("a", START, "1", {"x": 1.0}, (0.5, 0.5), 1.0)])
        with store.database.write() as connection:
            request_counts.drop(connection)
            migrations.revisions.drop(connection)


def test_an_older_store_gets_the_table_and_keeps_its_rows(store_url: str) -> None:
    older(store_url)
    with TelemetryStore(store_url) as store:
        store.record_counts([count(0)])
        assert store.counts_between(START, START + MINUTE) == (count(0),)
        assert store.counts()["predictions"] == 1


def test_an_older_store_that_is_read_only_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    older(f"sqlite:///{path}")
    with TelemetryStore(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert len(store.rows(None, None)) == 1
        with pytest.raises(StoreFault, match="no such table"):
            store.counts_between(START, START + MINUTE)
