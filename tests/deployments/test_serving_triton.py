"""The Open Inference Protocol as Triton's own HTTP client speaks it, in JSON and in bytes."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from deployments.serving import inference_protocol, tensors
from deployments.serving.app import create_app
from deployments.serving.errors import RequestFault
from models.encoding import Encoder
from models.schema import Column, Schema

HOUR = [0, 1, 7, 100]
WIND = [0.5, np.nan, 2.0, 0.0]
CARRIER = ["UA", "B6", "ZZ", "é"]
JSON_TYPES = [name for name in tensors.DATATYPES if name not in ("BYTES", "BF16")]


@pytest.fixture(scope="module")
def client(serving, serving_config, serving_alias):
    alias = serving_alias()
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with serving(app) as client:
        yield client


@pytest.fixture(scope="module")
def theirs(client):
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as theirs:
        yield theirs


@pytest.fixture(scope="module")
def expected(client):
    """What the server says to the same rows in MLflow's format."""
    rows = [
        {"hour": h, "wind": None if np.isnan(w) else w, "carrier": c}
        for h, w, c in zip(HOUR, WIND, CARRIER, strict=True)
    ]
    answer = client.post("/invocations", json={"dataframe_records": rows})
    return answer.json()["predictions"]


def tensor(name, values, datatype, *, column=False, binary=True):
    dtype = object if datatype == "BYTES" else triton_dtype(datatype)
    array = np.array(values, dtype=dtype).reshape(-1, 1) if column else np.array(values, dtype)
    made = triton.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def triton_dtype(datatype):
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(datatype)


def inputs(*, hour="FP64", hours=HOUR, column=False, binary=True):
    return [
        tensor("hour", hours, hour, column=column, binary=binary),
        tensor("wind", WIND, "FP32", column=column),  # JSON has no NaN
        tensor("carrier", CARRIER, "BYTES", column=column, binary=binary),
    ]


def assert_same(result, expected):
    labels = [
        value.decode() if isinstance(value, bytes) else value
        for value in result.as_numpy("label").tolist()
    ]
    assert labels == [row["label"] for row in expected]
    for name in ("probability_on time", "probability_late"):
        assert result.as_numpy(name).tolist() == [row[name] for row in expected]


def test_it_finds_its_way_around(theirs):
    assert theirs.is_server_live()
    assert theirs.is_server_ready()
    assert theirs.is_model_ready("tiny")
    assert theirs.is_model_ready("tiny", "1")
    assert not theirs.is_model_ready("tiny", "2")
    assert "binary_tensor_data" in theirs.get_server_metadata()["extensions"]
    about = theirs.get_model_metadata("tiny")
    assert [(t["name"], t["datatype"], t["shape"]) for t in about["inputs"]] == [
        ("hour", "FP64", [-1]),
        ("wind", "FP64", [-1]),
        ("carrier", "BYTES", [-1]),
    ]
    config = theirs.get_model_config("tiny")
    assert [t["data_type"] for t in config["input"]] == ["TYPE_FP64", "TYPE_FP64", "TYPE_STRING"]
    assert config["max_batch_size"] == 0
    (entry,) = theirs.get_model_repository_index()
    assert (entry["name"], entry["version"], entry["state"]) == ("tiny", "1", "READY")


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_rows_as_bytes_and_as_json_are_answered_alike(theirs, expected, binary, column):
    wanted = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("label", "probability_late", "probability_on time")
    ]
    sent = inputs(binary=binary, column=column)
    assert_same(theirs.infer("tiny", sent, outputs=wanted), expected)
    assert_same(theirs.infer("tiny", sent, model_version="1"), expected)  # every output, in bytes


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", JSON_TYPES)
def test_every_datatype_carries_a_number(client, theirs, datatype, binary):
    hours = [0, 1, 1, 0] if datatype == "BOOL" else [0, 1, 7, 100]
    result = theirs.infer("tiny", inputs(hour=datatype, hours=hours, binary=binary))
    reference = theirs.infer("tiny", inputs(hours=hours))
    late = "probability_late"
    assert result.as_numpy(late).tolist() == reference.as_numpy(late).tolist()


def test_the_short_floats_of_machine_learning(theirs):
    result = theirs.infer("tiny", inputs(hour="BF16"))
    reference = theirs.infer("tiny", inputs())  # small whole numbers are exact in both
    assert result.as_numpy("label").tolist() == reference.as_numpy("label").tolist()


