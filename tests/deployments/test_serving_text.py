"""A model of texts behind the server: strings in each protocol, their limits, and what is kept."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime

import jsonschema
import numpy as np
import pytest

from deployments.serving import batch, inference_protocol, lane, telemetry_writer
from deployments.serving import tensors as tensor_bytes
from deployments.serving.app import create_app
from deployments.serving.batch import Batcher
from deployments.serving.errors import RequestFault
from deployments.serving.lane import Lanes
from deployments.serving.rows import Reader, Rows
from deployments.serving.served import packed
from deployments.serving.slots import Slot
from deployments.serving.telemetry_writer import Served, TelemetryWriter
from models.encoding import Encoder
from models.records import Release
from models.schema import Column, Schema
from monitoring.telemetry import TelemetryStore
from tasks.config import load

CONFIG = """\
name: tiny
task: text
data:
  source: rows.csv
  target: spam
  columns: {%s}
  classes: [false, true]
train: {families: [tfidf]}
serving: {poll_seconds: 0.02, flush_seconds: 0.05, maximum_body_mb: 0.5, maximum_text: 2000}
"""
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}  # the long way
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
TEXTS = ["FREE money", 'a "quoted"\nline, \\ and\ttab', "Grüße, 世界 🎉", "", None, "x" * 2000]


class Reads:
    """A model of an hour and a text, or of a text alone: 'free' is spam, the later the likelier."""

    classes = (False, True)

    def __init__(self, columns):
        self.schema = Schema(columns, target="spam", classes=self.classes)
        numbers, texts = self.schema.numbers, self.schema.texts
        self.encoder = Encoder(numbers, {}, [c.name for c in columns], texts)
        self.asked = []

    def predict_rows(self, numbers, categories, texts):
        encoded = self.encoder.encode(numbers, categories, texts)
        self.asked.append(len(encoded))
        hours = np.nan_to_num(encoded.numbers).sum(axis=1) / 1000
        found = [0.1 + 0.8 * ("free" in text.lower()) for text in encoded.texts[:, 0]]
        spam = np.array(found) + hours
        return np.column_stack([1 - spam, spam])

    def self_check(self):
        pass


HOUR_BODY = (Column("hour", "number"), Column("body", "text"))
BODY = (Column("body", "text"),)


@pytest.fixture
def make(tmp_path, serving_alias):
    """A model, its config and its application; `columns` are those of the model."""

    def made(columns, **settings):
        (tmp_path / "rows.csv").write_text("hour,body,spam\n")
        path = tmp_path / "tiny.yaml"
        path.write_text(CONFIG % ", ".join(f"{c.name}: {c.kind}" for c in columns))
        config, model = load(path, **settings), Reads(columns)
        alias = serving_alias(models={"1": model})
        return config, create_app(config, registry=lambda: alias, load=alias.load), model

    return made


@pytest.fixture
def taken(monkeypatch):
    """How many requests the quick lane has answered."""
    seen, score = [], Lanes._score

    def counted(self, ready, batch):
        done = score(self, ready, batch)
        seen.extend(batch if done else ())
        return done

    monkeypatch.setattr(Lanes, "_score", counted)
    return seen


def tensors(rows):
    return [
        {"name": "hour", "shape": [len(rows)], "datatype": "FP64", "data": [r[0] for r in rows]},
        {"name": "body", "shape": [len(rows)], "datatype": "BYTES", "data": [r[1] for r in rows]},
    ]


def spam(answer):
    body = answer.json()
    if "outputs" in body:
        return body["outputs"][2]["data"]
    return [row["probability_True"] for row in body["predictions"]]


def test_every_layout_and_both_ways_say_the_same_and_keep_the_text(make, serving, taken):
    config, app, _ = make(HOUR_BODY)
    rows = [[i, text] for i, text in enumerate(TEXTS)]
    named = [{"hour": hour, "body": text} for hour, text in rows]
    bodies = {
        "/invocations": [
            {"dataframe_records": named},
            {"dataframe_split": {"columns": ["hour", "body"], "data": rows}},
            {"dataframe_split": {"columns": ["body", "hour"], "data": [r[::-1] for r in rows]}},
            {"instances": rows},
            {"inputs": {"hour": [r[0] for r in rows], "body": [r[1] for r in rows]}},
        ],
        "/v2/models/tiny/infer": [{"inputs": tensors(rows)}],
    }
    expected = pytest.approx([0.9, 0.101, 0.102, 0.103, 0.104, 0.105])
    with serving(app) as client:
        ids = []
        for path, each in bodies.items():
            for body in each:
                for headers in ({}, {}, TRACE):  # twice: a form that was seen is read differently
                    answer = client.post(path, json=body, headers=headers)
                    assert answer.status_code == 200, answer.text
                    assert spam(answer) == expected
                    told = answer.json()
                    ids += told.get("ids") or told["parameters"]["ids"]
        assert len(taken) >= 10  # all but those by column and with the header
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(*ALWAYS).set_index("id").loc[ids]
    kept = [
        None if gone else text
        for text, gone in zip(frame["body"], frame["body"].isna(), strict=True)
    ]
    assert kept == TEXTS * 18
    assert frame["hour"].tolist() == list(range(6)) * 18


def test_a_text_alone_is_a_row_of_a_model_of_texts(make, serving):
    _, app, _ = make(BODY)
    with serving(app) as client:
        for key in ("instances", "inputs"):
            assert spam(client.post("/invocations", json={key: ["free", None]})) == [0.9, 0.1]
        many = client.post("/invocations", json={"inputs": {"body": ["a", "free"]}})
        assert spam(many) == [0.1, 0.9]
        sheet = 'body\n"free, and\nmore"\nNA\n'
        csv = client.post("/invocations", content=sheet, headers={"content-type": "text/csv"})
        assert spam(csv) == [0.9, 0.1]
        described = client.get("/openapi.json").json()
        whole = described["paths"]["/invocations"]["post"]["requestBody"]["content"]
        schema = whole["application/json"]["schema"] | {"components": described["components"]}
        says = jsonschema.Draft202012Validator(schema).is_valid
        for texts, fits in (
            (["free"], True),
            ([{"body": None}], True),
            ([7], False),
            (["x" * 2001], False),
        ):
            body = {"instances": texts}
            assert says(body) is fits
            assert (client.post("/invocations", json=body).status_code == 200) is fits


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/invocations", {"dataframe_records": [{"hour": 1, "body": 7}]}, 400, "a text or null"),
        ("/invocations", {"instances": [[1, "ok"], [1, ["x"]]]}, 400, "column 'body', row 1"),
        ("/invocations", {"instances": ["alone"]}, 400, "model's 2 values in order"),
        ("/invocations", {"instances": [[1, "secret" * 400]]}, 413, "raise serving.maximum_text"),
        ("/invocations", {"dataframe_records": [{"hour": 1}]}, 400, "column 'body'"),
        (
            "/v2/models/tiny/infer",
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]},
            400,
            "column 'body', row 0: a value of this column is a text or null",
        ),
        (
            "/v2/models/tiny/infer",
            {"inputs": [tensors([[1, ""]])[0], tensors([[1, "y" * 2001]])[1]]},
            413,
            "at most 2,000 characters",
        ),
    ],
)
def test_a_text_at_fault_is_explained_and_not_repeated(make, serving, path, body, status, words):
    _, app, model = make(HOUR_BODY)
    with serving(app) as client:
        answer = client.post(path, json=body)
        assert answer.status_code == status
        assert words in answer.text
        assert "secret" not in answer.text
        assert not model.asked


def test_what_may_not_be_stored_is_answered_with_and_not_stored(make, serving):
    config, app, _ = make(HOUR_BODY, telemetry__never_store=["body"])
    with serving(app) as client:
        for headers in ({}, TRACE):
            answer = client.post("/invocations", json={"instances": [[1, "free"]]}, headers=headers)
            assert spam(answer) == pytest.approx([0.901])
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(*ALWAYS)
    assert len(frame) == 2
    assert "body" not in frame
    for path in config.folder.rglob("*"):
        assert not path.is_file() or b"free" not in path.read_bytes()


def test_a_tensor_of_all_columns_as_bytes_fits_numbers_alone():
    matrix = Rows({}, 1, matrix=np.zeros((1, 2)))
    with pytest.raises(RequestFault, match=r"'body' is a text; .*: send one tensor a column"):
        Reader(HOUR_BODY, None).check(matrix)


@pytest.mark.parametrize("raw", [False, True])
def test_texts_come_over_grpc_and_as_bytes_behind_json(raw):
    from deployments.serving import grpc_convert

    sent = ["free, Ü 🎉", "", "a\0b"]
    request = grpc_convert.Request(model_name="tiny")
    tensor = request.inputs.add(name="body", datatype="BYTES", shape=[3, 1])
    if raw:
        request.raw_input_contents.append(tensor_bytes.write("BYTES", sent))
    else:
        tensor.contents.bytes_contents.extend(text.encode() for text in sent)
    rows, _ = grpc_convert.parse(request, 10)
    assert Reader(BODY, None).check(rows).texts == {"body": sent}
    data = tensor_bytes.write("BYTES", sent)
    about = {"name": "body", "shape": [3], "datatype": "BYTES"}
    head = json.dumps(
        {"inputs": [about | {"parameters": {"binary_data_size": len(data)}}]}
    ).encode()
    rows, _ = inference_protocol.parse(head + data, 10, str(len(head)))
    assert Reader(BODY, None).check(rows).texts == {"body": sent}


async def test_a_call_of_the_model_is_bounded_by_the_length_of_its_texts(monkeypatch):
    monkeypatch.setattr(batch, "_MOST_TEXT", 100)
    model = Reads(BODY)
    slot = Slot(Release("tiny", "1", "digest", "window", "run"), model)
    reader, batcher = Reader(slot.columns, None), Batcher()

    def rows(length):
        return reader.check(Rows({"body": ["f" * length, "free"]}, 2))

    futures = [batcher.score(slot, rows(length)) for length in (10, 10, 10, 80, 500, 1)]
    for future in futures:
        assert (await future).probabilities[:, 1].tolist() == [0.1, 0.9]
    assert model.asked == [6, 2, 2, 2]  # 14, 14 and 14 characters, then 84, 504, 5


def test_the_lane_is_bounded_likewise(make, serving, taken, monkeypatch):
    monkeypatch.setattr(lane, "_MOST_BYTES", 400)
    _, app, model = make(BODY)
    body = json.dumps({"instances": ["w" * 150]}).encode()
    request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n" % len(body) + body

    with serving(app) as client, ExitStack() as stack:
        address = (client.base_url.host, client.base_url.port)
        peers = [stack.enter_context(socket.create_connection(address)) for _ in range(12)]
        for peer in peers:
            peer.sendall(request)
        for peer in peers:
            peer.settimeout(10)
            assert peer.recv(65_536).startswith(b"HTTP/1.1 200")
    assert len(taken) == 12
    assert sum(model.asked) == 12
    assert max(model.asked) <= 2


def test_long_texts_count_as_many_rows_in_what_is_held_and_written_at_once(monkeypatch):
    written, lost = [], []

    class Store:
        def record_encoded(self, batch, rows):
            written.append(rows)

    class Seen:
        def __getattr__(self, name):
            return lost.append if name == "dropped" else lambda *_: None

    def served(number, characters):
        rows = [["x" * characters]]
        about = ([str(number)], time.time(), "1", None, [[0.5, 0.5]], 1.0, ["body"], rows)
        return Served(*about, characters=characters)

    monkeypatch.setattr(telemetry_writer, "_BATCH_ROWS", 50)
    writer = TelemetryWriter(Store(), Seen(), flush_seconds=1, maximum_rows=200)
    assert all(writer.add(served(number, 20_000)) for number in range(9))  # 21 each: 189
    assert not writer.add(served(9, 20_000))
    assert writer.add(served(10, 10))
    assert lost == [1]
    assert writer.pending == 10
    assert [part.rows for part in packed([served(n, 150_000) for n in range(4)])] == [3, 1]
    writer.flush()
    assert written == [2, 2, 2, 2, 2]
    assert writer.add(served(11, 150_000))  # all that was written weighs no more


def test_a_shadow_reads_the_same_texts():
    from deployments.serving.comparer import Comparer
    from deployments.serving.slots import Slots

    class Counted:
        def count(self, *_, **__):
            pass

        def compared(self, result, rows):
            assert result in ("compared", "skipped"), result

    found, slots = [], Slots()
    one, two = (
        Slot(Release("tiny", v, "digest", "window", "run"), Reads(HOUR_BODY)) for v in ("1", "2")
    )
    slots.swap(one)
    slots.try_out(two)
    comparer = Comparer(slots, Counted(), Counted(), found.extend, rows_per_second=2)
    rows = Rows({"hour": [0.0, 1.0, 2.0], "body": ["free", "no", "free"]}, 3)
    comparer.offer(one, Reader(one.columns, None).check(rows), time.time())
    comparer.turn(1.0)
    assert [answer.probabilities[1] for answer in found] == pytest.approx([0.9, 0.101])
