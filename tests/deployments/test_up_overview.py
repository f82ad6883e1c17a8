"""What `everfit up` knows of its models, read from their stores and from Prefect."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx

from deployments.up.overview import Observer
from deployments.up.plan import Model
from deployments.up.prefect_api import Asked
from tasks import places
from tasks.overview import Overview, has_champion
from tests import registry_parts as parts

DUE = "2026-02-02T06:00:00Z"


def prefect(request: httpx.Request) -> httpx.Response:
    """An API with a watch and a retrain deployment of `tiny`, one of which runs."""
    asked = json.loads(request.content)
    if request.url.path == "/api/deployments/filter":
        if "name" in asked["deployments"]:
            return httpx.Response(200, json=[])
        ours = asked["deployments"]["tags"]["all_"] == ["everfit.model.tiny"]
        found = [
            {"id": "w", "name": "tiny", "entrypoint": "flows.watch.watch"},
            {"id": "r", "name": "tiny", "entrypoint": "flows.retrain.retrain"},
        ]
        return httpx.Response(200, json=found if ours else [])
    assert request.url.path == "/api/flow_runs/filter"
    runs = asked["flow_runs"]
    (state,), which = runs["state"]["type"]["any_"], runs["deployment_id"]["any_"]
    if state == "SCHEDULED":
        return httpx.Response(200, json=[{"expected_start_time": DUE}] if which == ["w"] else [])
    run = {"deployment_id": "r", "name": "blue-fox", "start_time": None}
    return httpx.Response(200, json=[run] if "r" in which else [])


def crowned(config, version: str) -> None:
    """A champion in MLflow's tables, without what makes one."""
    store = parts.tables(config.folder)
    name = config.name
    with closing(sqlite3.connect(store)) as rows, rows:
        rows.execute("insert into registered_models (name) values (?)", (name,))
        rows.execute(
            "insert into model_versions (name, version, current_stage, run_id) values (?, ?, ?, ?)",
            (name, version, "None", "run-1"),
        )
        rows.execute(
            "insert into registered_model_aliases (name, alias, version) values (?, ?, ?)",
            (name, "champion", version),
        )
        rows.execute(
            "insert into registered_model_tags (name, key, value) values (?, ?, ?)",
            (name, "champion", version),
        )
        for key, value in (("digest", "d"), ("window_id", "w1")):
            rows.execute(
                "insert into model_version_tags (name, version, key, value) values (?, ?, ?, ?)",
                (name, version, key, value),
            )


def test_a_model_is_read_without_mlflow_and_prefect_is_asked_what_comes(
    serving_config, monkeypatch
):
    config = serving_config()
    assert not has_champion(config)
    before = Overview(config).look()
    assert before == dict.fromkeys(("champion", "rollout", "approval", "retrain", "decision"))
    crowned(config, "1")
    now = datetime(2026, 2, 1, tzinfo=UTC)
    with places.claims(config) as book:
        from monitoring.claims import process_owner

        book.claim("w7", process_owner(), now, model=config.name)
    assert has_champion(config)

    told: list[str] = []
    observer = Observer(
        (Model(Path("tiny.yaml"), config),),
        "http://127.0.0.1:1/api",
        lambda _, line: told.append(line),
    )
    monkeypatch.setattr(
        observer, "_prefect", Asked("http://prefect/api", httpx.MockTransport(prefect))
    )
    observer._look("tiny")
    observer._learn()
    observer._ask("tiny")
    known = observer.now["tiny"]
    assert known["champion"] == "1"
    assert known["retrain"]["window_id"] == "w7"
    assert datetime.fromisoformat(known["next_check"]) == datetime.fromisoformat(DUE)
    assert known["running"] == [{"flow": "retrain", "run": "blue-fox", "since": None}]
    assert told[0] == "version 1 is the champion"
    assert told[1].startswith("retrain for window w7 runs")
    observer.stop()


def test_stores_that_cannot_be_read_are_said_once_and_what_was_known_stays(serving_config):
    config = serving_config()
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "telemetry.db").write_text("no database, whatever its name says " * 50)
    told: list[str] = []
    model = Model(Path("tiny.yaml"), config)
    observer = Observer((model,), "http://127.0.0.1:1/api", lambda _, line: told.append(line))
    observer.now["tiny"] |= {"champion": "3"}
    observer._look("tiny")
    observer._look("tiny")
    assert len(told) == 1
    assert told[0].startswith("its stores cannot be read")
    assert observer.now["tiny"]["champion"] == "3"
    observer.stop()
