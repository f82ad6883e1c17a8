"""Bodies that nobody meant: never a 500, never a dead server, always an explained refusal."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.serving.app import create_app
from deployments.serving.tensors import DATATYPES

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
    if answer.status_code < 300:
        return
    fault = body.get("fault", body["error"])
    assert fault["field"]
    assert fault["rule"]
    assert fault["remedy"]
    for leak in ("Traceback", ".py", "site-packages", "Error("):
        assert leak not in fault["rule"] + fault["remedy"]


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


sizes = st.one_of(st.none(), st.integers(-1, 40), st.sampled_from([True, 1.5, "8", 2**63, []]))
binary_tensors = st.builds(
    lambda name, shape, datatype, size, data: (
        {"name": name, "shape": shape, "datatype": datatype}
        | ({} if size is None else {"parameters": {"binary_data_size": size}})
        | ({} if data is None else {"data": data})
    ),
    st.sampled_from(["hour", "wind", "carrier", "x"]),
    st.lists(st.sampled_from([-1, 0, 1, 2, 3, 10**12]), max_size=3),
    st.sampled_from([*DATATYPES, "X"]),
    sizes,
    st.one_of(st.none(), st.lists(scalars, max_size=3)),
)
headers = st.one_of(
    st.just(0), st.integers(-40, 40), st.sampled_from(["", "x", "-1", "1e2", "9" * 400])
)


@RELAXED
@given(
    sent=st.lists(binary_tensors, max_size=4),
    rest=st.binary(max_size=64),
    header=headers,
    wanted=anything,
)
def test_bytes_behind_json_of_any_kind(client, sent, rest, header, wanted):
    """A header that is off by some bytes, sizes that add up to something else, any data."""
    head = json.dumps({"inputs": sent, "parameters": {"binary_data_output": wanted}}).encode()
    length = str(len(head) + header) if isinstance(header, int) else header
    answer = client.post(
        "/v2/models/tiny/infer",
        content=head + rest,
        headers={"inference-header-content-length": length},
    )
    if "inference-header-content-length" not in answer.headers:
        explained(answer)


@RELAXED
@given(values=st.lists(st.floats(width=32), min_size=3, max_size=3), rest=st.binary(max_size=24))
def test_bytes_that_are_nearly_right(client, values, rest):
    """Any floats are answered or refused by their column; any bytes as text likewise."""
    numbers = struct.pack("<3f", *values)
    sent = [
        {"name": n, "shape": [3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
        for n in ("hour", "wind")
    ]
    sent.append(
        {
            "name": "carrier",
            "shape": [3],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(rest)},
        }
    )
    head = json.dumps({"inputs": sent}).encode()
    explained(
        client.post(
            "/v2/models/tiny/infer",
            content=head + numbers + numbers + rest,
            headers={"inference-header-content-length": str(len(head))},
        )
    )


def test_it_still_answers(client):
    row = {"hour": 7, "wind": 1.5, "carrier": "UA"}
    assert client.post("/invocations", json={"dataframe_records": [row]}).status_code == 200
