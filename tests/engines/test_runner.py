"""The runner and a real Prefect server: events, queues, limits, kill -9, and `prefect deploy`."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from deployments import environment, processes
from deployments.stack import python
from tasks import events, places
from tasks.config import load

pytestmark = pytest.mark.timeout(900)

PATIENCE = 400.0  # seconds; a machine that does other things too is slow
ROOT = Path(__file__).resolve().parents[2]

# Fits as fast as a neighbour is found, or as slowly as the file beside the config says.
TRAINER = """
import pathlib
import time

from sklearn.neighbors import KNeighborsClassifier
from models.space import Int, Space

PACE = pathlib.Path(__file__).with_name("pace")


class Nearest:
    space = Space((Int("neighbours", 1, 50, log=True),))

    def fit(self, X, y, params, seed):
        if PACE.exists():
            time.sleep(float(PACE.read_text()))
        return KNeighborsClassifier(n_neighbors=params["neighbours"]).fit(X, y)


trainer = Nearest()
"""


class Server:
    """Prefect's API, asked as anybody may."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def post(self, path: str, body: object) -> object:
        for _ in range(20):
            answer = self.http.post(path, json=body)
            if (
                answer.status_code != 503
            ):  # SQLite is locked: its clients ask again, as Prefect's do
                break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployments(self) -> dict[str, dict]:
        found = self.post("/deployments/filter", {"limit": 100})
        flows = {f["id"]: f["name"] for f in self.post("/flows/filter", {"limit": 100})}
        return {f"{flows[d['flow_id']]}/{d['name']}": d for d in found}

    def runs(self, name: str) -> list[dict]:
        """Runs of a deployment that somebody asked for, oldest first."""
        wanted = {"deployment_id": {"any_": [self.deployments()[name]["id"]]}}
        found = self.post("/flow_runs/filter", {"flow_runs": wanted, "limit": 200})
        return sorted(
            (run for run in found if not run["auto_scheduled"]), key=lambda run: run["created"]
        )

    def ask(self, model: str, window: str, times: int = 1, attempt: int = 0) -> None:
        """The event of a decision, told `times` times, each as an event of its own."""
        told = [
            {
                "id": str(uuid.uuid4()),
                "event": "everfit.decision.retrain",
                "occurred": datetime.now(UTC).isoformat(),
                "resource": {
                    "prefect.resource.id": events.resource_id(model),
                    events.ASKS: events.RETRAIN,
                },
                "payload": {"window_id": window, "attempt": attempt, "why": 'it said "<drift>"'},
            }
            for _ in range(times)
        ]
        self.post("/events", told)

    def wait(self, what: str, found: object, seconds: float = PATIENCE) -> object:
        deadline = time.monotonic() + seconds
        while True:
            if (answer := found()) is not None:  # type: ignore[operator]
                return answer
            assert time.monotonic() < deadline, f"{what} did not come"
            time.sleep(0.25)

    def ended(self, name: str, window: str) -> dict:
        """The run of a window that did the work, once it has ended."""

        def look() -> dict | None:
            mine = [r for r in self.runs(name) if r["parameters"].get("window_id") == window]
            done = [r for r in mine if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
            return done[0] if done and all(r["end_time"] for r in mine) else None

        return self.wait(f"the end of {window}", look)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_frame) -> Path:
    folder = tmp_path_factory.mktemp("runner")
    make_frame(600).to_csv(folder / "flights.csv", index=False)
    (folder / "slow.py").write_text(TRAINER, encoding="utf-8")
    from tests.conftest import TINY_CONFIG

    for name in ("alpha", "beta"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        text = TINY_CONFIG.replace("name: tiny", f"name: {name}")
        text = text.replace("families: [logistic]", "families: [custom]\n  trainer: slow:trainer")
        text += f"serving: {{port: {port}}}\nruns: runs-{name}\nschedule: {{reconcile: never}}\n"
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(place) -> Iterator[Server]:
    home = place / "prefect"
    home.mkdir()
    port = processes.free_port()
    env = environment.child(
        PREFECT_HOME=str(home),
        PREFECT_API_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{home / 'prefect.db'}",
    )
    env.pop("PREFECT_API_URL", None)
    command = [*python("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with processes.running(
        "Prefect",
        command,
        url=f"http://127.0.0.1:{port}",
        health="/api/health",
        log=home / "server.log",
        env=env,
        timeout=PATIENCE,
    ):
        yield Server(f"http://127.0.0.1:{port}/api")


def child(server: Server, place: Path) -> dict[str, str]:
    return environment.child(PREFECT_API_URL=server.url, PREFECT_HOME=str(place / "prefect"))


@contextmanager
def runner(server: Server, place: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A runner of both models, once it is ready; killed with all that it started at the end."""
    beat = place / f"beat-{uuid.uuid4().hex[:6]}"
    env = child(server, place) | {"EVERFIT_BEAT": str(beat)}
    configs = [str(place / f"{name}.yaml") for name in ("alpha", "beta")]
    command = [sys.executable, "-P", "-m", "deployments.runner", *options, *configs]
    with (place / "runner.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=ROOT
        )
    try:
        server.wait("the runner", lambda: beat if beat.exists() else _alive(process))
        yield process
    finally:
        kill(process)


def _alive(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "the runner ended: see runner.log"


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the runner and of every run that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def versions(place: Path, name: str) -> list[str]:
    registry = places.registry(load(place / f"{name}.yaml"))
    return [release.window_id for release in registry.versions()]


def test_a_decision_becomes_one_retrain_whatever_happens(server, place):
    with runner(server, place, "--retrains", "1") as process:
        known = server.deployments()
        assert set(known) == {
            f"{flow}/{model}"
            for flow in ("watch", "advance", "reconcile", "report", "retrain")
            for model in ("alpha", "beta")
        }
        # Both models at the same moment, each told three times; one retrain at once, of all models.
        (place / "pace").write_text("4", encoding="utf-8")
        server.ask("alpha", "w2", times=3)
        server.ask("beta", "b1", times=3)

        def running() -> list[dict] | None:
            both = [*server.runs("retrain/alpha"), *server.runs("retrain/beta")]
            return [run for run in both if run["state_type"] == "RUNNING"] or None

        server.wait("a retrain", running)
        check = server.post(f"/deployments/{known['watch/alpha']['id']}/create_flow_run", {})

        def checked() -> dict | None:
            run = server.http.get(f"/flow_runs/{check['id']}").json()
            return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

        done = server.wait("the check", checked)
        assert "no champion" in done["state"]["message"] or done["state_type"] == "COMPLETED"
        busy = running()
        assert busy is not None, "the check waited for the training to end"
        assert len(busy) == 1

        # kill -9 in the middle of it: the runner that comes next goes on with the same run.
        (lost,) = busy
        kill(process)
    (place / "pace").unlink()
    with runner(server, place, "--retrains", "1") as process:
        assert {n: d["id"] for n, d in server.deployments().items()} == {
            n: d["id"] for n, d in known.items()
        }
        server.ask("alpha", "w2")  # an event that comes once more, after a restart
        ended = {
            window: server.ended(f"retrain/{model}", window)
            for model, window in (("alpha", "w2"), ("beta", "b1"))
        }
        assert {run["state_type"] for run in ended.values()} == {"COMPLETED"}
        assert lost["id"] in {run["id"] for run in ended.values()}
        for run in ended.values():
            assert run["parameters"]["why"] == 'it said "<drift>"'
            assert run["parameters"]["attempt"] == 0
        for model, window, told in (("alpha", "w2", 4), ("beta", "b1", 3)):
            same = [
                run
                for run in server.runs(f"retrain/{model}")
                if run["parameters"]["window_id"] == window and run["parameters"]["attempt"] == 0
            ]
            states = sorted(run["state_type"] for run in same)
            assert states == ["CANCELLED"] * (told - 1) + ["COMPLETED"]
        assert versions(place, "alpha") == ["w2"]
        assert versions(place, "beta") == ["b1"]
        again = next(run for run in ended.values() if run["id"] == lost["id"])
        assert again["run_count"] == 2  # the same run, begun anew

        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - asked < 30


def test_prefect_deploys_the_same_file(server, place):
    config = place / "gamma.yaml"
    text = (place / "alpha.yaml").read_text(encoding="utf-8")
    text = text.replace("name: alpha", "name: gamma").replace("runs-alpha", "runs-gamma")
    text = text.replace("{reconcile: never}", "{report: never, cron: '5 * * * *'}")
    config.write_text(text, encoding="utf-8")
    env = child(server, place)
    everfit = [sys.executable, "-P", "-m", "deployments", "deploy", str(config)]
    exports = subprocess.run(
        [*everfit, "--environment"], env=env, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    words = [shlex.split(line)[1].partition("=") for line in exports.splitlines()]
    env |= {name: value for name, _, value in words}
    subprocess.run([*everfit[:4], "deploy", str(config)], env=env, check=True, cwd=ROOT)
    ours = server.deployments()
    command = [*python("prefect"), "--no-prompt", "deploy", "--all", "--prefect-file"]
    command.append(str(ROOT / "deployments" / "prefect.yaml"))
    subprocess.run(command, env=env, check=True, cwd=place, stdout=subprocess.DEVNULL)
    theirs = server.deployments()
    for name in ("watch", "advance", "reconcile", "report", "retrain"):
        one, other = ours[f"{name}/gamma"], theirs[f"{name}/gamma"]
        assert one["id"] == other["id"]
        for key in ("entrypoint", "work_queue_name", "tags", "description", "pull_steps"):
            assert one[key] == other[key], (name, key)
        assert [s["schedule"] | {"anchor_date": None} for s in one["schedules"]] == [
            s["schedule"] | {"anchor_date": None} for s in other["schedules"]
        ]
        assert [s["active"] for s in one["schedules"]] == [s["active"] for s in other["schedules"]]
        assert other["parameters"]["config"]["file"] == str(config)
    assert not theirs["report/gamma"]["schedules"][0]["active"]
    named = [
        one["name"]
        for one in server.post("/automations/filter", {"limit": 100})
        if "gamma" in one["name"]
    ]
    assert sorted(named) == ["everfit retrain gamma", "everfit roll out gamma"]
