"""`everfit up` starts its parts in order, starts anew what fails, and stops them in order."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments import stack
from deployments.processes import StackFault, free_port
from deployments.up import asking, detached, health, jobs, part, place, run, stopping
from deployments.up.events import Events
from deployments.up.part import Part
from deployments.up.plan import Model, Plan, Wishes, check, check_ports, plan
from tasks.config import load

SERVER = (
    "import sys; from http.server import SimpleHTTPRequestHandler, test\n"
    "test(SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Questions and waits that suit a test, and pointers that are not the user's."""
    monkeypatch.setattr(part, "_ASK_STARTING", 0.02)
    monkeypatch.setattr(part, "_ASK", 0.05)
    monkeypatch.setattr(part, "_TICK", 0.01)
    monkeypatch.setattr(part, "backoff", lambda falls: 0.05 * falls)
    monkeypatch.setattr(health, "_PATIENCE", 0.3)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def made(tmp_path: Path, key: str = "page", script: str = SERVER, **options) -> Part:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-c", script, str(port))
    server = stack.Server(f"the {key}", command, url, "/", tmp_path / f"{key}.log")
    return Part(key, server, health.of_server(f"{url}/"), grace=5.0, **options)


def eventually(condition, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def child_of(pid: int) -> int:
    """The server itself; the part's process is its guard."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_a_part_that_is_killed_or_stands_still_is_started_anew(tmp_path):
    seen: list[tuple[str, str]] = []
    page = made(tmp_path, hang=0.3, told=lambda p: seen.append((p.state.state, p.state.detail)))
    page.start()
    assert eventually(lambda: page.state.state == "healthy")
    first = page.state.pid
    os.kill(child_of(first), signal.SIGKILL)
    assert eventually(lambda: page.state.state == "healthy" and page.state.pid != first)
    assert page.state.restarts == 1
    second = page.state.pid
    os.kill(child_of(second), signal.SIGSTOP)  # it still listens, and answers nobody
    assert eventually(lambda: page.state.state == "unwell")
    assert eventually(lambda: page.state.state == "healthy" and page.state.pid != second)
    assert page.state.restarts == 2
    page.stop()
    assert page.state.state == "stopped"
    assert page.state.pid is None
    reasons = [detail for state, detail in seen if state == "restarting"]
    assert reasons[0].startswith("ended by signal 9; starts again in ")
    assert reasons[1].startswith("stood still for ")
    assert not asking.answering(page.told_as())


def test_a_part_that_cannot_start_has_failed_and_says_why(tmp_path):
    page = made(tmp_path, script="raise SystemExit('no database here')")
    page.start()
    assert eventually(lambda: page.state.state == "failed")
    assert "no database here" in page.state.detail
    page.stop()
    assert page.state.state == "failed"


def test_somebody_elses_server_is_asked_and_never_started(tmp_path):
    ours = made(tmp_path)
    ours.start()
    theirs = Part("prefect", ours.server, health.of_server(ours.server.url), external=True, hang=0)
    theirs.start()
    assert eventually(lambda: theirs.state.state == "healthy")
    ours.stop()
    assert eventually(lambda: theirs.state.state == "unwell")
    time.sleep(0.2)
    assert theirs.state.state == "unwell"
    assert theirs.state.pid is None
    theirs.stop()


def test_a_runner_is_well_while_it_beats(tmp_path):
    beat = tmp_path / "beat"
    probe = health.of_beat(beat, clock=lambda: 1_000.0)
    assert not probe().well
    beat.touch()
    os.utime(beat, (990, 990))
    assert probe().well
    os.utime(beat, (980, 980))
    assert probe() == health.Health(False, "silent for 20 s")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_who_works_for_a_part_that_is_down_is_not_killed_for_it(tmp_path):
    down, told = True, []
    page = made(tmp_path, hang=0.3, excused=lambda: down, told=lambda p: told.append(p.state.state))
    page.start()
    assert eventually(lambda: page.state.state == "healthy")
    os.kill(child_of(page.state.pid), signal.SIGSTOP)
    assert eventually(lambda: page.state.state == "unwell")
    time.sleep(1.5)
    assert page.state.state == "unwell"
    assert told.count("unwell") == 1
    down = False
    assert eventually(lambda: page.state.restarts == 1)
    page.stop()


class Fake:
    """A whole run on servers that start at once."""

    def __init__(self, tmp_path: Path, config: Path, monkeypatch, **scripts: str) -> None:
        self.order: list[str] = []
        self.model = Model(config, load(config))
        self.place = place.place_of([self.model.config])
        self.events = Events(self.place.logs / "up.log")
        monkeypatch.setattr(run, "plan", self._plan)
        monkeypatch.setattr(run, "Observer", Quiet)
        self._tmp_path, self._scripts = tmp_path, scripts
        self.up = run.Up(self.place, [self.model], Wishes(), self.events)
        self.fault: BaseException | None = None

    def _plan(self, where, models, wishes, told) -> Plan:
        def hear(p: Part) -> None:
            self.order.append(f"{p.key} {p.state.state}")
            told(p)

        keys = ("mlflow", "prefect", "server", "runner")
        parts = [
            made(self._tmp_path, key, self._scripts.get(key, SERVER), told=hear) for key in keys
        ]
        return Plan(
            where, tuple(models), "http://127.0.0.1:1/api", (tuple(parts[:2]), tuple(parts[2:]))
        )

    @contextmanager
    def running(self):
        def work():
            try:
                self.up.run(self)
            except BaseException as fault:
                self.fault = fault

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield thread
        finally:
            self.up.stop()
            thread.join(30)
            assert not thread.is_alive()

    def show(self, state) -> None:
        json.dumps(state)


class Quiet:
    """No stores are looked into."""

    def __init__(self, models, api, told) -> None:
        self.now: dict[str, dict[str, object]] = {}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def training(self, name, since, failed) -> None: ...


def test_parts_start_by_stage_stop_in_order_and_are_found_meanwhile(
    tmp_path, tiny_config, monkeypatch
):
    fake = Fake(tmp_path, tiny_config, monkeypatch)
    prefect_home = fake.model.config.folder / "prefect"
    with fake.running():
        assert eventually(lambda: fake.up.phase == "running")
        assert place.running_places() == [fake.place]
        assert place.running_place(fake.model.config) == fake.place
        assert json.loads((prefect_home / "server.json").read_text())["pid"] == os.getpid()
        assert eventually(lambda: fake.place.read().get("phase") == "running")
        told = asking.state(fake.place)
        assert {p["part"]: p["answers"] for p in told["parts"]} == dict.fromkeys(
            ("mlflow", "prefect", "server", "runner"), True
        )
        again = Fake(tmp_path, tiny_config, monkeypatch)
        with pytest.raises(StackFault, match=rf"runs tiny already as process {os.getpid()} since"):
            again.up.run(again)
        elsewhere = run.Up(
            place.place_of([fake.model.config], tmp_path / "elsewhere"),
            [fake.model], Wishes(), fake.events,
        )  # fmt: skip
        with pytest.raises(StackFault, match="runs tiny already"):
            elsewhere.run(fake)
    assert fake.fault is None
    healthy = [line for line in fake.order if line.endswith(" healthy")]
    assert set(healthy[:2]) == {"mlflow healthy", "prefect healthy"}
    stopped = [line.split()[0] for line in fake.order if line.endswith(" stopped")]
    assert set(stopped[:2]) == {"runner", "mlflow"}
    assert stopped[2:] == ["prefect", "server"]
    assert fake.place.read()["phase"] == "stopped"
    assert place.running_places() == []
    assert not (prefect_home / "server.json").exists()
    assert "everything is healthy after" in (fake.place.logs / "up.log").read_text()


def test_a_part_that_fails_at_the_start_ends_it_all_and_is_named(
    tmp_path, tiny_config, monkeypatch
):
    fake = Fake(tmp_path, tiny_config, monkeypatch, server="raise SystemExit('port is taken')")
    with fake.running() as thread:
        thread.join(20)
    assert isinstance(fake.fault, StackFault)
    assert "the server did not start" in str(fake.fault)
    assert "port is taken" in str(fake.fault)
    assert {"mlflow stopped", "prefect stopped"} <= set(fake.order)
    with pytest.raises(StackFault, match="nothing runs in"):
        stopping.stop(fake.place, 1.0)


def test_asked_to_stop_twice_it_does_not_wait(tmp_path, tiny_config, monkeypatch):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    fake = Fake(tmp_path, tiny_config, monkeypatch, server=deaf)
    with fake.running() as thread:
        assert eventually(lambda: fake.up.phase == "running")
        fake.up.stop()
        assert eventually(lambda: "server stopping" in fake.order)
        assert thread.is_alive()
        began = time.monotonic()
        fake.up.stop()
        thread.join(20)
        assert time.monotonic() - began < 4, "its grace is 5 s"
    assert fake.fault is None


def test_what_no_start_could_mend_is_said_before(tiny_config, tmp_path):
    second = tmp_path / "second.yaml"
    second.write_text(tiny_config.read_text().replace("name: tiny", "name: other"))
    both = [Model(path, load(path)) for path in (tiny_config, second)]
    with pytest.raises(StackFault, match=r"serving\.port, got \d+ in .*tiny.yaml and .*second"):
        check(both)
    with pytest.raises(StackFault, match="their name, got tiny"):
        check([both[0], Model(second, both[0].config)])
    assert place.place_of([m.config for m in both]).folder == tmp_path / "runs" / "_up"
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", both[0].config.serving.port))
        busy.listen()
        with pytest.raises(StackFault, match=r"for tiny is taken: .*serving\.port in .*tiny.yaml"):
            check_ports(both[:1])


def test_the_plan_keeps_its_ports_and_hides_passwords(tiny_config, monkeypatch):
    model = Model(tiny_config, load(tiny_config))
    where = place.place_of([model.config])

    def laid(**wishes) -> Plan:
        return plan(where, [model], Wishes(**wishes), lambda _: None)

    first = laid()
    keys = [[p.key for p in stage] for stage in first.stages]
    assert keys == [["mlflow", "prefect"], ["server", "runner"]]
    assert first.api == f"http://127.0.0.1:{where.ports()['prefect']}/api"
    assert laid().api == first.api
    other = free_port()
    moved = laid(prefect_port=other, evidently=True)
    assert moved.api == f"http://127.0.0.1:{other}/api"
    assert [p.key for p in moved.stages[1]] == ["server", "runner", "evidently"]
    assert laid().api == moved.api, "and so it is kept"
    assert "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" not in moved.parts[0].server.env
    bare = laid(mlflow=False)
    assert [p.key for p in bare.parts] == ["prefect", "server", "runner"]
    monkeypatch.setenv("EVERFIT_WEBHOOK_SECRET", "s" * 32)
    assert list(jobs.webhooks(bare)) == []
    hooked = laid()
    keys = [p.parts[0].server.env["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] for p in (hooked, laid())]
    assert len(base64.urlsafe_b64decode(keys[0])) == 32
    assert keys[0] == keys[1], "what was stored with it is read with it after a restart"
    (job,) = jobs.webhooks(hooked)
    assert job.arguments[0] == "webhook"
    assert f"http://127.0.0.1:{model.config.serving.port}/hooks/mlflow" in job.arguments
    assert "s" * 32 not in " ".join(job.arguments)
    commands = " ".join(" ".join(p.server.command) for p in moved.parts)
    assert model.config.registry_url not in commands, "it may have a password in it"
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{other}/api")
    with pytest.raises(StackFault, match="which does not answer"):
        laid()


def test_what_runs_detached_is_what_was_asked_for(tiny_config, tmp_path):
    from click.testing import CliRunner

    from deployments.commands import up

    model = Model(tiny_config, load(tiny_config))
    asked = {"prefect_port": 4201, "postgres": "postgresql://me@db", "evidently": True}
    for home in (None, tmp_path / "home"):
        where = place.place_of([model.config], home)
        given = detached.arguments(where, [model], Wishes(**asked, train=True, mlflow=False))
        with up.command.make_context("up", given[1:]) as context:
            found = context.params
        assert {k: found[k] for k in asked} == asked
        assert (found["train"], found["mlflow"], found["silent"]) == (True, False, True)
        assert found["configs"] == (tiny_config,)
        assert found["home"] == home
    refused = CliRunner().invoke(up.command, [str(tiny_config), "--postgres", "postgresql://a:b@c"])
    assert refused.exit_code == 1
    assert "set PGPASSWORD" in refused.output
    assert ":b@" not in refused.output


def test_a_log_that_has_grown_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(part, "LARGEST_LOG", 3)
    (tmp_path / "page.log").write_text("long")
    page = made(tmp_path)
    page.start()
    assert eventually(lambda: page.state.state == "healthy")
    page.stop()
    assert (tmp_path / "page.log.1").read_text() == "long"
