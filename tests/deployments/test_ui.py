"""`everfit ui` names its pages, opens them, and ends when one of them has gone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from deployments import processes, stack
from deployments.commands import ui
from monitoring.reports.workspace import project_id
from tasks.config import load


@dataclass
class Page:
    url: str


@pytest.fixture
def servers(monkeypatch):
    """The three servers replaced by their addresses; returns what they were asked for."""
    asked = {}

    @contextmanager
    def prefect(home, port, *, hold):
        asked["prefect"] = (home, port, hold)
        yield "http://127.0.0.1:1/api"

    @contextmanager
    def mlflow(config, port):
        asked["mlflow"] = port
        yield Page("http://127.0.0.1:2")

    @contextmanager
    def evidently(workspace, log, port):
        asked["evidently"] = (workspace, port)
        yield Page("http://127.0.0.1:3")

    monkeypatch.setattr(stack, "prefect_server", prefect)
    monkeypatch.setattr(stack, "mlflow_server", mlflow)
    monkeypatch.setattr(stack, "evidently_server", evidently)
    return asked


@pytest.fixture
def folder(tiny_config):
    made = load(tiny_config).folder
    made.mkdir(parents=True)
    return made


def run(*args: object):
    return CliRunner().invoke(ui.command, [str(a) for a in args])


def stop(*_):
    raise KeyboardInterrupt


def test_every_page_is_named_and_opened(tiny_config, folder, servers, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(ui, "_open", opened.extend)
    monkeypatch.setattr(ui, "_stay", stop)
    result = run(tiny_config, "--evidently-port", 8123)
    assert result.exit_code == 0, result.output
    assert servers["evidently"] == (folder / "evidently", 8123)
    assert opened == [
        "http://127.0.0.1:1/runs", "http://127.0.0.1:2/#/models/tiny", "http://127.0.0.1:3/",
    ]  # fmt: skip
    assert all(url in result.output for url in opened)


def test_the_models_reports_are_shown_once_there_are_some(
    tiny_config, folder, servers, monkeypatch
):
    place = folder / "evidently" / str(project_id("tiny"))
    place.mkdir(parents=True)
    (place / "metadata.json").write_text("{}")
    monkeypatch.setattr(ui, "_open", pytest.fail)
    monkeypatch.setattr(ui, "_stay", stop)
    result = run(tiny_config, "--no-open")
    assert f"http://127.0.0.1:3/projects/{project_id('tiny')}/reports" in result.output


@pytest.mark.parametrize("gone", ["1/api/health", "2/health", "3/api/version"])
def test_a_page_that_has_gone_ends_it(tiny_config, folder, servers, monkeypatch, gone):
    monkeypatch.setattr(processes, "answers", lambda url: not url.endswith(gone))
    monkeypatch.setattr(ui.time, "sleep", lambda _: None)
    result = run(tiny_config, "--no-open")
    assert result.exit_code == 1
    assert "a page has gone" in result.output
