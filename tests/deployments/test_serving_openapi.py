"""The description says what the server does: requests made from it are answered, others refused."""

from __future__ import annotations

from types import SimpleNamespace

import jsonschema
import pytest

from deployments.serving import openapi
from deployments.serving.app import create_app
from models.schema import Column

ROW = {"hour": 7, "wind": 1.5, "carrier": "UA"}
TENSORS = [
    {"name": "hour", "shape": [1], "datatype": "FP64", "data": [7]},
    {"name": "wind", "shape": [1, 1], "datatype": "FP64", "data": [None]},
    {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
]


@pytest.fixture(scope="module")
def app(serving_config, serving_alias):
    alias = serving_alias()
    return create_app(serving_config(), registry=lambda: alias, load=alias.load)


@pytest.fixture(scope="module")
def client(app, serving):
    with serving(app) as client:
        yield client


@pytest.fixture(scope="module")
def description(client):
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def validator(description, schema):
    whole = {**schema, "components": description["components"]}
    jsonschema.Draft202012Validator.check_schema(whole)
    return jsonschema.Draft202012Validator(whole)


@pytest.mark.parametrize(
    ("path", "body", "fits"),
    [
        ("/invocations", {"dataframe_records": [ROW, ROW]}, True),
        ("/invocations", {"dataframe_records": [ROW], "ids": ["o1"]}, True),
        ("/invocations", {"instances": [ROW | {"wind": None, "hour": True}]}, True),
        ("/invocations", {"inputs": {"hour": 7, "wind": [1], "carrier": None}}, True),
        (
            "/invocations",
            {"dataframe_split": {"columns": ["hour", "wind", "carrier"], "data": [[1, 2, "UA"]]}},
            True,
        ),
        ("/invocations", {"dataframe_records": [{"hour": 7}]}, False),
        ("/invocations", {"dataframe_records": [ROW | {"hour": "x"}]}, False),
        ("/invocations", {"dataframe_records": [ROW | {"hour": 1e39}]}, False),
        ("/invocations", {"dataframe_records": []}, False),
        ("/invocations", {"rows": [ROW]}, False),
        ("/invocations", {"dataframe_records": [ROW], "ids": ["a\nb"]}, False),
        ("/v2/models/tiny/infer", {"inputs": TENSORS}, True),
        ("/v2/models/tiny/versions/1/infer", {"inputs": TENSORS, "id": "4"}, True),
        ("/v2/models/tiny/infer", {"inputs": TENSORS, "outputs": [{"name": "label"}]}, True),
        ("/v2/models/tiny/infer", {"inputs": TENSORS, "outputs": [{"name": "logit"}]}, False),
        ("/v2/models/tiny/infer", {"inputs": TENSORS[:2]}, False),
        ("/labels", {"id": "o1", "label": "late", "time": "2013-01-01T05:00:00Z"}, True),
        ("/labels", {"labels": [{"id": "o9", "label": "late"}]}, True),
        ("/labels", {"id": "o1", "label": "maybe"}, False),
        ("/labels", {"id": "x" * 129, "label": "late"}, False),
        ("/labels", {"labels": []}, False),
    ],
)
def test_bodies_fit_the_description_and_the_server_alike(client, description, path, body, fits):
    described = description["paths"].get(path.replace("/versions/1", "/versions/{version}"))
    schema = described["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert validator(description, schema).is_valid(body) is fits
    answer = client.post(path, json=body)
    assert (answer.status_code < 300) is fits, answer.text
    said = described["post"]["responses"][str(answer.status_code)]["content"]
    content = said[answer.headers["content-type"]]["schema"]
    validator(description, content).validate(answer.json())


def test_what_is_asked_for_without_a_body_is_described(client, description):
    for path, methods in description["paths"].items():
        if "get" not in methods:
            continue
        answer = client.get(path.replace("{version}", "1"))
        content = methods["get"]["responses"]["200"]["content"]
        kind = answer.headers["content-type"].split(";")[0]
        assert answer.status_code == 200
        if kind == "application/json":
            validator(description, content[kind]["schema"]).validate(answer.json())
        else:
            assert kind in content


def test_every_route_is_described_or_known(app, description):
    """Left out: the description itself, and what Triton's clients ask for beyond the protocol."""
    known = {"/health", "/docs", "/openapi.json", "/v2/", "/v2/repository/index"}
    named = {"/".join(p) for found in app._patterns.values() for p, _ in found}
    paths = {p.replace("{name}", "tiny") for p in named | set(app._exact)} - known
    assert {p for p in paths if not p.endswith("/config")} == set(description["paths"])


def test_the_page_needs_nobody_else(client, description):
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert "http:" not in page.text.replace(f"http://{client.base_url.netloc.decode()}", "")
    for path in description["paths"]:
        assert path in page.text


def test_a_server_without_a_model_describes_itself(serving, serving_config, serving_alias):
    alias = serving_alias(version=None)
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with serving(app, ready=False) as client:
        assert "/v2/health/ready" in client.get("/openapi.json").json()["paths"]
        assert client.get("/docs").status_code == 200


def test_values_of_columns_that_are_never_stored_are_no_examples():
    encoder = SimpleNamespace(categories={"carrier": ["UA", "AA"], "place": ["JFK"]})
    model = SimpleNamespace(encoder=encoder, info={"unstored": ["carrier"]})
    columns = tuple(Column(name, "category") for name in ("carrier", "place"))
    values = openapi._values(SimpleNamespace(model=model, columns=columns), 100)
    assert "examples" not in values["carrier"]
    assert values["place"]["examples"] == ["JFK"]
