"""The Open Inference Protocol over gRPC as Triton's own client speaks it."""

from __future__ import annotations

import importlib.util
import json
import socket
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from deployments.serving import beside, grpc_convert, grpc_messages, tensors
from deployments.serving.app import create_app
from deployments.serving.errors import RequestFault
from monitoring.telemetry import TelemetryStore
from tasks.config import ConfigFault

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def _port():
    """A port that is kept from everybody but a server that shares it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def free_port():
    with _port() as port:
        yield port


@pytest.fixture(scope="module")
def served(serving, serving_config, serving_alias):
    with _port() as port:
        config = serving_config(grpc_port=port)
        alias = serving_alias()
        app = create_app(config, registry=lambda: alias, load=alias.load)
        with serving(app) as client, triton.InferenceServerClient(f"127.0.0.1:{port}") as theirs:
            yield config, app, client, theirs, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def theirs(served):
    return served[3]


def inputs(n=3):
    made = []
    for name, values in (
        ("hour", np.arange(n, dtype=np.float16)),
        ("wind", np.full((n, 1), 1.5)),
        ("carrier", np.array(["UA", "B6", "é"] * n, object)[:n]),
    ):
        datatype = {"hour": "FP16", "wind": "FP64", "carrier": "BYTES"}[name]
        made.append(triton.InferInput(name, list(values.shape), datatype))
        made[-1].set_data_from_numpy(values)
    return made


def test_our_messages_are_those_that_the_client_knows():
    compared = 0
    for name in grpc_messages.NAMES:
        ours = grpc_messages.message(name).DESCRIPTOR
        first, *within = name.split(".")
        theirs = service_pb2.DESCRIPTOR.message_types_by_name[first]
        for part in within:
            theirs = theirs.nested_types_by_name[part]
        for field in ours.fields:
            other = theirs.fields_by_name.get(field.name)
            if other is None:
                assert field.name == "properties"  # Triton has no use for it
                continue
            assert (field.number, field.type, field.is_repeated) == (
                other.number,
                other.type,
                other.is_repeated,
            )
            compared += 1
    assert compared > 50


def test_it_finds_its_way_around(theirs):
    assert theirs.is_server_live()
    assert theirs.is_server_ready()
    assert theirs.is_model_ready("tiny")
    assert theirs.is_model_ready("tiny", "1")
    assert theirs.get_server_metadata().name == "everfit"
    about = theirs.get_model_metadata("tiny", as_json=True)
    assert [t["datatype"] for t in about["inputs"]] == ["FP64", "FP64", "BYTES"]
    assert about["versions"] == ["1"]


def test_it_answers_as_http_does(served):
    config, _, client, theirs, _ = served
    rows = [{"hour": i, "wind": 1.5, "carrier": c} for i, c in enumerate(("UA", "B6", "é"))]
    expected = client.post("/invocations", json={"dataframe_records": rows}).json()["predictions"]
    sent = {"ids": json.dumps(["g1", "g2", "g3"])}
    result = theirs.infer("tiny", inputs(), request_id="42", parameters=sent)
    assert [v.decode() for v in result.as_numpy("label")] == [row["label"] for row in expected]
    late = result.as_numpy("probability_late").tolist()
    assert late == [row["probability_late"] for row in expected]
    body = result.get_response()
    assert (body.id, body.model_name, body.model_version) == ("42", "tiny", "1")
    assert json.loads(body.parameters["ids"].string_param) == ["g1", "g2", "g3"]
    wanted = [triton.InferRequestedOutput("probabilities")]
    assert theirs.infer("tiny", inputs(), outputs=wanted).as_numpy("probabilities").shape == (3, 2)
    client.post("/labels", json={"id": "g2", "label": "late"}).raise_for_status()
    with TelemetryStore(config.store_url) as store:
        stored = store.rows(None, None).set_index("id").loc["g2"]
    assert (stored["label"], stored["carrier"], stored["hour"]) == ("late", "B6", 1.0)
    assert 'everfit_requests_total{endpoint="infer",status="200"}' in client.get("/metrics").text


def call(address, request, metadata=()):
    """The protocol's own message, built by hand: contents by type instead of raw bytes."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        answer, about = method.with_call(request, metadata=metadata, timeout=20)
        return answer, dict(about.initial_metadata())


def by_contents(**change):
    request = service_pb2.ModelInferRequest(model_name="tiny")
    for name, datatype, field, values in (
        ("hour", "INT32", "int_contents", [7, 8]),
        ("wind", "FP32", "fp32_contents", [1.5, float("nan")]),
        ("carrier", "BYTES", "bytes_contents", [b"UA", b"B6"]),
    ):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[2])
        getattr(tensor.contents, change.get(name, field)).extend(values)
    return request


def test_contents_by_type_are_answered_in_kind(served):
    answer, headers = call(served[4], by_contents(), [("traceparent", TRACE)])
    assert not answer.raw_output_contents
    label, on_time, late = answer.outputs
    assert label.contents.bytes_contents[0] in (b"late", b"on time")
    assert on_time.contents.fp64_contents[0] + late.contents.fp64_contents[0] == pytest.approx(1)
    assert headers["x-model-version"] == "1"
    assert len(headers["x-prediction-ids"].split(",")) == 2
    assert headers["traceparent"].startswith(TRACE[:36])
    assert headers["traceparent"] != TRACE


