"""Reports kept in an Evidently workspace: one run a window, whoever writes it and how often."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.reports import WorkspaceRun, drift_report, kit
from monitoring.reports.workspace import project_page

AT = datetime(2013, 2, 1, tzinfo=UTC)
COLUMNS = {"wind": "number", "carrier": "category"}


def frame(rows=400, seed=0, shift=0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"wind": rng.normal(shift, 1, rows), "carrier": rng.choice(["AA", "UA"], rows)}
    )


def run(workspace: Path, window="w1", project="flights", **options) -> WorkspaceRun:
    return WorkspaceRun(workspace, project, window, **{"at": AT, "decision": "retrain", **options})


def report(place: WorkspaceRun | None, shift=2.0, **options):
    return drift_report(frame(seed=9), frame(shift=shift), COLUMNS, run=place, **options)


def everything(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "runs" / "evidently"


def opened(workspace: Path):
    """Evidently's own way of reading it."""
    with kit.quiet():
        from evidently.ui.workspace import Workspace

        return Workspace(str(workspace))


def test_only_the_newest_runs_are_kept(workspace):
    places = [run(workspace, f"w{i}", most=2) for i in range(4)]
    other = run(workspace, "w0", project="weather", most=2)
    found = report(other)
    for number, place in enumerate(places):
        found = report(place)
        os.utime(place.path, ns=(number, number))
    assert found.detail["workspace_run"] == str(places[-1].path)
    assert [place.path.exists() for place in places] == [False, False, True, True]
    assert other.path.exists()
    shelf = opened(workspace)
    assert len(shelf.list_runs(places[0].project_id)) == 2
    again = report(places[0])  # a window that was dropped and is checked again comes back
    assert places[0].path.exists()
    assert "workspace_fault" not in again.detail


def test_an_alarm_is_kept_as_evidently_reads_it(workspace):
    found = report(run(workspace))
    assert found.detail["workspace_run"] == str(run(workspace).path)
    shelf = opened(workspace)
    (project,) = shelf.list_projects()
    assert project.name == "flights"
    (kept,) = shelf.list_runs(project.id)
    snapshot = shelf.get_run(project.id, kept)
    assert snapshot.timestamp == AT
    assert snapshot.tags == ["w1", "retrain"]
    assert snapshot.metadata == {
        "window": "w1",
        "model": "flights",
        "decision": "retrain",
        "drifted": "1 of 2 columns",
    }
    shown = {r.display_name: getattr(r, "value", None) for r in snapshot.metric_results.values()}
    scores = [value for name, value in shown.items() if "wind" in name]
    assert scores == [found.detail["columns"]["wind"]["p_value"]]
    titles = [panel.title for panel in shelf.get_dashboard(project.id).panels]
    assert "Share of drifted columns" in titles


def test_no_alarm_keeps_nothing_unless_asked(workspace):
    quiet = report(run(workspace), shift=0.0)
    assert quiet.breached is False
    assert "workspace_run" not in quiet.detail
    assert not workspace.exists()
    report(run(workspace), shift=0.0, always_html=True)
    assert run(workspace).path.exists()


def test_a_window_checked_again_adds_nothing(workspace, tmp_path):
    report(run(workspace))
    before = everything(tmp_path)
    again = report(run(workspace, decision="keep", at=AT + timedelta(hours=1)), shift=3.0)
    assert again.detail["workspace_run"] == str(run(workspace).path)
    assert everything(tmp_path) == before


def test_windows_and_models_have_runs_and_projects_of_their_own(workspace):
    report(run(workspace))
    report(run(workspace, "w2"))
    report(run(workspace, project="hotels"))
    shelf = opened(workspace)
    kept = {p.name: len(shelf.list_runs(p.id)) for p in shelf.list_projects()}
    assert kept == {"flights": 2, "hotels": 1}


