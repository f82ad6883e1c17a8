"""The schedule is a runner that knows the checks of one model alone."""

from __future__ import annotations

import contextlib
import threading

from click.testing import CliRunner

from deployments import cli, schedule
from tasks.config import load


def test_the_schedule_has_the_configs_cron_and_the_commands_flags(tiny_config, monkeypatch):
    from deployments import definitions

    begun = []
    monkeypatch.setattr("deployments.runner.run", begun.append)
    config = load(tiny_config, schedule__cron="*/5 * * * *", serving__port=8101)
    schedule.run_schedule(config, tiny_config, act=False)
    (runner,) = begun
    assert runner.only == {"watch"}
    (model,) = runner.models
    defined = definitions.definitions(model, act=runner.act, elsewhere=runner.elsewhere)["watch"]
    assert defined["schedules"][0]["cron"] == "*/5 * * * *"
    assert defined["schedules"][0]["timezone"] == "UTC"
    assert defined["parameters"] == {
        "config": {"file": str(tiny_config), "runs": str(config.folder), "port": 8101},
        "act": False,
        "elsewhere": False,
    }


def test_a_roll_out_whose_step_fails_holds_up_no_other(tiny_config, monkeypatch):
    stop, asked = threading.Event(), []
    config = load(tiny_config)
    other = config.model_copy(update={"name": "other"})

    def under_way(config):
        asked.append(config.name)
        if config.name == "other":
            stop.set()
            return False
        raise ConnectionError("the registry is down")

    monkeypatch.setattr("tasks.standing.under_way", under_way)
    schedule.roll_all_on([config, other], stop, every=0.01)
    assert asked == ["tiny", "other"]


def test_a_schedule_has_no_fixed_time(tiny_config):
    result = CliRunner().invoke(
        cli.main, ["watch", str(tiny_config), "--schedule", "--now", "2013-01-01"]
    )
    assert result.exit_code == 2
    assert "leave out --now" in result.output


def test_a_registry_that_nobody_has_written_to_is_not_opened_again(tiny_config, monkeypatch):
    stop, asked = threading.Event(), []
    config = load(tiny_config)
    config.folder.mkdir(parents=True)
    file = config.folder / "mlflow.db"
    file.write_bytes(b"")
    turns = iter([None, None, lambda: file.write_bytes(b"x"), None, stop.set])
    going = iter([False, True, False])  # a roll-out that is under way is looked at in each turn

    def wait(every):
        if (act := next(turns)) is not None:
            act()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", wait)
    monkeypatch.setattr(schedule, "roll_on", lambda one: (asked.append(one.name), next(going))[1])
    schedule.roll_all_on([config], stop)
    assert asked == ["tiny"] * 3
    served = config.model_copy(
        update={"engines": config.engines.model_copy(update={"registry": "http://mlflow:5000"})}
    )
    assert schedule.stamp(config) != schedule.stamp(served) is None


def test_several_models_are_checked_beside_their_retrains(tiny_config, monkeypatch):
    begun = []
    monkeypatch.setattr("deployments.runner.run", begun.append)
    monkeypatch.setattr(
        "deployments.commands.watch.prefect", lambda config: contextlib.nullcontext()
    )
    other = tiny_config.with_name("other.yaml")
    other.write_text(tiny_config.read_text().replace("name: tiny", "name: other"))
    both = [str(tiny_config), str(other)]
    result = CliRunner().invoke(cli.main, ["watch", *both, "--schedule"])
    assert result.exit_code == 0, result.output
    (runner,) = begun
    assert [model.name for model in runner.models] == ["tiny", "other"]
    assert runner.only == {"watch", "retrain"}
    assert runner.elsewhere
    for wrong in ([*both], [*both, "--schedule", "--port", "8100"], [both[0], *both, "--schedule"]):
        assert CliRunner().invoke(cli.main, ["watch", *wrong]).exit_code != 0