@pytest.mark.parametrize(
    ("code", "model", "version", "says"),
    [
        ("NOT_FOUND", "other", "", "the model served is tiny"),
        ("NOT_FOUND", "tiny", "9", "the version served is 1"),
        ("INVALID_ARGUMENT", "tiny", "", "column 'carrier'"),
    ],
)
def test_faults_have_a_code_and_say_what_to_do(theirs, code, model, version, says):
    with pytest.raises(InferenceServerException, match=says) as caught:
        theirs.infer(model, inputs()[:2], model_version=version)
    assert caught.value.status() == f"StatusCode.{code}"


def test_messages_at_fault(served):
    both = by_contents()
    both.raw_input_contents.extend([b"", b"", b""])
    fewer = by_contents()
    fewer.raw_input_contents.append(b"")
    misplaced = by_contents(hour="int64_contents")
    unreadable = by_contents()
    unreadable.inputs[2].contents.bytes_contents[0] = b"\xff"
    negative = by_contents()
    negative.inputs[0].shape[:] = [-2]
    many = by_contents()
    many.inputs[0].shape[:] = [5000]
    for request, says in (
        (both, "raw_input_contents stand alone"),
        (fewer, "one for each of the 3 inputs"),
        (misplaced, "INT32 values are sent as int_contents"),
        (unreadable, "BYTES elements are text in UTF-8"),
        (negative, "inputs[0].shape"),
        (many, "at most 1000 rows"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(served[4], request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert says in caught.value.details()


def test_settings_that_cannot_work_are_refused_before_anything_starts(serving_config, monkeypatch):
    with pytest.raises(ConfigFault, match=r"grpc_port must differ from serving\.port, got 8080"):
        serving_config(grpc_port=8080)
    config = serving_config(grpc_port=8081, otel_endpoint="http://127.0.0.1:4318/v1/traces")
    beside.require(config)
    find = importlib.util.find_spec
    for missing, setting in (("grpc", "grpc_port"), ("opentelemetry", "otel_endpoint")):
        monkeypatch.setattr(
            "importlib.util.find_spec",
            lambda name, gone=missing: None if name.startswith(gone) else find(name),
        )
        with pytest.raises(ConfigFault, match=rf"serving\.{setting} needs the extra"):
            beside.require(config)


contents = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=3),
        "fp64_contents": st.lists(st.floats(), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=4), max_size=3),
    },
)
sent_tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["hour", "wind", "carrier", ""]),
        "datatype": st.sampled_from([*tensors.DATATYPES, ""]),
        "shape": st.lists(st.sampled_from([-1, 0, 1, 2, 3, 2**62]), max_size=3),
    },
    optional={"contents": contents},
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    sent=st.lists(sent_tensors, max_size=3),
    raw=st.lists(st.binary(max_size=24), max_size=3),
    ids=st.one_of(st.none(), st.text(max_size=8)),
)
def test_messages_of_any_kind_are_rows_or_faults(sent, raw, ids):
    request = service_pb2.ModelInferRequest(
        model_name="tiny",
        inputs=[service_pb2.ModelInferRequest.InferInputTensor(**tensor) for tensor in sent],
        raw_input_contents=raw,
    )
    if ids is not None:
        request.parameters["ids"].string_param = ids
    ours = grpc_convert.Request.FromString(request.SerializeToString())
    refused = None
    try:
        rows, _ = grpc_convert.parse(ours, 1000)
    except RequestFault as fault:
        refused = fault
    if refused is None:
        assert 0 < rows.count <= 3
    else:
        assert refused.status in (400, 413)
        assert all((refused.field, refused.rule, refused.remedy, refused.text()))


def test_what_is_no_message_is_refused(served):
    with grpc.insecure_channel(served[4]) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\xff\xff", timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        missing = channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
        with pytest.raises(grpc.RpcError) as caught:
            missing(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_limits_and_faults_of_our_own(served, monkeypatch):
    _, app, client, theirs, address = served
    large = service_pb2.ModelInferRequest(model_name="tiny", raw_input_contents=[b"x" * 600_000])
    with pytest.raises(grpc.RpcError) as caught:
        call(address, large)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    def broken(*_):
        raise ZeroDivisionError("secret of the inside")

    monkeypatch.setattr(app.state.service, "answer", broken)
    with pytest.raises(InferenceServerException) as fault:
        theirs.infer("tiny", inputs())
    assert fault.value.status() == "StatusCode.INTERNAL"
    assert "secret" not in str(fault.value)
    monkeypatch.undo()
    assert theirs.infer("tiny", inputs(500)).as_numpy("label").shape == (500,)
    assert client.get("/v2/health/live").status_code == 200


def test_nothing_is_ready_before_a_champion_is(serving, serving_config, serving_alias, free_port):
    alias = serving_alias(version=None)
    config = serving_config(grpc_port=free_port)
    app = create_app(config, registry=lambda: alias, load=alias.load)
    with (
        serving(app, ready=False),
        triton.InferenceServerClient(f"127.0.0.1:{free_port}") as theirs,
    ):
        assert theirs.is_server_live()
        assert not theirs.is_server_ready()
        assert not theirs.is_model_ready("tiny")
        with pytest.raises(InferenceServerException, match="no champion is ready yet") as fault:
            theirs.infer("tiny", inputs())
    assert fault.value.status() == "StatusCode.UNAVAILABLE"
