"""The disk between the server and a store that is slow or down: nothing that was promised is lost,
the bound holds, and damage costs the damaged rows alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from deployments.serving.app import create_app
from deployments.serving.served import Batch, Served, encode
from deployments.serving.spool import Spool
from deployments.serving.telemetry_writer import TelemetryWriter
from monitoring.errors import RecordFault, StoreFault
from monitoring.records import Prediction
from monitoring.telemetry import TelemetryStore
from tasks.recording import recording as recording_of

NOW = datetime(2013, 1, 1, tzinfo=UTC)
MB = 1 << 20


def batch(number, rows=1, width=10):
    return Batch(json.dumps([f"{number:05d}" + "x" * width] * rows).encode(), rows)


def numbers(spool):
    found = []
    while (segment := spool.next()) is not None:
        found += [int(json.loads(b.data)[0][:5]) for b in spool.read(segment)]
        spool.done(segment)
    return found


def served(*ids):
    return Served(
        list(ids), NOW.timestamp(), "7", {"x": [1] * len(ids)}, [[0.5, 0.5]] * len(ids), 1
    )


class Store:
    """A store that can be down, or hang until it is told otherwise."""

    def __init__(self):
        self.down = False
        self.hang = threading.Event()
        self.hang.set()
        self.ids = []

    def record_encoded(self, batch, rows):
        self.hang.wait(20)
        if self.down:
            raise StoreFault("down")
        self.ids += [row[0] for row in json.loads(batch)]

    def record_counts(self, batch):
        pass


class Seen(Counter):
    def __getattr__(self, name):
        def add(rows=1):
            self[name] = rows if name in ("pending", "spooled") else self[name] + rows

        return add


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def spool(tmp_path, dropped):
    return Spool(tmp_path / "spool", MB, dropped.append)


def test_what_was_appended_comes_back_in_order_over_many_segments(spool, dropped):
    for number in range(300):
        spool.append(batch(number, width=1_000))
    assert len(list(spool._folder.glob("*/*.segment"))) >= 4
    assert spool.rows == 300
    assert numbers(spool) == list(range(300))
    assert spool.empty
    assert not list(spool._folder.glob("*/*.segment"))
    assert not dropped


def test_the_bound_holds_and_the_oldest_go_first(spool, dropped):
    for number in range(3_000):
        spool.append(batch(number, width=1_000))
    size = sum(path.stat().st_size for path in spool._folder.glob("*/*.segment"))
    assert size <= MB
    assert spool.rows + sum(dropped) == 3_000
    assert numbers(spool) == list(range(sum(dropped), 3_000))
    spool.append(Batch(b"x" * (2 * MB), 7))  # larger than the whole bound
    assert dropped[-1] == 7


def test_a_segment_that_is_being_sent_is_not_dropped(spool, dropped):
    for number in range(1_000):
        spool.append(batch(number, width=1_000))
    segment = spool.next()
    for number in range(2_000):
        spool.append(batch(number, width=1_000))
    assert segment.path.exists()
    spool.done(segment, keep=True)
    spool.append(batch(0, width=1_000 * 100))
    assert not segment.path.exists()


def test_a_file_cut_anywhere_keeps_its_whole_frames(spool, dropped):
    frames = [batch(n, rows=2, width=30) for n in range(3)]
    for frame in frames:
        spool.append(frame)
    segment = spool.next()
    data = segment.path.read_bytes()
    size = len(data) // 3
    for cut in range(len(data)):
        segment.path.write_bytes(data[:cut])
        dropped.clear()
        assert list(spool.read(segment)) == frames[: cut // size]
        assert sum(dropped) in (0, 2)  # as far as a torn header says


def test_a_flipped_byte_costs_its_own_frame_alone(spool, dropped):
    frames = [batch(n, rows=2, width=30) for n in range(3)]
    for frame in frames:
        spool.append(frame)
    segment = spool.next()
    data = segment.path.read_bytes()
    size = len(data) // 3
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        segment.path.write_bytes(damaged)
        found = list(spool.read(segment))
        assert found == [f for n, f in enumerate(frames) if n != at // size], at


def test_segments_of_the_living_stay_theirs_and_of_the_dead_are_adopted(spool, tmp_path):
    code = f"""
import sys
from pathlib import Path
from deployments.serving.served import Batch
from deployments.serving.spool import Spool
spool = Spool(Path({str(tmp_path / "spool")!r}), {MB})
for n in range(5):
    spool.append(Batch(b'["%05d"]' % n, 1))
print("ready", flush=True)
sys.stdin.readline()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"ready\n"
    for number in (5, 6):
        spool.append(batch(number))
    assert spool.adopt() == 0
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert spool.adopt() == 5
    assert spool.adopt() == 0  # once
    assert spool.rows == 7
    other = Spool(tmp_path / "spool", MB)
    assert other.adopt() == 0
    assert numbers(spool) == [0, 1, 2, 3, 4, 5, 6]  # the dead one's are the older
    spool.append(batch(7))
    spool.close()  # an orderly end leaves them, too
    assert other.adopt() == 1
    assert numbers(other) == [7]
    assert not list((tmp_path / "spool").iterdir())


