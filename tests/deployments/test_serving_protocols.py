"""Both protocols on a real model: the same answers as MLflow's own server gives for it."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest

from deployments.serving.app import create_app
from models.bundle import Predictor
from monitoring.telemetry import TelemetryStore

INPUTS = ["hour", "wind", "carrier"]


@pytest.fixture(scope="module")
def served(serving, serving_config, serving_release):
    config = serving_config()
    serving_release(config, family="hgb")
    with serving(create_app(config)) as client:
        yield config, client


@pytest.fixture(scope="module")
def client(served):
    return served[1]


@pytest.fixture(scope="module")
def predictor(served):
    return Predictor.load(served[0].folder / "serving" / "1")


@pytest.fixture(scope="module")
def pyfunc(served):
    """The registered model as MLflow itself loads it."""
    import mlflow.pyfunc

    (made,) = served[0].artifacts.rglob("MLmodel")
    return mlflow.pyfunc.load_model(str(made.parent))


@pytest.fixture(scope="module")
def frame(make_frame):
    frame = make_frame(40, seed=9)[INPUTS]
    frame["hour"] = frame["hour"].astype(float)
    frame.loc[3, "wind"] = np.nan
    frame.loc[4, "carrier"] = "ZZ"
    frame.loc[5, "carrier"] = None
    return frame


@pytest.fixture(scope="module")
def mlflows_server(pyfunc):
    """`mlflow models serve` without its process: its own application, asked over HTTP."""
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # it sets it for good
        yield httpx.ASGITransport(scoring_server.init(pyfunc))


def as_mlflow_serves(server, body, kind="application/json"):
    async def ask():
        async with httpx.AsyncClient(transport=server, base_url="http://mlflow") as client:
            return await client.post("/invocations", content=body, headers={"content-type": kind})

    answer = asyncio.run(ask())
    return answer.status_code, answer.json().get("predictions")


def assert_same(ours, theirs):
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a["label"] == b["label"]
        assert [a[k] for k in a if k != "label"] == pytest.approx(
            [b[k] for k in b if k != "label"], abs=1e-9
        )


@pytest.mark.parametrize("layout", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_every_json_layout_answers_as_mlflow_does(client, mlflows_server, frame, layout):
    rows = json.loads(frame.to_json(orient="records"))
    if layout == "dataframe_split":
        content = {layout: json.loads(frame.to_json(orient="split"))}
    elif layout == "inputs":
        content = {layout: {name: [row[name] for row in rows] for name in INPUTS}}
    else:
        content = {layout: rows}
    body = json.dumps(content)
    ours = client.post("/invocations", content=body, headers={"content-type": "application/json"})
    assert ours.status_code == 200, ours.text
    assert_same(ours.json()["predictions"], as_mlflow_serves(mlflows_server, body)[1])


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"hour": 7, "carrier": "UA"}]},
        {"dataframe_records": [{"hour": "seven", "wind": 1, "carrier": "UA"}]},
        {"dataframe_split": {"columns": ["hour"], "data": [[1, 2]]}},
        {"dataframe_records": {"hour": 7}},
        {"rows": []},
        {"instances": [[7, 1.5]], "inputs": [[7, 1.5]]},
        [],
    ],
)
def test_what_mlflow_refuses_is_refused(client, mlflows_server, body):
    content = json.dumps(body)
    ours = client.post(
        "/invocations", content=content, headers={"content-type": "application/json"}
    )
    assert ours.status_code == as_mlflow_serves(mlflows_server, content)[0] == 400


def test_a_payload_that_mlflow_makes_from_an_example_is_understood(client, pyfunc, frame):
    from mlflow.models import convert_input_example_to_serving_input

    content = convert_input_example_to_serving_input(frame[:3])
    ours = client.post(
        "/invocations", content=content, headers={"content-type": "application/json"}
    )
    expected = pyfunc.predict(frame[:3])
    assert [row["label"] for row in ours.json()["predictions"]] == expected["label"].tolist()


def test_csv_answers_as_mlflow_does(client, mlflows_server, frame):
    body = frame.to_csv(index=False)
    ours = client.post("/invocations", content=body, headers={"content-type": "text/csv"})
    assert ours.status_code == 200, ours.text
    theirs = as_mlflow_serves(mlflows_server, body, "text/csv")
    assert_same(ours.json()["predictions"], theirs[1])


def test_mlflows_own_client_is_understood(client, pyfunc, frame):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    theirs = ScoringServerClient(client.base_url.host, client.base_url.port)
    theirs.wait_server_ready(timeout=5)
    assert theirs.get_version()
    answer = theirs.invoke(frame).get_predictions()  # it writes NaN, which JSON does not have
    expected = pyfunc.predict(frame)
    assert answer["label"].tolist() == expected["label"].tolist()
    assert answer["probability_late"].to_numpy() == pytest.approx(expected["probability_late"])


def tensors(frame, shape=None):
    rows = json.loads(frame.to_json(orient="records"))
    n = shape or [len(rows)]
    return [
        {
            "name": name,
            "shape": n,
            "datatype": "BYTES" if name == "carrier" else "FP64",
            "data": [row[name] for row in rows],
        }
        for name in INPUTS
    ]


@pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"])
def test_the_open_inference_protocol_answers_the_same(client, predictor, frame, path):
    answer = client.post(path, json={"id": "42", "inputs": tensors(frame)})
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert (body["id"], body["model_name"], body["model_version"]) == ("42", "tiny", "1")
    outputs = {output["name"]: output for output in body["outputs"]}
    assert list(outputs) == ["label", "probability_on time", "probability_late"]
    assert all(output["shape"] == [40] for output in outputs.values())
    assert outputs["label"]["datatype"] == "BYTES"
    expected = predictor.predict_proba({name: frame[name].tolist() for name in INPUTS})
    assert outputs["probability_late"]["data"] == pytest.approx(expected[:, 1])
    assert len(set(body["parameters"]["ids"])) == 40


def test_tensor_shapes_and_types(client, frame):
    flat = client.post("/v2/models/tiny/infer", json={"inputs": tensors(frame)}).json()
    column = {"inputs": tensors(frame, [40, 1])}
    assert client.post("/v2/models/tiny/infer", json=column).json()["outputs"] == flat["outputs"]
    for tensor in column["inputs"]:
        tensor["data"] = [[value] for value in tensor["data"]]
    assert client.post("/v2/models/tiny/infer", json=column).json()["outputs"] == flat["outputs"]
    whole = {"inputs": tensors(frame)}
    whole["inputs"][0] |= {"datatype": "INT32", "data": [int(h) for h in frame["hour"]]}
    assert client.post("/v2/models/tiny/infer", json=whole).json()["outputs"] == flat["outputs"]


def test_only_the_outputs_asked_for(client, frame):
    body = {"inputs": tensors(frame), "outputs": [{"name": "probability_late"}]}
    answer = client.post("/v2/models/tiny/infer", json=body).json()
    assert [output["name"] for output in answer["outputs"]] == ["probability_late"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"shape": [3]}, "inputs[1].data"),
        ({"shape": [20, 2]}, "inputs[1].shape"),
        ({"shape": []}, "inputs[1].shape"),
        ({"shape": [-1]}, "inputs[1].shape"),
        ({"datatype": "FP128"}, "inputs[1].datatype"),
        ({"datatype": "BYTES"}, "inputs[1].data[0]"),
        ({"datatype": "INT64"}, "inputs[1].data[0]"),
        ({"data": None}, "inputs[1].data"),
        ({"data": "all"}, "inputs[1].data"),
        ({"name": "hour"}, "inputs[1].name"),
        ({"name": "gust"}, "column 'wind'"),
        ({"data": [None] * 39 + [1e39]}, "column 'wind', row 39"),
    ],
)
def test_tensors_at_fault(client, frame, change, names):
    body = {"inputs": tensors(frame)}
    body["inputs"][1] |= change
    answer = client.post("/v2/models/tiny/infer", json=body)
    assert answer.status_code == 400, answer.text
    assert names in answer.json()["fault"]["field"]
    assert names in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "status", "names"),
    [
        ({"inputs": []}, 400, "inputs"),
        ({"outputs": [{"name": "logit"}]}, 400, "outputs"),
        ({"parameters": {"ids": ["a"]}}, 400, "ids"),
        ({"parameters": {"ids": "a"}}, 400, "parameters.ids"),
    ],
)
def test_requests_at_fault(client, frame, change, status, names):
    body = {"inputs": tensors(frame)} | change
    answer = client.post("/v2/models/tiny/infer", json=body)
    assert answer.status_code == status, answer.text
    assert names in answer.json()["fault"]["field"]


def test_ids_times_and_rows_reach_the_store(served, frame):
    """Event times come as `times`, as the time column, or as a parameter; never as a feature."""
    config, client = served
    row = {"hour": 9.0, "wind": None, "carrier": "UA"}
    when = "2013-03-01T10:00:00+00:00"
    client.post(
        "/invocations", json={"dataframe_records": [row], "ids": ["t1"], "times": [when]}
    ).raise_for_status()
    client.post(
        "/invocations", json={"dataframe_records": [row | {"due": when}], "ids": ["t2"]}
    ).raise_for_status()
    client.post(
        "/v2/models/tiny/infer",
        json={"inputs": tensors(frame[:1]), "parameters": {"ids": ["t3"], "times": [when]}},
    ).raise_for_status()
    client.post("/labels", json={"id": "t3", "label": "late"}).raise_for_status()  # flushes
    with TelemetryStore(config.store_url) as store:
        stored = store.rows(None, None).set_index("id").loc[["t1", "t2", "t3"]]
    assert {time.isoformat() for time in stored["time"]} == {when}
    assert "due" not in stored.columns
    assert stored.loc["t1", "hour"] == 9.0
    assert stored["wind"].isna().tolist() == [True, True, False]
    assert stored["version"].tolist() == ["1"] * 3
    assert stored["label"].tolist()[2] == "late"
    assert all(sum(p) == pytest.approx(1) for p in stored["proba"])
