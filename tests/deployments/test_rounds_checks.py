"""What a warm process does for one model."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from deployments.rounds import checks
from monitoring.news import News
from tasks.config import load
from tasks.steps import is_sparing

NOW = datetime(2013, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def did(tiny_config, monkeypatch):
    """What was called for a model whose last look and claims are as given."""
    called = []

    class Flow:
        def __init__(self, name):
            self.name = name

        def with_options(self, on_running):
            self.hook = on_running[0]
            return self

        async def __call__(self, config, **options):
            called.append((self.name, options.get("act"), options["elsewhere"], is_sparing()))
            if self.name == "watch":
                self.hook(None, SimpleNamespace(id="run-1"), None)
            return SimpleNamespace(action=SimpleNamespace(value="keep"), window_id="w")

    monkeypatch.setattr("flows.watch.watch", Flow("watch"))
    monkeypatch.setattr("flows.reconcile.reconcile", Flow("reconcile"))

    @contextlib.contextmanager
    def runner():
        import asyncio
        import contextvars

        with asyncio.Runner() as one:
            checks._life.append(checks._Life(one, contextvars.copy_context()))
            yield
            checks._life.clear()

    def run(last, interrupted=None, **job):
        called.clear()
        monkeypatch.setattr("monitoring.news.news", lambda database: last)
        monkeypatch.setattr("tasks.claims.interrupted", lambda config, now: interrupted)
        told = []
        with runner():
            done = checks.check({"config": str(tiny_config), "act": True} | job, told.append)
        return done["did"], list(called), told

    return run


def test_a_model_is_checked_when_something_has_come_or_broken_off(did):
    now = datetime.now(UTC)
    idle = News(now - timedelta(hours=1), "keep", now - timedelta(hours=5))
    assert did(idle) == ("skipped", [], [])
    checked = ("watch", True, True, True)  # it acts by events, and its steps are plain calls
    assert did(idle, skip=False) == ("checked", [checked], ["run-1"])
    assert did(News(idle.decided, "keep", now)) == ("checked", [checked], ["run-1"])
    # a retrain that was asked for may never have been heard of, one under way may be dead
    again = [("reconcile", None, True, True), checked]
    assert did(News(idle.decided, "retrain", idle.newest)) == ("checked", again, ["run-1"])
    assert did(idle, interrupted=SimpleNamespace())[1] == again
    assert did(idle, interrupted=SimpleNamespace(), act=False)[1] == [("watch", False, True, True)]


def test_the_model_of_a_broken_config_says_why(tmp_path):
    from tasks.config import ConfigFault

    with pytest.raises(ConfigFault, match=r"no config file at .*nowhere\.yaml"):
        checks.check({"config": str(tmp_path / "nowhere.yaml"), "act": True}, print)


def test_looking_opens_no_registry(tiny_config, monkeypatch):
    monkeypatch.setattr("tasks.places.registry", lambda config: pytest.fail("opened it"))
    assert checks.looked(load(tiny_config), NOW) == ("it was never checked", False)
