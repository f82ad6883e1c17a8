"""A promotion in a real registry, under load: no request fails, and the answers change hands."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from deployments.serving.app import create_app
from models.bundle import Predictor
from models.registry import Registry
from monitoring.rollout import Plan, Stage
from tasks import places, rolling, standing

pytestmark = pytest.mark.timeout(180)  # MLflow and fits are slow on a busy machine

ROW = {"hour": 7, "wind": 1.5, "carrier": "UA"}


class Load:
    """Four clients that ask until they are told to stop, and keep every answer."""

    def __init__(self, url):
        self.answers = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._stop.is_set():
                answer = client.post("/invocations", json={"dataframe_records": [ROW]})
                self.answers.append((answer.status_code, answer.json()))


def until(client, version):
    deadline = time.monotonic() + 50
    while client.get("/v2/health/ready").json().get("model_version") != version:
        assert time.monotonic() < deadline, f"version {version} never took over"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def config(serving_config, serving_release):
    config = serving_config()
    serving_release(config, seed=1)
    return config


@pytest.fixture
def registry(config):
    return Registry(config.registry_url, config.name, config.artifacts)


def test_the_champion_changes_hands_under_load(serving, config, serving_release, registry):
    with serving(create_app(config)) as client, Load(str(client.base_url)) as load:
        until(client, "1")
        serving_release(config, seed=3, fetch=False)
        until(client, "2")
        registry.rollback(decision_id="d", who="test", why="worse", now=datetime.now(UTC))
        until(client, "1")
        time.sleep(0.1)
    assert {status for status, _ in load.answers} == {200}
    versions = [body["model_version"] for _, body in load.answers]
    assert set(versions) == {"1", "2"}
    assert versions[-1] == "1"
    columns = {name: [value] for name, value in ROW.items()}
    right = {
        version: Predictor.load(config.folder / "serving" / version).predict_proba(columns)[0, 1]
        for version in ("1", "2")
    }
    assert right["1"] != pytest.approx(right["2"], abs=1e-4)
    for _, body in load.answers:  # no answer mixes two versions
        late = body["predictions"][0]["probability_late"]
        assert late == pytest.approx(right[body["model_version"]])


def test_a_roll_out_judges_what_the_server_has_answered(serving, config, serving_release, registry):
    """Canary, shadow, counts and latencies, from the server's answers through store and registry
    to the guards."""
    stage = Stage("canary", 0.5, minimum=timedelta(0), requests=60)
    config = config.model_copy(update={"rollout": Plan((stage,))})
    with serving(create_app(config)) as client:
        until(client, "1")
        made = serving_release(config, seed=5, promote=False)

        def ask(key):
            headers = {"x-request-key": f"caller-{key}"}
            answer = client.post("/invocations", json={"dataframe_records": [ROW]}, headers=headers)
            return answer.json()["model_version"]

        def beside():
            return client.get("/v2/models/tiny").json()["parameters"]["beside"]

        assert {ask(n) for n in range(40)} == {"1"}
        with places.telemetry(config) as store:
            wait(lambda: store.counts()["predictions"] >= 40)
        began = datetime.now(UTC)
        rolling.enter.fn(config, made, 0, "1", "it is better", began)
        wait(lambda: beside()["share"] == 0.5)
        answered = [ask(n) for n in range(200)]
        assert [ask(n) for n in range(50)] == answered[:50]  # one caller sees one model
        assert 70 < answered.count(made.version) < 130

        def judged():
            at = standing.standing(config)
            found = rolling.evidence.fn(config, at, datetime.now(UTC))
            return found, {reading.name: reading for reading in found.readings}

        wait(lambda: judged()[1]["disagreement"].rows >= 150)
        wait(lambda: judged()[1]["error_rate"].rows >= 60)
        found, readings = judged()
        assert found.requests >= 60
        assert readings["error_rate"].value == 0
        assert readings["latency_p95_ratio"].rows >= 60
        assert readings["prediction_drift"].value is not None
        assert readings["metric"].reason == "no label of a row that both answered has come yet"
        assert not any(reading.worse for reading in found.readings if reading.name != "load")
        registry.reject(made.version, "the test is over", datetime.now(UTC))
        wait(lambda: beside()["challenger"] is None)
        assert {ask(n) for n in range(40)} == {"1"}


def wait(check):
    deadline = time.monotonic() + 50
    while not check():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_a_damaged_version_never_takes_over(serving, config, serving_release, registry):
    """Its files are altered between registration and the server's fetching them."""
    with serving(create_app(config)) as client:
        until(client, "1")
        made = serving_release(config, seed=4, promote=False, fetch=False)
        damaged = [
            file
            for file in config.artifacts.rglob("model.*")
            if f"/{made.run_id}/" in file.as_posix() and file.is_file()
        ]
        assert damaged
        for file in damaged:
            file.write_bytes(b"damaged")
        registry._set_alias("champion", made.version)  # as someone might, past `promote`'s checks
        deadline = time.monotonic() + 50
        while not (failed := client.get("/v2/models/tiny").json()["parameters"]["failed"]):
            assert time.monotonic() < deadline, "the fault is not shown"
            time.sleep(0.02)
        assert failed["version"] == made.version
        assert f'everfit_load_failures_total{{version="{made.version}"}} 1.0' in (
            client.get("/metrics").text
        )
        assert client.get("/v2/health/ready").json()["model_version"] == "1"
        assert not (config.folder / "serving" / made.version).exists()
        answer = client.post("/invocations", json={"dataframe_records": [ROW]})
        assert answer.json()["model_version"] == "1"
