"""The recorder takes rows off a worker's hands, and the worker keeps them until they are stored."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest

from deployments.serving.recorder import Away, Recorder, address
from deployments.serving.served import Served, encode, packed
from deployments.serving.spool import Spool
from deployments.serving.telemetry_writer import TelemetryWriter
from monitoring.errors import RecordFault, StoreFault
from monitoring.recording import Recording
from monitoring.storage import micros
from monitoring.telemetry import Recorded

NOW = datetime(2013, 1, 1, tzinfo=UTC)


class Store:
    """Holds rows by id; raises what it is told to."""

    def __init__(self):
        self.rows = {}
        self.fault = None
        self.held = threading.Event()
        self.held.set()

    def record_encoded(self, batch, rows):
        self.held.wait(20)
        if self.fault is not None:
            raise self.fault
        found = {row[0]: row for row in json.loads(batch)}
        assert len(found) == rows
        new = found.keys() - self.rows.keys()
        self.rows |= found
        return Recorded(len(new), rows - len(new))

    def record_counts(self, batch):
        pass

    def close(self):
        pass


class Seen:
    """Counts rows by what became of them."""

    def __init__(self):
        self.figures = {}

    def __getattr__(self, name):
        def count(rows=1):
            self.figures[name] = self.figures.get(name, 0) + rows

        return count


@contextmanager
def recording(store, path, kept=Recording()):  # noqa: B008 - a value
    stop = threading.Event()
    recorder = Recorder(store, kept, path)
    thread = threading.Thread(target=recorder.run, args=(stop, path.with_suffix(".beat")))
    thread.start()
    try:
        yield recorder
    finally:
        stop.set()
        thread.join(10)


def served(*ids, **change):
    n = len(ids)
    about = {
        "ids": list(ids),
        "times": NOW.timestamp(),
        "version": "7",
        "features": None,
        "names": ("hour", "carrier"),
        "rows": [[place, "UA"] for place in range(n)],
        "probabilities": np.tile([0.25, 0.75], (n, 1)),
        "latency_ms": [1.5] * n,
    }
    return Served(**(about | change))


@pytest.fixture
def path(tmp_path):
    found = address(tmp_path)
    return found if found is not None else pytest.skip("the folder's name is too long")


def test_rows_come_through_as_they_would_be_written_here(path):
    batch = [
        served("a", "b"),
        served("c", times=[NOW], latency_ms=2.0, probabilities=[[0.5, 0.5]]),
        served("d", features={"hour": [2**60], "wind": [None]}, names=(), rows=()),
        *(served(f"n{n}") for n in range(900)),  # in several messages
    ]
    here = {row[0]: row for row in json.loads(encode(batch).data)}
    store = Store()
    with recording(store, path):
        away = Away(path)
        done = away.record(batch)
        assert (done.new, done.left_out) == (904, 0)
        assert store.rows == here
        assert here["c"][1] == micros(NOW)
        assert away.record(batch).new == 0  # again changes nothing
        written = encode([served("z")])
        assert away.bring([written]).new == 1
        assert away.bring([*packed([served("y")]), written]).new == 1  # as the spool may have them
        assert len(store.rows) == 906
        away.close()


def test_what_is_not_to_be_stored_is_not(path):
    kept = Recording(share=0.5, never=frozenset(["carrier"]), key=b"0123456789abcdef")
    batch = [served(*(f"id-{n}" for n in range(100)))]
    store = Store()
    with recording(store, path, kept):
        done = Away(path).record(batch)
    assert done.new == len(store.rows) == 100 - done.left_out
    assert 30 < done.new < 70
    assert all(json.loads(row[3]).keys() == {"hour"} for row in store.rows.values())
    assert not any(id_.startswith("id-") for id_ in store.rows)


def test_faults_of_the_store_are_the_workers(path):
    store = Store()
    with recording(store, path):
        away = Away(path)
        for fault in (RecordFault("a bad row"), StoreFault("the disk is full")):
            store.fault = fault
            with pytest.raises(type(fault), match=str(fault)):
                away.record([served("a")])
        store.fault = ZeroDivisionError("of our own")
        with pytest.raises(StoreFault):
            away.record([served("a")])
        store.fault = None
        assert away.record([served("a")]).new == 1


def test_without_a_recorder_rows_are_for_whoever_asked(path):
    away = Away(path)
    assert away.record([served("a")]) is None
    store = Store()
    with recording(store, path):
        assert away.record([served("a")]).new == 1  # it has come meanwhile
        assert away.record([served("b", rows=[[2**80, "UA"]])]) is None  # no message holds that
    assert away.record([served("c")]) is None
    assert store.rows.keys() == {"a"}


def test_a_writer_loses_nothing_when_the_recorder_goes(path):
    store, here, seen = Store(), Store(), Seen()
    here.rows = store.rows  # one store, two processes' ways to it
    writer = TelemetryWriter(here, seen, flush_seconds=0.01, away=Away(path))
    writer.start()
    added = 0
    for _ in range(3):
        with recording(store, path):
            for _ in range(50):
                writer.add(served(str(added)))
                added += 1
                time.sleep(0.001)
        for _ in range(20):  # while there is none
            writer.add(served(str(added)))
            added += 1
    writer.close()
    assert store.rows.keys() == {str(n) for n in range(added)}
    assert seen.figures["written"] == added
    assert "dropped" not in seen.figures


def test_a_recorder_that_stands_still_holds_no_row_back(path, tmp_path):
    store, seen = Store(), Seen()
    spool = Spool(tmp_path / "spool", 1 << 20)
    writer = TelemetryWriter(Store(), seen, flush_seconds=0.01, away=Away(path), spool=spool)
    with recording(store, path):
        store.held.clear()
        writer.start()
        writer.add(served("a", "b"))
        deadline = time.monotonic() + 5
        while spool.rows < 2:  # on disk, where they survive the worker
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert writer.pending == 0
        store.held.set()
        deadline = time.monotonic() + 5
        while spool.rows:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        writer.close()
    assert store.rows.keys() == {"a", "b"}


def test_only_this_user_may_speak_to_it(path):
    with recording(Store(), path):
        assert os.stat(path).st_mode & 0o077 == 0


def test_more_than_the_store_takes_goes_to_disk_and_is_caught_up_with(path, tmp_path):
    """As it came, unless something of it is not to be stored: that is not on the disk either."""
    for kept in (Recording(), Recording(never=frozenset(["carrier"]))):
        store, seen = Store(), Seen()
        spool = Spool(tmp_path / f"spool-{len(kept.never)}", 1 << 24)
        writer = TelemetryWriter(
            store, seen, flush_seconds=60.0, maximum_rows=1_000, spool=spool, recording=kept
        )
        ids = [f"{n:05d}" for n in range(5_000)]
        writer.start()
        for place in range(0, len(ids), 100):
            while writer.pending > 900:
                time.sleep(0.005)
            assert writer.add(served(*ids[place : place + 100]))
        assert spool.rows > 3_000
        found = b"".join(file.read_bytes() for file in tmp_path.rglob("*.segment"))
        assert (b"UA" in found) is (kept.whole)
        writer.close()
        assert len(store.rows) == len(ids)
        assert "dropped" not in seen.figures
        assert json.loads(store.rows["04999"][3]).get("carrier") == ("UA" if kept.whole else None)