def test_a_store_that_is_down_is_caught_up_with_in_order(spool):
    store, seen = Store(), Seen()
    writer = TelemetryWriter(store, seen, flush_seconds=0.01, maximum_rows=50, spool=spool)
    store.down = True
    writer.start()
    asked = [f"{n:05d}" for n in range(400)]
    for id_ in asked[:300]:  # many times what memory may hold
        assert writer.add(served(id_))
        time.sleep(0.002)
    deadline = time.monotonic() + 5
    while writer.pending and time.monotonic() < deadline:
        time.sleep(0.005)
    assert (writer.pending, writer.spooled, store.ids) == (0, 300, [])
    store.down = False
    for id_ in asked[300:]:
        writer.add(served(id_))
        time.sleep(0.002)
    writer.flush()
    while len(store.ids) < 400 and time.monotonic() < deadline + 5:
        time.sleep(0.01)
    writer.close()
    assert store.ids == asked
    assert (writer.spooled, seen["dropped"], seen["written"]) == (0, 0, 400)


def test_rows_go_to_disk_beside_a_write_that_hangs(spool):
    store, seen = Store(), Seen()
    writer = TelemetryWriter(store, seen, flush_seconds=0.02, spool=spool)
    store.hang.clear()
    writer.start()
    for number in range(40):
        writer.add(served(str(number)))
        time.sleep(0.02)
    started = time.monotonic()
    writer.flush()  # as a label's request does: it must not hang, too
    assert time.monotonic() - started < 1
    assert (writer.pending, writer.spooled) == (0, 40)  # the write under way is there as well
    store.hang.set()
    deadline = time.monotonic() + 5
    while writer.spooled and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.close()
    assert set(store.ids) == {str(n) for n in range(40)}  # some twice, which the store forgives
    assert seen["dropped"] == 0


def test_a_disk_that_refuses_leaves_the_rows_in_memory(tmp_path):
    (tmp_path / "spool").write_text("a file where the folder should be")
    store, seen = Store(), Seen()
    store.down = True
    writer = TelemetryWriter(
        store, seen, flush_seconds=0.01, maximum_rows=3, spool=Spool(tmp_path / "spool", MB)
    )
    for id_ in "abcd":
        writer.add(served(id_))
    with pytest.raises(StoreFault):
        writer.flush()
    assert (writer.pending, seen["dropped"]) == (3, 1)
    store.down = False
    writer.flush()
    assert store.ids == ["a", "b", "c"]


def test_one_row_that_cannot_be_written_costs_no_other_on_its_way_to_disk(spool):
    store, seen = Store(), Seen()
    store.down = True
    writer = TelemetryWriter(store, seen, flush_seconds=0.01, spool=spool)
    for id_, value in (("a", 1), ("bad", object()), ("b", 2)):
        writer.add(Served([id_], NOW.timestamp(), "7", {"x": [value]}, [[1.0]], 1.0))
    writer.flush()
    assert (writer.spooled, seen["dropped"]) == (2, 1)
    store.down = False
    writer.catch_up()
    assert store.ids == ["a", "b"]


ANSWERING = """
import sys, time
from pathlib import Path
from deployments.serving.served import Served
from deployments.serving.spool import Spool
from deployments.serving.telemetry_writer import TelemetryWriter
from monitoring.errors import StoreFault
class Down:
    def record_encoded(self, batch, rows):
        raise StoreFault("down")
    record_counts = record_encoded
class Silent:
    def __getattr__(self, name):
        return lambda rows=0: None
spool = Spool(Path(sys.argv[1]), 1 << 20)
writer = TelemetryWriter(Down(), Silent(), flush_seconds=0.1, spool=spool)
writer.start()
for n in range(100_000):
    writer.add(Served([f"{n:06d}"], time.time(), "1", {"x": [n]}, [[0.25, 0.75]], 1.0))
    print(n, time.monotonic(), flush=True)
    time.sleep(0.001)
"""


def test_a_kill_while_the_store_is_down_loses_one_flush_interval(tmp_path, spool):
    child = subprocess.Popen(
        [sys.executable, "-c", ANSWERING, str(tmp_path / "spool")], stdout=subprocess.PIPE
    )
    first = child.stdout.readline()
    time.sleep(1.2)
    os.kill(child.pid, signal.SIGKILL)
    killed = time.monotonic()
    said = [line.split() for line in (first + child.communicate()[0]).split(b"\n")[:-1]]
    asked = {f"{int(n):06d}": float(at) for n, at in (line for line in said if len(line) == 2)}
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        writer = TelemetryWriter(store, Seen(), flush_seconds=0.05, spool=spool)
        writer.start()  # the restarted server
        deadline = time.monotonic() + 5
        while not store.counts()["predictions"] and time.monotonic() < deadline:
            time.sleep(0.02)
        writer.close()
        frame = store.rows(None, None)
    due = [
        id_ for id_, at in asked.items() if at < killed - 0.1 - 0.5
    ]  # half a second: a slow disk
    assert len(due) > 20
    assert set(due) <= set(frame["id"])
    assert frame["id"].tolist() == sorted(frame["id"])
    assert frame["x"].tolist() == [int(id_) for id_ in frame["id"]]