def test_a_dashboard_that_was_changed_by_hand_stays(workspace):
    report(run(workspace))
    dashboard = run(workspace).path.parent.parent / "dashboard.json"
    dashboard.write_text('{"tabs": [], "panels": []}')
    report(run(workspace, "w2"))
    assert json.loads(dashboard.read_text()) == {"tabs": [], "panels": []}


def test_html_and_workspace_show_one_drawing(workspace, tmp_path, monkeypatch):
    drawn, draw = [], kit.draw
    monkeypatch.setattr(kit, "draw", lambda *a, **b: drawn.append(draw(*a, **b)) or drawn[-1])
    found = report(run(workspace), html=tmp_path / "w1.html")
    assert {"html", "workspace_run"} <= set(found.detail)
    assert len(drawn) == 1


def test_a_workspace_that_cannot_be_written_silences_nothing(tmp_path, caplog):
    (tmp_path / "runs").write_text("a file where a folder should be")
    found = report(run(tmp_path / "runs" / "evidently"), html=tmp_path / "w1.html")
    assert found.breached is True
    assert found.detail["workspace_fault"]
    assert "workspace_run" not in found.detail
    assert (tmp_path / "w1.html").exists()
    assert "was not kept in the workspace" in caplog.text


def test_a_page_that_cannot_be_written_is_kept_all_the_same(workspace, tmp_path):
    (tmp_path / "blocked").write_text("")
    found = report(run(workspace), html=tmp_path / "blocked" / "w1.html")
    assert found.detail["html_fault"]
    assert run(workspace).path.exists()


def test_what_is_half_written_is_not_there(workspace, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    report(run(workspace, "w0"))
    before = everything(tmp_path)
    with kit.quiet():
        from evidently.core.report import Snapshot
    monkeypatch.setattr(Snapshot, "to_snapshot_model", fail)
    found = report(run(workspace))
    assert found.detail["workspace_fault"] == "OSError: no space left on device"
    assert everything(tmp_path) == before
    assert [p.name for p in workspace.parent.iterdir()] == ["evidently"]


def test_times_are_kept_in_utc(workspace):
    east = AT.astimezone(timezone(timedelta(hours=9)))
    assert run(workspace, at=east).labels()["at"].isoformat() == "2013-02-01T00:00:00+00:00"


def test_the_page_of_a_model_is_known_once_it_has_reports(workspace):
    assert project_page(workspace, "flights") == ""
    report(run(workspace))
    project = run(workspace).project_id
    assert project_page(workspace, "flights") == f"projects/{project}/reports"
    assert project_page(workspace, "hotels") == ""


# In processes of their own, which wait for each other before they write.
WRITER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np, pandas as pd
from monitoring.reports import WorkspaceRun, drift_report, kit
workspace, me = Path(sys.argv[1]), Path(sys.argv[2])
def frame(shift):
    return pd.DataFrame({"wind": np.random.default_rng(0).normal(shift, 1, 400)})
kit._evidently()
me.touch()
while len(list(me.parent.iterdir())) < 2:
    time.sleep(0.001)
for window in ("w1", "w2", "w3"):
    run = WorkspaceRun(workspace, "flights", window, datetime(2013, 2, 1, tzinfo=UTC))
    found = drift_report(frame(0), frame(2), {"wind": "number"}, run=run)
    assert "workspace_run" in found.detail, found.detail
"""


@pytest.mark.timeout(120)
def test_two_processes_write_one_run_a_window(workspace, tmp_path):
    (tmp_path / "ready").mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WRITER, workspace, tmp_path / "ready" / name],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        for name in "ab"
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=100)
        assert writer.returncode == 0, said
    shelf = opened(workspace)
    (project,) = shelf.list_projects()
    names = sorted(shelf.get_run(project.id, kept).name for kept in shelf.list_runs(project.id))
    assert names == ["w1", "w2", "w3"]
    assert [p.name for p in workspace.parent.iterdir()] == ["evidently"]
