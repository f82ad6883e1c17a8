"""Bad input over real sockets: each has its status, names its field, and leaks nothing."""

from __future__ import annotations

import json
import socket
import time

import pytest

from deployments.serving.app import create_app

ROW = {"hour": 7, "wind": 1.5, "carrier": "UA"}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def app(serving_config, serving_alias):
    alias = serving_alias()
    return create_app(serving_config(), registry=lambda: alias, load=alias.load)


@pytest.fixture(scope="module")
def client(app, serving):
    with serving(app) as client:
        yield client


def records(*rows):
    return {"dataframe_records": list(rows)}


LARGE = records(*[ROW | {"note": "x" * 60}] * 900)  # worked on in a thread


def post(client, content, path="/invocations", headers=JSON):
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    return client.post(path, content=content, headers=headers)


def fault(response, status, *, names=""):
    """The error of an answer, after checking its form."""
    assert response.status_code == status, response.text[:500]
    body = response.json()
    error = body["error"] if isinstance(body["error"], dict) else body["fault"]  # /v2: a text
    assert {"field", "rule", "received", "remedy"} <= error.keys()
    assert error["rule"]
    assert error["remedy"]
    assert names in error["field"], error
    for leak in ("Traceback", "/deployments/", ".py", "site-packages", "Error("):
        assert leak not in response.text
    return error


def test_an_answer_carries_version_and_ids(client):
    response = post(client, records(ROW, ROW))
    body = response.json()
    assert response.status_code == 200
    assert body["model_version"] == response.headers["x-model-version"] == "1"
    assert len(set(body["ids"])) == 2
    assert all(len(id_) == 32 for id_ in body["ids"])
    assert response.headers["x-prediction-ids"] == ",".join(body["ids"])
    late = body["predictions"][0]["probability_late"]
    assert late == pytest.approx(1 / (1 + 2.718281828 ** -(0.7 + 0.075 - 0.6)), abs=1e-6)
    assert body["predictions"][0]["label"] == "late"


def test_many_ids_are_in_the_body_only(client):
    response = post(client, records(*[ROW] * 100))
    assert len(response.json()["ids"]) == 100
    assert "x-prediction-ids" not in response.headers


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", "body"),
        (b"  \n", "body"),
        (b"{", "body"),
        (b"\xff\xfe{}", "body"),
        (b"[1, 2]", "body"),
        (b"null", "body"),
        (b"{}", "body"),
        ({"dataframe_records": []}, "rows"),
        ({"dataframe_records": [{}]}, "dataframe_records"),
        ({"dataframe_records": [5]}, "dataframe_records[0]"),
        ({"dataframe_records": [ROW], "instances": [ROW]}, "body"),
        ({"dataframe_recrods": [ROW]}, "body"),
        ({"dataframe_split": {"columns": ["hour"]}}, "dataframe_split"),
        ({"dataframe_split": {"columns": ["hour", "hour"], "data": [[1, 2]]}}, "columns"),
        ({"dataframe_split": {"columns": ["hour", "wind"], "data": [[1]]}}, "data[0]"),
        ({"instances": [ROW, [1, 2, "UA"]]}, "instances"),
        ({"instances": [[1, 2]]}, "row 0"),
        ({"inputs": "seven"}, "inputs"),
        ({"inputs": {"hour": [1, 2], "wind": [1], "carrier": ["UA"]}}, "'wind'"),
        ({"dataframe_records": [ROW], "params": {"depth": 3}}, "params"),
    ],
)
def test_bodies_of_a_wrong_shape(client, content, names):
    fault(post(client, content), 400, names=names)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"hour": "seven"}, "column 'hour', row 1"),
        ({"hour": [7]}, "column 'hour', row 1"),
        ({"hour": 1e39}, "column 'hour', row 1"),  # beyond float32
        ({"hour": 10**400}, "column 'hour', row 1"),
        ({"carrier": {"code": "UA"}}, "column 'carrier', row 1"),
        ({"due": "yesterday"}, "column 'due', row 1"),
        ({"due": "0001-01-01"}, "column 'due', row 1"),
        ({"due": 17}, "column 'due', row 1"),
    ],
)
def test_values_of_a_wrong_kind(client, change, names):
    first = ROW | {"due": "2013-01-01T05:00:00Z"} if "due" in change else ROW
    fault(post(client, records(first, ROW | change)), 400, names=names)


