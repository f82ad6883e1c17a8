"""The schedule is Prefect's; what it is given, and what is left out, is ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from deployments import cli, schedule
from tasks.config import load


def test_the_schedule_gets_the_configs_cron_and_the_commands_flags(tiny_config, monkeypatch):
    seen = {}
    monkeypatch.setattr(schedule.scheduled_check, "serve", lambda **options: seen.update(options))
    config = load(tiny_config, schedule__cron="*/5 * * * *")
    schedule.run_schedule(config, tiny_config, act=False)
    assert seen["schedule"].cron == "*/5 * * * *"
    assert seen["schedule"].timezone == "UTC"
    assert seen["global_limit"].limit == 1
    assert seen["parameters"] == {
        "config_path": str(tiny_config),
        "runs": str(config.folder),
        "port": config.serving.port,
        "act": False,
    }


def test_a_check_that_is_long_overdue_is_left_out():
    now = datetime(2013, 2, 1, 12, tzinfo=UTC)
    assert not schedule.late(None, now)
    assert not schedule.late(now - schedule.LATEST_START, now)
    assert schedule.late(now - schedule.LATEST_START - timedelta(seconds=1), now)


@pytest.mark.prefect
async def test_a_scheduled_check_says_what_was_decided(tiny_config, monkeypatch):
    from types import SimpleNamespace

    seen = []

    async def watch(config, act):
        seen.append((config.name, config.folder, config.serving.port, act))
        return SimpleNamespace(action=SimpleNamespace(value="keep"), reasons=("quiet", "young"))

    monkeypatch.setattr("flows.watch.watch", watch)
    runs = tiny_config.parent / "elsewhere"
    state = await schedule.scheduled_check(str(tiny_config), str(runs), 8101, return_state=True)
    assert state.is_completed()
    assert state.message == "keep: quiet; young"
    assert seen == [("tiny", runs, 8101, True)]
    monkeypatch.setattr(schedule, "late", lambda due, now: True)
    state = await schedule.scheduled_check(str(tiny_config), str(runs), 8101, return_state=True)
    assert state.is_cancelled()
    assert len(seen) == 1


def test_a_schedule_has_no_fixed_time(tiny_config):
    result = CliRunner().invoke(
        cli.main, ["watch", str(tiny_config), "--schedule", "--now", "2013-01-01"]
    )
    assert result.exit_code == 2
    assert "leave out --now" in result.output
