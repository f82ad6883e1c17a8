"""The servers around a model start, share, and stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments import environment, processes, stack
from deployments.processes import StackFault
from tasks.config import load

pytestmark = pytest.mark.timeout(180)

# In a process of its own: a server's address must be known before prefect is imported there.
FLOW = """
import sys
from pathlib import Path
from deployments import environment, stack
environment.prepare()
home = Path(sys.argv[1])
with stack.prefect_server(home) as url:
    with stack.prefect_server(home.parent / "elsewhere") as named:
        assert named == url, "PREFECT_API_URL wins"
    from prefect import flow
    from prefect.settings import PREFECT_API_URL
    assert PREFECT_API_URL.value() == url
    @flow
    def one():
        return 1
    assert one() == 1
    import httpx
    page = httpx.get(url.removesuffix("/api") + "/ui-settings").json()
    assert page["api_url"] == url, "the page in the browser asks this server"
    print(stack.recorded_server(home) == url)
print(stack.recorded_server(home))
"""


def test_flows_run_on_a_prefect_server_under_the_runs_folder(tmp_path: Path):
    home = tmp_path / "runs" / "prefect"
    env = {**environment.child(), "PYTHONPATH": str(Path.cwd())}
    env.pop("PREFECT_HOME")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FLOW, str(home)],
        check=False,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "None"]
    assert (home / "prefect.db").stat().st_size > 0
    assert not (home.parent / "elsewhere").exists()


def test_a_named_server_that_does_not_answer_is_a_fault(tmp_path, monkeypatch, free_port):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port}/api")
    with (
        pytest.raises(StackFault, match=r"PREFECT_API_URL.*does not answer"),
        stack.prefect_server(tmp_path),
    ):
        pass


def test_a_stale_record_of_a_server_is_not_believed(tmp_path, free_port):
    assert stack.recorded_server(tmp_path) is None
    record = tmp_path / "server.json"
    record.write_text(json.dumps({"url": f"http://127.0.0.1:{free_port}/api"}))
    assert stack.recorded_server(tmp_path) is None
    record.write_text("{")
    assert stack.recorded_server(tmp_path) is None


def test_taken_ports_are_named(tiny_config, free_port):
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with (
            pytest.raises(StackFault, match=f"port {port}.*taken"),
            stack.inference_server(tiny_config, port),
        ):
            pass
        with (
            pytest.raises(StackFault, match=f"port {port} for MLflow's page is taken"),
            stack.mlflow_server(load(tiny_config), port),
        ):
            pass
        with (
            pytest.raises(StackFault, match=f"port {port} for Evidently's page is taken"),
            stack.evidently_server(tiny_config.parent, tiny_config.parent / "log", port),
        ):
            pass


def test_mlflow_shows_its_page_on_the_registry(tiny_config):
    config = load(tiny_config)
    config.folder.mkdir(parents=True)
    with stack.mlflow_server(config) as child, urllib.request.urlopen(f"{child.url}/") as page:
        assert b"mlflow" in page.read().lower()
    assert not child.alive
    assert (config.folder / "mlflow.db").is_file()


def test_evidently_shows_reports_as_they_come(tmp_path):
    import numpy as np
    import pandas as pd

    from monitoring.reports import WorkspaceRun, drift_report

    def ask(path: str):
        with urllib.request.urlopen(f"{child.url}{path}") as answer:
            return json.load(answer)

    def report(window: str) -> None:
        sides = [pd.DataFrame({"wind": np.arange(300.0) + shift}) for shift in (0, 500)]
        at = datetime(2013, 2, 1, tzinfo=UTC)
        run = WorkspaceRun(tmp_path / "evidently", "flights", window, at, "retrain")
        drift_report(*sides, {"wind": "number"}, run=run)

    log = tmp_path / "logs" / "evidently.log"
    with stack.evidently_server(tmp_path / "evidently", log) as child:
        assert child.url.startswith("http://127.0.0.1:")
        assert ask("/api/projects") == []
        for shown in (["w1"], ["w1", "w2"]):
            report(shown[-1])
            runs: list[dict[str, object]] = []
            deadline = time.monotonic() + 20
            while len(runs) < len(shown) and time.monotonic() < deadline:
                time.sleep(0.05)
                for project in ask("/api/projects"):
                    assert project["name"] == "flights"
                    runs = ask(f"/api/projects/{project['id']}/snapshots")
            assert sorted(r["name"] for r in runs) == shown
        assert {tuple(r["tags"]) for r in runs} == {("w1", "retrain"), ("w2", "retrain")}
        widgets = ask(f"/api/projects/{project['id']}/{runs[0]['id']}/data")["widgets"]
        assert any("wind" in json.dumps(widget) for widget in widgets)
    assert not child.alive


def test_prefect_is_not_pointed_elsewhere_once_imported(monkeypatch, tmp_path):
    import prefect.settings  # noqa: F401

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(RuntimeError, match="before prefect is imported"):
        environment.point_prefect_at("http://127.0.0.1:4201/api", tmp_path)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


def test_what_the_user_set_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    environment.prepare()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["DO_NOT_TRACK"]) == ("7", "1")
    assert environment.child(OMP_NUM_THREADS="2")["OMP_NUM_THREADS"] == "2"


def test_free_ports_differ_from_the_taken_ones(free_port):
    assert processes.port_is_free(free_port)
    assert processes.free_port(free_port) == free_port
