"""`everfit up` as a person uses it: real servers, a real model, from a folder that was empty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import environment
from deployments.postgres import Postgres

pytestmark = pytest.mark.timeout(900)

ROW = {"carrier": "EV", "hour": 20, "wind": 30.0, "visibility": 4.0}


class Shell:
    """`everfit` in a folder, as from any terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **environment.child(),
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(Path.cwd()),
        }
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            self.env.pop(name, None)

    def __call__(self, *arguments: object, fails: bool = False) -> str:
        command = [sys.executable, "-P", "-m", "deployments", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self, *arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", *arguments, "--json"))
        return found


@pytest.fixture
def everfit(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    if shell.status()["up"]:
        shell("down", "--all", "--force")


def eventually(condition: Callable[[], bool], seconds: float = 300.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def answer(url: str) -> dict[str, Any] | None:
    try:
        got = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]}, timeout=5)
    except httpx.TransportError:
        return None
    return got.json() if got.status_code == 200 else None


def parts(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["part"]: part for part in state["parts"]}


def record(config: Path) -> dict[str, Any]:
    """What the process that runs it knows: quicker than to ask."""
    path = config.parent / "runs" / "tiny" / "up" / "up.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_it_starts_heals_stops_and_finds_everything_again(everfit, tiny_config, tmp_path):
    told = everfit("up", tiny_config, "--train", "--detach")
    assert "everfit down" in told
    url = record(tiny_config)["models"][0]["url"]
    assert eventually(lambda: answer(url) is not None), everfit("status")
    assert eventually(lambda: record(tiny_config)["models"][0]["champion"] == "1")

    assert "runs tiny already as process" in everfit("up", tiny_config, fails=True)

    (before,) = everfit.status()["up"]
    assert set(parts(before)) == {"prefect", "mlflow", "server", "runner"}
    assert eventually(lambda: record(tiny_config)["models"][0]["next_check"] is not None)
    for key in ("prefect", "mlflow", "server", "runner"):
        os.killpg(parts(before)[key]["pid"], signal.SIGKILL)  # with all that it started
    assert eventually(
        lambda: all(
            p["state"] == "healthy" and p["restarts"] >= 1 for p in record(tiny_config)["parts"]
        )
    ), everfit("status")
    assert all(part["answers"] for part in everfit.status()["up"][0]["parts"])
    assert answer(url)["model_version"] == "1"

    said = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]}, timeout=5).json()
    label = {"id": said["ids"][0], "label": "late"}
    assert httpx.post(f"{url}/labels", json=label, timeout=5).status_code == 200
    everfit("down")
    assert everfit.status()["up"] == []
    assert answer(url) is None
    assert "does not run tiny" in everfit("down", tiny_config, fails=True)

    everfit("up", tiny_config, "--detach")
    (after,) = everfit.status()["up"]
    assert {k: p["page"] for k, p in parts(after).items()} == {
        k: p["page"] for k, p in parts(before).items()
    }, "the same ports"
    assert answer(url)["model_version"] == "1"
    assert everfit.status(tiny_config)["store"]["labels"] == 1, "nothing was lost at the end"

    os.kill(after["pid"], signal.SIGKILL)
    ports = [httpx.URL(p["url"]).port for p in after["parts"] if p["url"]]
    assert eventually(lambda: not any(listens(port) for port in ports)), "its children end with it"
    assert everfit.status()["up"] == []


def listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_two_models_on_postgresql_share_it_and_its_password_shows_nowhere(
    everfit, tiny_config, tmp_path, postgres: Postgres
):
    from deployments.processes import free_port

    other = tmp_path / "other.yaml"
    text = tiny_config.read_text()
    port = text.rpartition("port: ")[2].rstrip("}\n")
    other.write_text(
        text.replace("name: tiny", "name: other").replace(f"port: {port}", f"port: {free_port()}")
    )
    everfit.env["PGPASSWORD"] = postgres.password
    where = postgres.url("acme", password=False)
    told = everfit("up", tiny_config, other, "--detach", "--postgres", where)
    names = postgres.sql("select datname from pg_database where datname like 'acme%' order by 1")
    assert names.split() == ["acme_mlflow", "acme_prefect", "acme_telemetry"]
    exports = [line.strip() for line in told.splitlines() if "export EVERFIT_" in line]
    assert len(exports) == 2
    for line in exports:  # as another terminal would
        name, _, value = line.removeprefix("export ").partition("=")
        everfit.env[name] = value.strip("'")
    (state,) = everfit.status()["up"]
    assert set(parts(state)) == {"prefect", "mlflow", "server of tiny", "server of other", "runner"}
    assert {m["name"]: m["champion"] for m in state["models"]} == {"tiny": None, "other": None}
    everfit("train", tiny_config)  # with their Prefect server
    url = everfit.status(tiny_config)["server"]["url"]
    assert eventually(lambda: answer(url) is not None), everfit("status")
    assert postgres.sql("select count(*) from flow_run", "acme_prefect") != "0"
    assert postgres.sql("select count(*) from registered_models", "acme_mlflow") == "1"
    assert not (tmp_path / "runs" / "tiny" / "mlflow.db").exists()
    assert not (tmp_path / "runs" / "tiny" / "telemetry.db").exists()
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True)
    assert postgres.password not in shown.stdout
    written = [p for p in (tmp_path / "runs").rglob("*") if p.suffix in (".json", ".log")]
    assert not [p for p in written if postgres.password in p.read_text(errors="replace")]
    assert postgres.password not in told
    assert "take it out" in everfit(
        "up", tiny_config, "--postgres", postgres.url("acme"), fails=True
    )
    everfit("down")
