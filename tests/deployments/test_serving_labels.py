"""Labels: acknowledged means stored, and each case is answered in its way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from threading import Thread

import pytest

from deployments.serving.app import create_app
from monitoring.errors import StoreFault
from monitoring.telemetry import TelemetryStore

ROW = {"hour": 7, "wind": 1.5, "carrier": "UA"}


@pytest.fixture(scope="module")
def config(serving_config):
    return serving_config()


@pytest.fixture(scope="module")
def app(config, serving_alias):
    alias = serving_alias()
    return create_app(config, registry=lambda: alias, load=alias.load)


@pytest.fixture(scope="module")
def client(app, serving):
    with serving(app) as client:
        yield client


@pytest.fixture
def store(config):
    with TelemetryStore(config.store_url) as store:
        yield store


def predict(client, *ids):
    body = {"dataframe_records": [ROW] * len(ids), "ids": list(ids)}
    assert client.post("/invocations", json=body).status_code == 200


def counts(client, result):
    lines = client.get("/metrics").text.splitlines()
    name = f'everfit_labels_total{{result="{result}"}} '
    return sum(float(x.split()[-1]) for x in lines if x.startswith(name))


def test_a_label_right_after_its_prediction_is_known(client):
    for number in range(20):
        predict(client, f"quick-{number}")
        answer = client.post("/labels", json={"id": f"quick-{number}", "label": "late"})
        assert (answer.status_code, answer.json()["result"]) == (200, "accepted")


def test_an_acknowledged_label_is_in_the_store(client, store):
    predict(client, "stored")
    when = "2013-02-03T04:05:06+01:00"
    client.post("/labels", json={"id": "stored", "label": "on time", "time": when})
    row = store.rows(None, None).set_index("id").loc["stored"]
    assert row["label"] == "on time"
    assert row["label_arrived"] == datetime(2013, 2, 3, 3, 5, 6, tzinfo=UTC)


def test_the_same_again_changes_nothing_and_another_value_is_refused(client, store):
    predict(client, "twice")
    before = counts(client, "contradicted")
    first = client.post("/labels", json={"id": "twice", "label": "late"})
    again = client.post("/labels", json={"id": "twice", "label": "late"})
    other = client.post("/labels", json={"id": "twice", "label": "on time"})
    assert [first.status_code, again.status_code, other.status_code] == [200, 200, 409]
    assert again.json()["result"] == "duplicate"
    assert other.json()["error"]["received"] == "on time"
    assert store.rows(None, None).set_index("id").loc["twice", "label"] == "late"
    assert store.conflicts()[0]["value"] == "on time"
    assert counts(client, "contradicted") == before + 1


def test_a_label_before_its_prediction_is_kept_and_joined(client, store):
    answer = client.post("/labels", json={"id": "early", "label": "late"})
    assert (answer.status_code, answer.json()["result"]) == (202, "unknown")
    predict(client, "early")
    again = client.post("/labels", json={"id": "early", "label": "late"})  # flushes, too
    assert again.json()["result"] == "duplicate"
    assert store.rows(None, None).set_index("id").loc["early", "label"] == "late"


def test_a_late_label_counts_from_when_it_came(client, store):
    """It joins a prediction of a year ago, and windows that were looked at before don't change."""
    body = {"dataframe_records": [ROW], "ids": ["old"], "times": ["2013-01-01T00:00:00Z"]}
    client.post("/invocations", json=body).raise_for_status()
    late = {"id": "old", "label": "late", "time": "2014-01-01T00:00:00Z"}
    answer = client.post("/labels", json=late)
    assert (answer.status_code, answer.json()["result"]) == (200, "accepted")
    before, after = (datetime(year, 6, 1, tzinfo=UTC) for year in (2013, 2014))
    assert "old" not in set(store.labelled(None, None, before)["id"])
    assert "old" in set(store.labelled(None, None, after)["id"])


def test_a_batch_answers_each(client):
    predict(client, "b1", "b2")
    client.post("/labels", json={"id": "b2", "label": "late"})
    batch = [
        {"id": "b1", "label": "late"},
        {"id": "b1", "label": "late"},
        {"id": "b2", "label": "on time"},
        {"id": "b3", "label": "late"},
    ]
    answer = client.post("/labels", json={"labels": batch})
    assert answer.status_code == 200
    results = [item["result"] for item in answer.json()["results"]]
    assert results == ["accepted", "duplicate", "contradicted", "unknown"]
    assert answer.json()["counts"]["contradicted"] == 1


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        ({"id": "x", "label": "cancelled"}, 422, "label"),
        ({"id": "x", "label": 1}, 422, "label"),
        ({"labels": [{"id": "x1", "label": "late"}, {"id": "x2", "label": "?"}]}, 422, "labels[1]"),
        ({"id": "x"}, 400, "body"),
        ({"id": 5, "label": "late"}, 400, "id"),
        ({"id": "", "label": "late"}, 400, "id"),
        ({"id": "x" * 129, "label": "late"}, 400, "id"),
        ({"id": "x", "label": None}, 400, "label"),
        ({"id": "x", "label": "late", "when": "now"}, 400, "body"),
        ({"id": "x", "label": "late", "time": "soon"}, 400, "time"),
        ({"labels": []}, 400, "rows"),
        ({"labels": {"id": "x"}}, 400, "labels"),
        ({"labels": [{"id": "x", "label": "late"}] * 1001}, 413, "rows"),
        ([], 400, "body"),
    ],
)
def test_malformed_labels_store_nothing(client, store, body, status, names):
    before = store.counts()
    answer = client.post("/labels", json=body)
    assert answer.status_code == status, answer.text
    assert names in answer.json()["error"]["field"]
    assert store.counts() == before


def test_classes_are_matched_across_json_and_csv_types():
    from deployments.serving.labels import parse

    now = datetime(2013, 1, 1, tzinfo=UTC)
    for value in (True, 1, 1.0, "1", "true"):
        found, _ = parse(json.dumps({"id": "a", "label": value}).encode(), [0, 1], now, 10)
        assert found[0].value == 1
        assert type(found[0].value) is int


def test_two_writers_of_the_same_label_at_once(client, store):
    predict(client, *(f"race-{i}" for i in range(30)))
    answers = []

    def send(value):
        for i in range(30):
            got = client.post("/labels", json={"id": f"race-{i}", "label": value})
            answers.append((i, value, got.status_code))

    threads = [Thread(target=send, args=(value,)) for value in ("late", "on time")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    labels = store.rows(None, None).set_index("id")["label"]
    for i in range(30):
        won = [value for j, value, status in answers if j == i and status == 200]
        assert won == [labels[f"race-{i}"]]


def test_a_store_that_is_down_acknowledges_nothing(client, app, store, monkeypatch):
    predict(client, "down")

    def down(*_):
        raise StoreFault("the store /secret/path refused: disk I/O error")

    monkeypatch.setattr(app.state.service.store, "label", down)
    answer = client.post("/labels", json={"id": "down", "label": "late"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert client.post("/labels", json={"id": "down", "label": "late"}).status_code == 200
