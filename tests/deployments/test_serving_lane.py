"""The quick lane answers what the long way answers, byte for byte, and leaves it what it cannot."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.serving import inference_outputs, inference_protocol, protocols
from deployments.serving.app import create_app
from deployments.serving.bodies import Inferences, Invocations
from deployments.serving.errors import RequestFault
from deployments.serving.lane import Lanes
from deployments.serving.slots import Answer
from deployments.serving.writing import Writer, texts
from models.schema import Column
from monitoring.telemetry import TelemetryStore

COLUMNS = ["hour", "wind", "carrier"]
ROWS = [[7, 1.5, "UA"], [3, None, None], [12.25, -4, "B6"], [True, 0, "ZZ"]]
ID = re.compile(rb"[0-9a-f]{32}")
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}  # the long way
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def app(serving_config, serving_alias):
    alias = serving_alias()
    return create_app(serving_config(), registry=lambda: alias, load=alias.load)


@pytest.fixture(scope="module")
def client(app, serving):
    with serving(app) as client:
        yield client


@pytest.fixture
def taken(monkeypatch):
    """How many requests the lane has answered."""
    seen = []
    score = Lanes._score

    def counted(self, ready, batch):
        done = score(self, ready, batch)
        if done:
            seen.extend(batch)
        return done

    monkeypatch.setattr(Lanes, "_score", counted)
    return seen


def tensors(rows):
    kinds = ("FP64", "FP64", "BYTES")
    return {
        "inputs": [
            {"name": n, "shape": [len(rows)], "datatype": k, "data": list(v)}
            for n, k, v in zip(COLUMNS, kinds, zip(*rows, strict=True), strict=True)
        ]
    }


def permuted(rows):
    return [[c, h, w] for h, w, c in rows]


BODIES = {
    "split": lambda rows: {"dataframe_split": {"columns": COLUMNS, "data": rows}},
    "split, other order": lambda rows: {
        "dataframe_split": {"columns": ["carrier", "hour", "wind"], "data": permuted(rows)}
    },
    "records": lambda rows: {
        "dataframe_records": [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    },
    "instances": lambda rows: {"instances": rows},
    "inputs": lambda rows: {"inputs": rows},
    "tensors": tensors,
    "tensors with an id": lambda rows: tensors(rows) | {"id": 'a "b"'},
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_both_ways_say_the_same(client, taken, kind, count):
    path = "/v2/models/tiny/infer" if "tensor" in kind else "/invocations"
    rows = (ROWS[:3] * count)[:count]
    content = json.dumps(BODIES[kind](rows))
    found = [client.post(path, content=content, headers=JSON) for _ in range(2)]  # the form is new
    assert len(taken) == 2
    long = client.post(path, content=content, headers=JSON | TRACE)
    assert len(taken) == 2
    assert {r.status_code for r in (*found, long)} == {200}
    assert {ID.sub(b"ID", r.content) for r in (*found, long)} == {ID.sub(b"ID", long.content)}
    for name in ("content-type", "x-model-version"):
        assert {r.headers[name] for r in found} == {long.headers[name]}
    ids = ID.findall(found[0].content)
    assert len(set(ids)) == count
    assert ("x-prediction-ids" in found[0].headers) is (count <= 16)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [[7, 1]]}}',
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [[7, 1, "UA"]}}',
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [[7, 1e99, "UA"]]}}',
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [["7", 1, "UA"]]}}',
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [[7, 1, [2]]]}}',
        b'{"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": []}}',
        b'{"dataframe_records": [{"hour": 7, "wind": 1, "carrier": "\\ud800"}]}',
        b'{"instances": [[7, 1, "UA"], [7, 1]]}',
        b'{"inputs": [[' + b"[" * 5_000 + b"]]}",
        json.dumps({"instances": [[1, 2, "UA"]] * 1_001}).encode(),
    ],
)
def test_what_is_at_fault_is_refused_in_the_words_of_the_long_way(client, taken, content):
    for kind in ("split", "records", "instances", "inputs"):  # forms that it begins like are known
        good = json.dumps(BODIES[kind](ROWS[:1]))
        assert client.post("/invocations", content=good, headers=JSON).status_code == 200
    taken.clear()
    quick = client.post("/invocations", content=content, headers=JSON)
    long = client.post("/invocations", content=content, headers=JSON | TRACE)
    assert not taken
    assert (quick.status_code, quick.json()) == (long.status_code, long.json())
    assert 400 <= quick.status_code < 500


def test_requests_of_one_turn_have_each_their_own_answer(client, taken, app, monkeypatch):
    """Good ones and bad ones, at once; the answers are those of the same rows alone."""
    rows = [[hour, wind, c] for hour in range(8) for wind in (0.5, None) for c in ("UA", "B6")]
    bodies = [json.dumps({"instances": [row]}) for row in rows]
    alone = [client.post("/invocations", content=b, headers=JSON).json() for b in bodies]
    bodies[5] = '{"instances": [[1]]}'
    held = threading.Event()
    slot = app.state.service.slots.current
    predict = slot.model.predict_rows

    def slow(*rows):
        if not held.is_set():
            held.set()
            time.sleep(0.2)  # meanwhile others come
        return predict(*rows)

    monkeypatch.setattr(slot.model, "predict_rows", slow)
    taken.clear()
    with ThreadPoolExecutor(len(bodies)) as pool:
        found = list(
            pool.map(lambda b: client.post("/invocations", content=b, headers=JSON), bodies)
        )
    assert found[5].status_code == 400
    for place, answer in enumerate(found):
        if place != 5:
            assert answer.json()["predictions"] == alone[place]["predictions"]
    assert len(taken) == len(bodies) - 1


def test_what_the_lane_has_answered_is_recorded_and_counted(serving, serving_config, serving_alias):
    alias, config = serving_alias(), serving_config()
    application = create_app(config, registry=lambda: alias, load=alias.load)
    with serving(application) as client:
        found = []
        for kind in ("split", "split", "records", "split, other order"):
            answer = client.post("/invocations", json=BODIES[kind](ROWS))
            found += zip(answer.json()["ids"], answer.json()["predictions"], strict=True)
        text = client.get("/metrics").text
        assert 'everfit_requests_total{endpoint="invocations",status="200"} 4.0' in text
        assert 'everfit_predictions_total{version="1"} 16.0' in text
        assert 'everfit_unknown_categories_total{column="carrier"} 4.0' in text
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(None, None).set_index("id")
        counts = store.counts()
    assert counts["predictions"] == 16
    for place, (id_, said) in enumerate(found):
        row = frame.loc[id_]
        assert row["proba"] == [said["probability_on time"], said["probability_late"]]
        hour, _, carrier = ROWS[place % 4]
        assert row["hour"] == hour
        assert row["carrier"] == carrier or carrier is None
        assert row["latency_ms"] > 0


CLASSES = [(0, 1), ("on time", "late"), (True, False), ('50 % "b"', "é", "c"), (1.5, 2.5)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_templates_write_what_the_protocols_write(data):
    classes = data.draw(st.sampled_from(CLASSES))
    count = data.draw(st.integers(1, 4))
    share = st.floats(0, 1) | st.sampled_from([1e-300, 5e-324, 1.0, 0.1 + 0.2])
    proba = np.array(
        data.draw(
            st.lists(
                st.lists(share, min_size=len(classes), max_size=len(classes)),
                min_size=count,
                max_size=count,
            )
        )
    )
    labels = proba.argmax(axis=1).tolist()
    ids = [f"{n:032x}" for n in range(count)]
    answer = Answer("a %d", "7", classes, ids, [classes[i] for i in labels], proba, [])
    writer = Writer("a %d", "7", classes)
    joined = '","'.join(ids).encode()
    assert writer.invocations(joined, labels, proba) == protocols.render(answer)
    if count == 1:
        (share,) = texts(proba)
        assert writer.invocation(joined, labels[0], share) == protocols.render(answer)
    id_ = data.draw(st.none() | st.text(max_size=3))
    sent = SimpleNamespace(outputs=[], parameters={}, id=id_)
    whole, _ = inference_outputs.render(answer, sent)
    assert writer.inference(joined, labels, proba, id_) == whole


NUMBERS = (Column("a", "number"), Column("b", "number"))
MIXED = (Column("a", "number"), Column("b", "text"))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([1]),
    st.sampled_from(['"', "\\", "\ud800", "\n}", '"]]}}', "\0", "🎉"]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["split", "records", "listed", "tensor"]),
    st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=3),
    st.binary(max_size=4),
    st.integers(0, 200),
    st.booleans(),
)
def test_a_known_form_never_reads_what_the_long_way_would_not(kind, rows, junk, place, mixed):
    """Whatever comes behind a known beginning: the same rows, or none."""

    def body(rows):
        if kind == "split":
            return {"dataframe_split": {"columns": ["a", "b"], "data": rows}}
        if kind == "records":
            return {"dataframe_records": [dict(zip("abc", row, strict=False)) for row in rows]}
        if kind == "listed":
            return {"instances": rows}
        data = [value for row in rows for value in row]
        return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": data}]}

    mixed = mixed and kind != "tensor"
    bodies = (Inferences if kind == "tensor" else Invocations)(MIXED if mixed else NUMBERS, 3)
    row = [1.0, 'a "text"\n'] if mixed else [1.0, 2.5]
    good = json.dumps(body([row])).encode()
    assert bodies.table(good) is None
    assert bodies.whole(good) is not None
    assert [list(row) for row in bodies.table(good)] == [row]

    sent = json.dumps(body(rows)).encode()
    sent = sent[:place] + junk + sent[place:]
    found = bodies.table(sent)
    if found is not None:
        if kind == "tensor":
            (table, _) = inference_protocol.parse(sent, 3)
            expected = table.positional
        else:
            table = protocols.parse(sent, "application/json", 3)
            expected = table.positional
            if kind == "records":
                assert table.names is None or set(table.names) == {"a", "b"}
        got = [list(row) for row in found]
        if kind == "records" and expected is not None:
            expected = [[row[table.names.index(n)] for n in "ab"] for row in expected]
        assert expected is not None
        assert got == [list(row) for row in expected]
    else:
        with contextlib.suppress(RequestFault):
            bodies.whole(sent)
