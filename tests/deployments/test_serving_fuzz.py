"""Bodies that nobody meant: never a 500, never a dead server, always an explained refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.serving.app import create_app

PATHS = ("/invocations", "/v2/models/tiny/infer", "/labels")
RELAXED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(2**63), 1e308, 1e39]),
    st.floats(),
    st.text(st.characters(), max_size=8),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["hour", "wind", "carrier", "due", "x", ""]), inner),
    ),
    max_leaves=12,
)
rows = st.lists(
    st.fixed_dictionaries({"hour": scalars, "wind": scalars, "carrier": scalars}), max_size=4
)
bodies = st.one_of(
    st.dictionaries(
        st.sampled_from(
            ["dataframe_split", "dataframe_records", "instances", "inputs", "params", "ids"]
        ),
        anything,
        max_size=2,
    ),
    st.fixed_dictionaries({"dataframe_records": rows}, optional={"times": anything}),
    st.fixed_dictionaries(
        {"dataframe_split": st.fixed_dictionaries({"columns": anything, "data": anything})}
    ),
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["hour", "wind", "carrier"]),
                        "shape": st.lists(st.integers(-1, 3), max_size=3),
                        "datatype": st.sampled_from(["FP64", "BYTES", "INT64", "BOOL", "X"]),
                        "data": anything,
                    }
                ),
                max_size=3,
            )
        },
        optional={"parameters": anything, "outputs": anything, "id": scalars},
    ),
    st.fixed_dictionaries({"id": scalars, "label": scalars}, optional={"time": scalars}),
    st.fixed_dictionaries({"labels": anything}),
    anything,
)


@pytest.fixture(scope="module")
def client(serving, serving_config, serving_alias):
    alias = serving_alias()
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with serving(app) as client:
        yield client


def explained(answer):
    assert answer.status_code in (200, 202, 400, 409, 413, 415, 422), answer.text
    body = answer.json()
    assert answer.status_code < 300 or body["error"]["remedy"]


@RELAXED
@given(path=st.sampled_from(PATHS), body=bodies)
def test_json_of_any_shape(client, path, body):
    content = json.dumps(body).encode()  # NaN and Infinity as Python writes them
    explained(client.post(path, content=content, headers={"content-type": "application/json"}))


@RELAXED
@given(path=st.sampled_from(PATHS), content=st.binary(max_size=200))
def test_bytes_of_any_kind(client, path, content):
    explained(client.post(path, content=content, headers={"content-type": "application/json"}))


@RELAXED
@given(text=st.text(st.sampled_from('hourwindcae,"\n\r\x00 é10.N'), max_size=60))
def test_csv_of_any_kind(client, text):
    for content in (text, "hour,wind,carrier\n" + text):
        answer = client.post(
            "/invocations", content=content.encode(), headers={"content-type": "text/csv"}
        )
        explained(answer)


def test_it_still_answers(client):
    row = {"hour": 7, "wind": 1.5, "carrier": "UA"}
    assert client.post("/invocations", json={"dataframe_records": [row]}).status_code == 200
