"""Telemetry off the request's path: bounded, patient, and honest about what it drops."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pytest

from deployments.serving.app import create_app
from deployments.serving.telemetry_writer import Served, TelemetryWriter
from monitoring.errors import RecordFault, StoreFault
from monitoring.records import RequestCount
from monitoring.storage import micros
from monitoring.telemetry import TelemetryStore

NOW = datetime(2013, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """As the table has it."""

    id: str
    time: int
    version: str
    features: str
    probabilities: str
    latency_ms: float


class Memory:
    """A store that can be down, and refuses rows that are called bad."""

    def __init__(self):
        self.rows = []
        self.counts = []
        self.down = False
        self.counts_down = False
        self.tries = 0

    def record_encoded(self, batch, rows):
        self.tries += 1
        if self.down:
            raise StoreFault("down")
        predictions = [Row(*row) for row in json.loads(batch)]
        assert len(predictions) == rows
        if any(p.id.startswith("bad") for p in predictions):
            raise RecordFault("bad row")
        self.rows += predictions

    def record_counts(self, batch):
        if self.down or self.counts_down:
            raise StoreFault("down")
        self.counts += batch


class Seen(Counter):
    def unsampled(self, rows):
        self["unsampled"] += rows

    def spooled(self, rows):
        self["spooled"] = rows

    def written(self, rows):
        self["written"] += rows

    def dropped(self, rows):
        self["dropped"] += rows

    def store_failed(self):
        self["failed"] += 1

    def pending(self, rows):
        self["pending"] = rows


def served(*ids):
    n = len(ids)
    return Served(
        ids=list(ids),
        times=[NOW] * n,
        version="7",
        features={"hour": list(range(n)), "carrier": ["UA", None] * (n // 2) + ["B6"] * (n % 2)},
        probabilities=np.tile([0.25, 0.75], (n, 1)),
        latency_ms=1.5,
    )


@pytest.fixture
def store():
    return Memory()


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def writer(store, seen):
    return TelemetryWriter(store, seen, flush_seconds=0.01, maximum_rows=10)


def test_rows_reach_the_store_as_they_were_answered(writer, store, seen):
    writer.add(served("a", "b", "c"))
    assert writer.pending == 3
    writer.flush()
    assert writer.pending == 0
    assert [p.id for p in store.rows] == ["a", "b", "c"]
    second = store.rows[1]
    assert json.loads(second.features) == {"hour": 1, "carrier": None}
    assert json.loads(second.probabilities) == [0.25, 0.75]
    assert (second.time, second.version, second.latency_ms) == (micros(NOW), "7", 1.5)
    assert seen["written"] == 3


def test_the_thread_flushes_by_itself(writer, store):
    writer.start()
    writer.add(served("a"))
    deadline = time.monotonic() + 5
    while not store.rows and time.monotonic() < deadline:
        time.sleep(0.005)
    writer.close()
    assert [p.id for p in store.rows] == ["a"]


def test_a_store_that_is_down_loses_nothing_up_to_the_bound(writer, store, seen):
    store.down = True
    assert writer.add(served("a", "b", "c", "d", "e", "f"))
    with pytest.raises(StoreFault):
        writer.flush()
    assert writer.add(served("g", "h", "i", "j"))
    assert not writer.add(served("k"))  # the bound is 10 rows
    assert (writer.pending, seen["dropped"], seen["failed"]) == (10, 1, 1)
    store.down = False
    writer.flush()
    assert [p.id for p in store.rows] == list("abcdefghij")
    assert writer.add(served("l"))


def test_a_down_store_is_tried_with_growing_pauses(store, seen):
    writer = TelemetryWriter(store, seen, flush_seconds=0.02)
    store.down = True
    writer.add(served("a"))
    writer.start()
    time.sleep(0.5)
    assert 2 <= store.tries <= 6  # 25 without back-off
    store.down = False
    writer.close()
    assert [p.id for p in store.rows] == ["a"]


def test_rows_at_fault_do_not_block_the_others(writer, store, seen):
    for id_ in ("a", "bad", "b"):
        writer.add(served(id_))
    writer.flush()
    assert [p.id for p in store.rows] == ["a", "b"]
    assert (seen["written"], seen["dropped"], writer.pending) == (2, 1, 0)


def test_a_flush_ends_though_rows_keep_coming(writer, store, monkeypatch):
    record = store.record_encoded

    def busy(batch, rows):
        writer.add(served(f"later-{store.tries}"))
        record(batch, rows)

    monkeypatch.setattr(store, "record_encoded", busy)
    writer.add(served("a"))
    writer.flush()
    assert [p.id for p in store.rows] == ["a"]
    assert writer.pending == 1


def test_close_gives_up_in_time_and_says_what_was_lost(writer, store, seen):
    store.down = True
    writer.add(served("a", "b"))
    started = time.monotonic()
    writer.close(timeout=0.5)
    assert time.monotonic() - started < 2
    assert seen["dropped"] == 2


def test_many_threads_lose_no_row(store, seen):
    writer = TelemetryWriter(store, seen, flush_seconds=0.001)
    writer.start()

    def add(thread):
        for number in range(200):
            writer.add(served(f"{thread}-{number}"))
            if number % 50 == 0:
                writer.flush()

    threads = [threading.Thread(target=add, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(p.id for p in store.rows) == sorted(
        f"{t}-{i}" for t in range(4) for i in range(200)
    )


def test_the_server_keeps_answering_while_the_store_is_down(
    serving, serving_config, serving_alias, monkeypatch
):
    alias, config = serving_alias(), serving_config()
    app = create_app(config, registry=lambda: alias, load=alias.load)
    body = {"dataframe_records": [{"hour": 7, "wind": 1, "carrier": "UA"}]}
    with serving(app) as client:
        store = app.state.service.store
        record = store.record_encoded

        def down(*_):
            raise StoreFault("down")

        monkeypatch.setattr(store, "record_encoded", down)
        ids = [client.post("/invocations", json=body).json()["ids"][0] for _ in range(20)]
        time.sleep(0.2)
        text = client.get("/metrics").text
        assert "everfit_telemetry_pending_rows 0.0" in text
        assert "everfit_telemetry_spooled_rows 20.0" in text
        assert "everfit_telemetry_dropped_rows_total 0.0" in text
        monkeypatch.setattr(store, "record_encoded", record)
    with TelemetryStore(config.store_url) as store:  # the shutdown wrote them
        frame = store.rows(None, None)
    assert set(frame["id"]) == set(ids)
    assert frame["carrier"].tolist() == ["UA"] * 20
    assert (frame["latency_ms"] > 0).all()


def test_requests_are_counted_by_minute_route_and_version(writer, store):
    for second, status, rows in ((1, 200, 3), (59, 422, 0), (30, 503, 0), (61, 200, 2)):
        writer.count(NOW + timedelta(seconds=second), "infer", "7", status, rows)
    writer.count(NOW, "labels", "7", 200)
    assert not store.counts  # nothing is written by the one who counts
    writer.close()
    assert store.counts == [
        RequestCount(NOW, "infer", "7", 3, rows=3, client_errors=1, server_errors=1),
        RequestCount(NOW + timedelta(minutes=1), "infer", "7", 1, rows=2),
        RequestCount(NOW, "labels", "7", 1),
    ]


def test_counts_are_written_in_batches_by_the_thread(store, seen):
    writer = TelemetryWriter(store, seen, flush_seconds=0.01, count_seconds=0.2)
    writer.start()
    started = time.monotonic()
    asked = 0
    while time.monotonic() - started < 0.5:
        writer.count(NOW, "infer", "7", 200, 1)
        asked += 1
        time.sleep(0.002)
    writer.close()
    assert sum(c.requests for c in store.counts) == asked
    assert 2 <= len(store.counts) <= 5  # some 50 flushes went by


def test_counts_that_the_store_refuses_hold_up_no_prediction_and_are_kept(store, seen):
    writer = TelemetryWriter(store, seen, flush_seconds=0.01, count_seconds=0.01)
    store.counts_down = True
    writer.start()
    writer.count(NOW, "infer", "7", 200, 1)
    for number in range(5):
        writer.add(served(f"a{number}"))
        time.sleep(0.05)
    assert len(store.rows) >= 4
    store.counts_down = False
    writer.count(NOW, "infer", "7", 500)
    writer.close()
    assert sum(c.requests for c in store.counts) == 2
    assert sum(c.server_errors for c in store.counts) == 1


def test_what_is_counted_while_the_store_is_down_has_a_bound(writer, store, monkeypatch):
    monkeypatch.setattr("deployments.serving.telemetry_writer._MAXIMUM_COUNTS", 3)
    for minute in range(10):
        writer.count(NOW + timedelta(minutes=minute), "infer", "7", 200)
    writer.close()
    assert len(store.counts) == 3


def test_counting_costs_a_request_next_to_nothing(writer):
    started = time.process_time()
    for _ in range(20_000):
        writer.count(NOW, "infer", "7", 200, 1)
    assert (time.process_time() - started) / 20_000 < 20e-6  # about 1 us where nothing else runs


def test_the_server_counts_what_it_was_asked(serving, serving_config, serving_alias):
    alias, config = serving_alias(), serving_config()
    begin = datetime.now(UTC) - timedelta(minutes=1)

    def ask():
        app = create_app(config, registry=lambda: alias, load=alias.load)
        good = {"hour": 7, "wind": 1, "carrier": "UA"}
        with serving(app) as client:
            client.post("/invocations", json={"dataframe_records": [good] * 3})
            client.post("/invocations", json={"dataframe_records": [{"hour": "seven"}]})
            client.post(
                "/invocations", json={"dataframe_records": [good | {"x": "y" * 200}] * 400}
            )  # in a thread
            client.post("/labels", json={"id": "unknown", "label": "late"})
            client.get("/v2/health/ready")

    ask()
    ask()  # a restarted server adds to what is there
    with TelemetryStore(config.store_url) as store:
        found = store.counts_between(begin, begin + timedelta(hours=2), every=timedelta(days=1))
    assert {c.route for c in found} == {"invocations", "labels"}
    asked = [c for c in found if c.route == "invocations"]
    assert {c.version for c in asked} == {"1"}
    assert sum(c.requests for c in asked) == 6
    assert sum(c.rows for c in asked) == 806
    assert sum(c.client_errors for c in asked) == 2
    assert sum(c.server_errors for c in asked) == 0
    assert sum(c.requests for c in found if c.route == "labels") == 2


def test_requests_before_there_is_a_model_count_as_errors_of_the_server(
    serving, serving_config, serving_alias
):
    config = serving_config()
    alias = serving_alias(version=None)
    app = create_app(config, registry=lambda: alias, load=alias.load)
    with serving(app, ready=False) as client:
        assert client.post("/invocations", json={"dataframe_records": [{}]}).status_code == 503
        assert client.get("/v2/health/ready").status_code == 503  # a probe is not counted
    now = datetime.now(UTC)
    with TelemetryStore(config.store_url) as store:
        (found,) = store.counts_between(now - timedelta(hours=1), now)
    assert (found.version, found.requests, found.server_errors) == ("", 1, 1)