def test_outputs_ids_and_parameters(theirs, expected):
    wanted = [
        triton.InferRequestedOutput("probabilities"),
        triton.InferRequestedOutput("label", binary_data=False),
    ]
    ids = [f"triton-{i}" for i in range(4)]
    result = theirs.infer(
        "tiny", inputs(), outputs=wanted, request_id="42", parameters={"ids": ids}
    )
    whole = result.as_numpy("probabilities")
    assert whole.tolist() == [
        [row["probability_on time"], row["probability_late"]] for row in expected
    ]
    assert result.as_numpy("label").tolist() == [row["label"] for row in expected]
    body = result.get_response()
    assert (body["id"], body["model_version"], body["parameters"]["ids"]) == ("42", "1", ids)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(theirs, expected, algorithm):
    result = theirs.infer(
        "tiny",
        inputs(),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert_same(result, expected)


def test_a_fault_reaches_the_client_as_its_text(theirs):
    for model, sent, says in (
        ("tiny", inputs()[:2], "column 'carrier': every column of the model is required"),
        ("other", inputs(), "the model served is tiny"),
        ("tiny", [tensor("hour", [1e39] * 4, "FP64"), *inputs()[1:]], "column 'hour'"),
    ):
        with pytest.raises(InferenceServerException, match=says) as caught:
            theirs.infer(model, sent)
        assert caught.value.status() in ("400", "404")
    shared = triton.InferInput("hour", [4], "FP64")
    shared.set_shared_memory("region", 32)
    with pytest.raises(InferenceServerException, match="tensors are sent, not shared"):
        theirs.infer("tiny", [shared, *inputs()[1:]])
    with pytest.raises(InferenceServerException, match="outputs are the tensors themselves"):
        theirs.infer(
            "tiny", inputs(), outputs=[triton.InferRequestedOutput("label", class_count=2)]
        )


@pytest.fixture(scope="module")
def numbers(serving, serving_config, serving_alias, serving_double):
    """A server of a model of numbers alone."""

    class Numbers(serving_double):
        schema = Schema(
            (Column("hour", "number"), Column("wind", "number")),
            target="late",
            classes=("on time", "late"),
            time="due",
        )
        encoder = Encoder(("hour", "wind"), {}, ("hour", "wind"))

        def predict_rows(self, numbers, categories, texts):
            late = np.clip(np.nan_to_num(numbers[:, 0]) * 0.1 + numbers[:, 1] * 0, 0, 1)
            return np.column_stack([1 - late, late])

    alias = serving_alias(models={"1": Numbers()})
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with (
        serving(app) as client,
        triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as theirs,
    ):
        yield client, theirs


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT64"])
def test_one_tensor_of_all_columns(numbers, datatype, binary):
    client, theirs = numbers
    rows = [[1, 0], [2, 5], [7, 0]]
    sent = [tensor("x", rows, datatype, binary=binary)]
    result = theirs.infer("tiny", sent)
    assert result.as_numpy("probability_late") == pytest.approx([0.1, 0.2, 0.7], abs=1e-9)
    nested = {"inputs": [{"name": "x", "shape": [3, 2], "datatype": "FP64", "data": rows}]}
    body = client.post("/v2/models/tiny/infer", json=nested).json()
    assert body["outputs"][2]["data"] == pytest.approx([0.1, 0.2, 0.7])


def test_one_tensor_at_fault(numbers, theirs):
    _, of_numbers = numbers
    with pytest.raises(InferenceServerException, match="the model's 2 in order"):
        of_numbers.infer("tiny", [tensor("x", [[1, 2, 3]], "FP32")])
    with pytest.raises(InferenceServerException, match="column 'wind', row 1"):
        of_numbers.infer("tiny", [tensor("x", [[1, 2], [3, np.inf]], "FP32")])
    with pytest.raises(InferenceServerException, match="'carrier' is a category"):
        theirs.infer("tiny", [tensor("x", [[1, 2, 3]], "FP32")])


def body(*tensors, rest=b""):
    import msgspec

    head = msgspec.json.encode({"inputs": list(tensors)})
    return head + rest, str(len(head))


def hour(size=None, **change):
    made = {"name": "hour", "shape": [2], "datatype": "FP32"} | change
    return made if size is None else made | {"parameters": {"binary_data_size": size}}


EIGHT = b"\0\0\x80?\0\0\0@"


@pytest.mark.parametrize(
    ("content", "header", "field"),
    [
        (*body(hour(8), rest=EIGHT[:-1]), "inputs[0].parameters.binary_data_size"),
        (*body(hour(8), rest=EIGHT + b"x"), "body"),
        (*body(hour(4), rest=EIGHT[:4]), "inputs[0]"),
        (*body(hour(-8), rest=EIGHT), "inputs[0].parameters.binary_data_size"),
        (*body(hour(True), rest=b"x"), "inputs[0].parameters.binary_data_size"),
        (*body(hour("8"), rest=EIGHT), "inputs[0].parameters.binary_data_size"),
        (*body(hour(8, data=[1, 2]), rest=EIGHT), "inputs[0].data"),
        (*body(hour(8, shape=[2, 10**12]), rest=EIGHT), "inputs[0]"),
        (*body(hour(8, shape=[10**30]), rest=EIGHT), "rows"),
        (*body(hour(8, datatype="FP128"), rest=EIGHT), "inputs[0].datatype"),
        (*body(hour(2, datatype="BOOL"), rest=b"\x00\x02"), "inputs[0][1]"),
        (*body(hour(8, datatype="BYTES"), rest=b"\xff\xff\xff\xff1234"), "inputs[0][0]"),
        (*body(hour(5, datatype="BYTES"), rest=b"\0\0\0\0\0"), "inputs[0][1]"),
        (*body(hour(5, datatype="BYTES"), rest=b"\1\0\0\0\xff"), "inputs[0][0]"),
        (*body(hour(4, datatype="BYTES"), rest=b"\0\0\0\0"), "inputs[0]"),
        (*body(hour(12, datatype="BYTES"), rest=b"\0" * 12), "inputs[0]"),
        (body(hour())[0], None, "inputs[0].data"),
        (body(hour(8))[0], None, "inputs[0].parameters.binary_data_size"),
        *(
            (body(hour(8), rest=EIGHT)[0], header, inference_protocol.HEADER)
            for header in ("", "0", "-1", "1e3", "٣", "9" * 5000, "100000")
        ),
        (body(hour(8), rest=EIGHT)[0], "5", "body"),
    ],
)
def test_bytes_at_fault_are_told_apart(content, header, field):
    with pytest.raises(RequestFault) as caught:
        inference_protocol.parse(content, 1000, header)
    assert caught.value.status in (400, 413)
    assert caught.value.field == field
