"""`everfit rollback`: answers change first, the registry follows; `everfit rollout` steps."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from deployments import cli, schedule
from deployments.commands import rollback as rollback_command
from deployments.commands import rollout as rollout_command
from deployments.serving.app import create_app
from models.errors import RegistryFault
from models.registry_stages import Staged
from monitoring.rollout import Move, Step
from tasks import places, undo
from tasks.config import load

AT = datetime(2024, 5, 1, tzinfo=UTC).isoformat()
ROW = {"hour": 7, "wind": 1.0, "carrier": "UA"}


@contextmanager
def no_page(*_args):
    yield


@pytest.fixture
def served(serving, serving_config, serving_alias, serving_double, monkeypatch):
    """A server whose version 2 bakes, and its config's path with the server's port."""
    alias = serving_alias(version="2", before="1")
    alias.models["2"] = serving_double(bias=9.0)
    alias.stages["2"] = Staged("bake", 0, 0.0, AT, AT, "1", "w2")
    config = serving_config(poll_seconds=30)
    app = create_app(config, registry=lambda: alias, load=alias.load)
    monkeypatch.setattr(rollback_command, "prefect", no_page)
    told = []

    async def page(*args, **named):
        told.append((args[1:], named))

    monkeypatch.setattr("flows.rollout.rollback", page)
    with serving(app) as client:
        deadline = time.monotonic() + 10
        while app.state.service.slots.previous is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield SimpleNamespace(
            alias=alias,
            client=client,
            path=config.folder.parents[1] / "tiny.yaml",
            folder=config.folder / "serving",
            told=told,
            port=client.base_url.port,
        )


def answers(served):
    body = served.client.post("/invocations", json={"dataframe_records": [ROW]}).json()
    return body["model_version"]


def test_the_answers_change_before_the_registry_is_opened(served, monkeypatch):
    seen = []

    def rollback(*, decision_id, who, why, now):
        seen.append((answers(served), why, undo.read(served.folder).decision_id == decision_id))
        served.alias.version, served.alias.before = "1", None
        return SimpleNamespace(version="1", tags={"promoted_at": "2024-05-01T12:00:00+00:00"})

    monkeypatch.setattr(places, "registry", lambda _config: SimpleNamespace(rollback=rollback))
    assert answers(served) == "2"
    began = time.monotonic()
    result = CliRunner().invoke(
        cli.main, ["rollback", str(served.path), "--port", str(served.port), "--why", "it errs"]
    )
    assert result.exit_code == 0, result.output
    assert time.monotonic() - began < 2.0
    assert seen == [("1", "it errs", True)]
    assert "version 1 answers after 0." in result.output
    assert "version 1 is the champion again" in result.output
    assert undo.read(served.folder) is None
    assert answers(served) == "1"
    ((args, named),) = served.told
    assert args[0] == "it errs"
    assert named["decision_id"].startswith("rollback-")


def test_a_roll_back_that_the_registry_refuses_leaves_no_note(served, monkeypatch):
    def rollback(**_):
        raise RegistryFault("a roll-back needs an earlier champion: retrain")

    monkeypatch.setattr(places, "registry", lambda _config: SimpleNamespace(rollback=rollback))
    result = CliRunner().invoke(
        cli.main, ["rollback", str(served.path), "--port", str(served.port)]
    )
    assert result.exit_code == 1
    assert "needs an earlier champion" in result.output
    assert undo.read(served.folder) is None
    deadline = time.monotonic() + 5
    while answers(served) != "2":  # the registry is right
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_served_folder_is_that_of_the_config(tiny_config, tmp_path):
    assert rollback_command.served_folder(tiny_config, None) == load(tiny_config).folder / "serving"
    given = load(tiny_config, runs=str(tmp_path / "x")).folder / "serving"
    assert rollback_command.served_folder(tiny_config, tmp_path / "x") == given
    assert rollback_command.served_folder(tmp_path / "gone.yaml", None) is None


def test_rollout_steps_follows_and_tells(tiny_config, monkeypatch):
    steps = [
        Step(Move.WAIT, ("shadow lasts until noon",)),
        Step(Move.PROMOTE, ("all is fine",)),
        Step(Move.DONE, ("it has baked",)),
        None,
    ]

    async def advance(config, now):
        return steps.pop(0)

    monkeypatch.setattr(rollout_command, "prefect", no_page)
    monkeypatch.setattr("flows.rollout.advance", advance)
    monkeypatch.setattr(rollout_command.time, "sleep", lambda _seconds: None)

    def run(*flags):
        return CliRunner().invoke(cli.main, ["rollout", str(tiny_config), *flags])

    assert run().output == "wait\n  shadow lasts until noon\n"
    assert run("--follow", "5").output == "promote\n  all is fine\ndone\n  it has baked\n"
    assert run().output == "no roll-out is under way\n"
    assert "exclude each other" in run("--stop", "--no-act").output
    assert run("--no-act").output == "no roll-out is under way\n"


def test_the_schedule_takes_the_steps_between_its_checks(tiny_config, monkeypatch):
    looks, taken = [], []

    class Stop:
        def wait(self, _seconds):
            return len(looks) == 3

    def under_way(_config):
        looks.append(1)
        if len(looks) == 2:
            raise RegistryFault("no answer")
        return True

    async def advance(_config):
        taken.append(len(looks))

    monkeypatch.setattr("tasks.standing.under_way", under_way)
    monkeypatch.setattr("flows.rollout.advance", advance)
    schedule.roll_all_on([load(tiny_config)], Stop())
    assert taken == [1, 3]