def test_both_ways_of_recording_store_the_same(tmp_path):
    features = {"n": 1, "f": 0.1, "big": 1e300, "nan": float("nan"), "none": None, "flag": True}
    features |= {"text": 'sao "paulo"\n\u00e9\U0001f600', "np": np.float32(0.5), "empty": ""}
    one = Prediction("a", NOW, "3", features, (0.1, 0.9), 2.5)
    with TelemetryStore(f"sqlite:///{tmp_path / 'one.db'}") as store:
        store.record([one])
        expected = store.rows(None, None)
    columns = {name: [value] for name, value in features.items()}
    proba = np.array([[0.1, 0.9]])
    by_column = Served(["a"], [NOW], "3", columns, proba, 2.5)
    by_row = Served(
        ["a"], NOW.timestamp(), "3", None, proba, 2.5, tuple(features), [list(features.values())]
    )
    for name, request in (("column", by_column), ("row", by_row)):
        with TelemetryStore(f"sqlite:///{tmp_path / name}.db") as store:
            made = encode([request])
            assert store.record_encoded(made.data, made.rows) == (1, 0)
            assert store.record_encoded(made.data, made.rows) == (0, 1)
            assert store.rows(None, None).equals(expected)
            with pytest.raises(RecordFault):
                store.record_encoded(b'[["b"]]', 1)


def test_a_label_is_on_the_disk_when_it_is_acknowledged_and_a_prediction_in_the_file(tmp_path):
    """What SQLite is told: 2 is FULL, every commit to the disk; 1 is NORMAL, the file alone."""
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        levels = {}
        for name, transaction in (
            ("label", lambda: store.database.write(lasting=True)),
            ("decision", store.database.write),
            ("prediction", store.database.append),
        ):
            with transaction() as connection:
                levels[name] = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    assert levels == {"label": 2, "decision": 1, "prediction": 1}


BODY = {"dataframe_records": [{"hour": 7, "wind": 1, "carrier": "UA"}]}


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return found


def test_a_server_starts_and_answers_without_its_store(serving, serving_config, serving_alias):
    alias, config = serving_alias(), serving_config()
    database = config.folder / "telemetry.db"
    database.mkdir(parents=True)  # no database can be opened there
    options = {"registry": lambda: alias, "load": alias.load}
    with serving(create_app(config, **options)) as client:
        (id_,) = client.post("/invocations", json=BODY).json()["ids"]
        refused = client.post("/labels", json={"id": id_, "label": "late"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert list((config.folder / "spool").glob("*/*.segment"))  # the server is gone, the row is not
    database.rmdir()
    with serving(create_app(config, **options)) as client:
        until(lambda: "everfit_telemetry_written_rows_total 1.0" in client.get("/metrics").text)
        assert client.post("/labels", json={"id": id_, "label": "late"}).status_code == 200
    assert not list((config.folder / "spool").iterdir())


def test_a_server_records_a_sample_under_hashed_ids_without_some_columns(
    serving, serving_config, serving_alias, monkeypatch
):
    monkeypatch.setenv("EVERFIT_ID_KEY", "a key of sixteen characters")
    alias, config = serving_alias(), serving_config()
    config = config.model_copy(
        update={
            "serving": config.serving.model_copy(update={"sample": 0.5}),
            "telemetry": config.telemetry.model_copy(
                update={"hash_ids": True, "never_store": ["carrier"]}
            ),
        }
    )
    ids = [f"customer-{n}" for n in range(60)]
    with serving(create_app(config, registry=lambda: alias, load=alias.load)) as client:
        for id_ in ids:
            client.post("/invocations", json={**BODY, "ids": [id_]}).raise_for_status()
        answers = client.post(
            "/labels", json={"labels": [{"id": id_, "label": "late"} for id_ in ids]}
        ).json()["results"]
        again = client.post("/labels", json={"id": ids[0], "label": "late"})
        metrics = client.get("/metrics").text
    taken = {answer["id"] for answer in answers if answer["result"] == "accepted"}
    assert {answer["result"] for answer in answers} == {"accepted", "unsampled"}
    assert again.json() == {"id": ids[0], "result": "duplicate"}
    assert f"everfit_telemetry_unsampled_rows_total {60.0 - len(taken)}" in metrics
    recording = recording_of(config)
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(None, None)
        (kept,) = store.recordings()
    assert set(frame["id"]) == {recording.stored_id(id_) for id_ in taken}
    assert {"hour", "wind"} <= set(frame.columns)
    assert "carrier" not in frame
    assert set(frame["label"]) == {"late"}
    assert (kept.share, kept.never) == (0.5, ("carrier",))
    for file in config.folder.rglob("*"):
        assert not file.is_file() or b"customer-" not in file.read_bytes(), file