@pytest.mark.parametrize("token", ["Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("column", ["hour", "carrier"])
def test_infinity_is_refused(client, token, column):
    row = json.dumps(ROW | {column: 0}).replace(f'"{column}": 0', f'"{column}": {token}')
    response = post(client, f'{{"dataframe_records": [{row}]}}'.encode())
    error = fault(response, 400)
    if "Infinity" in token:
        assert f"'{column}', row 0" in error["field"]


def test_nan_is_missing_and_same_as_null(client):
    nan = post(client, b'{"dataframe_records": [{"hour": NaN, "wind": 2, "carrier": NaN}]}')
    null = post(client, records({"hour": None, "wind": 2, "carrier": None}))
    assert nan.status_code == null.status_code == 200
    assert nan.json()["predictions"] == null.json()["predictions"]


def test_a_missing_column_is_named_with_what_came(client):
    error = fault(post(client, records({"hour": 7, "wnid": 1.5, "carrier": "UA"})), 400)
    assert "'wind'" in error["field"]
    assert "wnid" in error["received"]


def test_a_column_that_only_some_rows_have_is_missing_in_the_others(client):
    sparse = post(client, records(ROW, {"hour": 7, "carrier": "UA"})).json()["predictions"]
    filled = post(client, records(ROW, ROW | {"wind": None})).json()["predictions"]
    assert sparse == filled


def test_extra_columns_are_ignored_and_named(client):
    plain = post(client, records(ROW)).json()
    extra = post(client, records(ROW | {"late": "late", "gate": 5})).json()
    assert extra["predictions"] == plain["predictions"]
    assert extra["ignored_columns"] == ["late", "gate"]
    assert "ignored_columns" not in plain


def test_an_unknown_category_is_answered_and_counted(client):
    def counted():
        lines = client.get("/metrics").text.splitlines()
        found = [x for x in lines if x.startswith("everfit_unknown_categories_total{")]
        return sum(float(x.split()[-1]) for x in found if 'column="carrier"' in x)

    before = counted()
    assert post(client, records(ROW | {"carrier": "ZZ"}, ROW)).status_code == 200
    assert counted() == before + 1


@pytest.mark.parametrize(
    ("extras", "names"),
    [
        ({"ids": ["a"]}, "ids"),
        ({"ids": ["a", "a"]}, "ids"),
        ({"ids": ["a", ""]}, "ids[1]"),
        ({"ids": ["a", "b" * 129]}, "ids[1]"),
        ({"ids": ["a", "b\nc"]}, "ids[1]"),
        ({"ids": ["a", 2]}, "ids[1]"),
        ({"ids": "ab"}, "ids"),
        ({"times": ["2013-01-01"]}, "times"),
        ({"times": ["2013-01-01", "now"]}, "times, row 1"),
    ],
)
def test_ids_and_times_are_checked(client, extras, names):
    fault(post(client, records(ROW, ROW) | extras), 400, names=names)


def test_times_come_once(client):
    row = ROW | {"due": "2013-01-01T05:00:00Z"}
    fault(post(client, records(row) | {"times": ["2013-01-01"]}), 400, names="times")


def test_ids_with_strange_signs_are_safe_in_the_header(client):
    ids = ["naïve, id", "b%0d%0a"]
    response = post(client, records(ROW, ROW) | {"ids": ids})
    assert response.json()["ids"] == ids
    assert response.headers["x-prediction-ids"] == "na%C3%AFve%2C%20id,b%250d%250a"


def test_deep_nesting_is_refused(client):
    deep = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    fault(post(client, deep), 400)
    fault(post(client, deep.replace(b'"inputs"', b'"NaN"')), 400)


def test_half_a_surrogate_pair_is_refused(client):
    row = b'{"dataframe_records": [{"hour": NaN, "wind": 1, "carrier": "\\ud800"}]}'
    fault(post(client, row), 400, names="body")
    fault(post(client, row.replace(b"NaN", b"1")), 400, names="body")


def test_too_many_rows(client):
    fault(post(client, records(*[{"hour": 1}] * 1001)), 413, names="rows")
    assert post(client, records(*[ROW] * 1000)).status_code == 200


def test_ten_megabytes_are_refused(client):
    body = json.dumps({"inputs": "x" * 10_000_000}).encode()
    error = fault(post(client, body), 413, names="body")
    assert str(512 * 1024) in error["rule"]
    assert client.get("/v2/health/ready").status_code == 200


def test_ten_megabytes_in_chunks_are_refused(client):
    chunks = (b" " * 65_536 for _ in range(160))
    response = client.post("/invocations", content=chunks, headers=JSON)
    fault(response, 413, names="body")


def test_an_announced_gigabyte_is_refused_without_being_read(client):
    """The answer comes while the client still holds nearly all of its body back."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as peer:
        peer.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000000000\r\n\r\n" + b" " * 1000
        )
        started = time.monotonic()
        answer = peer.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert time.monotonic() - started < 5


def test_a_client_that_hangs_up_half_way_harms_nobody(client):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as peer:
        peer.sendall(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"inp')
    assert post(client, records(ROW)).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-protobuf", 415),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
    ],
)
def test_content_types(client, kind, status):
    response = post(client, records(ROW), headers={"content-type": kind})
    if status == 200:
        assert response.status_code == 200
    else:
        fault(response, status, names="content-type")


def test_paths_and_methods(client):
    fault(client.get("/nowhere"), 404, names="path")
    error = fault(client.get("/invocations"), 405, names="method")
    assert "POST" in error["rule"]
    fault(client.get("/v2/models/other"), 404, names="model")
    fault(client.get("/v2/models/tiny/versions/9"), 404, names="version")
    fault(client.get("/v2/models/tiny/versions/9/ready"), 404, names="version")


def test_health_and_metadata(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/ping").status_code == 200
    assert client.get("/version").text
    assert client.get("/v2").json()["name"] == "everfit"
    about = client.get("/v2/models/tiny/versions/1").json()
    assert about["versions"] == ["1"]
    assert [x["name"] for x in about["inputs"]] == ["hour", "wind", "carrier"]
    assert about["parameters"]["window_id"] == "window-1"
    assert about["parameters"]["failed"] is None


def test_a_fault_of_our_own_shows_an_id_and_nothing_else(client, app, monkeypatch, caplog):
    def broken(*_args, **_named):
        raise ZeroDivisionError("secret of the inside")

    monkeypatch.setattr(app.state.service.slots.current.model, "predict_rows", broken)
    response = post(client, records(ROW))
    error = fault(response, 500)
    assert "secret" not in response.text
    assert "ZeroDivision" not in response.text
    assert error["incident"] in caplog.text
    assert "secret of the inside" in caplog.text


def test_health_answers_while_large_batches_are_worked_on(client, app, monkeypatch):
    slot = app.state.service.slots.current
    answer = slot.model.predict_rows

    def slow(*rows):
        time.sleep(0.5)
        return answer(*rows)

    monkeypatch.setattr(slot.model, "predict_rows", slow)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        large = [pool.submit(post, client, LARGE) for _ in range(2)]
        time.sleep(0.2)
        started = time.monotonic()
        assert client.get("/v2/health/live").status_code == 200
        assert time.monotonic() - started < 0.25
        assert not all(job.done() for job in large)
        assert [job.result().status_code for job in large] == [200, 200]
    assert len(app.state.service.slots.current.columns) == 3


def test_too_many_large_requests_are_turned_away(client, app, monkeypatch):
    monkeypatch.setattr(app.state.service.large, "_limit", 0)
    response = post(client, LARGE)
    fault(response, 503, names="server")
    assert response.headers["retry-after"] == "1"
    assert post(client, records(ROW)).status_code == 200  # small ones are still answered


def test_nothing_is_answered_before_a_champion_is_ready(serving, serving_config, serving_alias):
    alias = serving_alias(version=None)
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with serving(app, ready=False) as client:
        for path in ("/v2/health/ready", "/ping", "/v2/models/tiny", "/v2/models/tiny/ready"):
            fault(client.get(path), 503, names="model")
        response = post(client, records(ROW))
        fault(response, 503, names="model")
        assert response.headers["retry-after"]
        assert client.get("/v2/health/live").status_code == 200
        alias.version = "1"
        deadline = time.monotonic() + 5
        while client.get("/ping").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert post(client, records(ROW)).status_code == 200
