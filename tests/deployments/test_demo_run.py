"""The demo's own folder and config, and the whole loop once on a few made flights."""

from __future__ import annotations

import asyncio
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from deployments.demo import flights as fl
from deployments.demo import run
from deployments.demo.client import DemoFault
from deployments.demo.world import between
from tasks.config import load

# Limits for 60 flights a day, and a retrain that comes by age at the latest.
SMALL = {
    "window": "3d",
    "minimum_rows": "30",
    "minimum_labels": "50",
    "minimum_new_labels": "50",
    "cooldown": "3d",
    "maximum_age": "4d",
    "rows": "150\n  minimum_rows: 50",
}

START = fl.YEAR_STARTS + fl.FIRST_DAYS * fl.DAY


def made_flights(days, per_day=60, seed=0):
    """Flights of which wind makes some late; after the first four weeks visibility does."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    minutes = np.sort(rng.integers(0, days * 1440, n))
    rows = pd.DataFrame({"id": [f"f{i}" for i in range(n)]})
    rows["time"] = pd.Timestamp(fl.YEAR_STARTS) + pd.to_timedelta(minutes, unit="min")
    for name in fl.CATEGORIES:
        rows[name] = pd.Categorical(rng.choice(["a", "b", "c"], n))
    for name in fl.NUMBERS:
        rows[name] = rng.normal(size=n).astype("float32")
    moved = rows["time"] >= pd.Timestamp(START)
    odds = np.where(moved, 2 - 3 * rows["visib"], 3 * rows["wind_speed"] - 1)
    late = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)
    cancelled = rng.random(n) < 0.05
    rows["late"] = np.where(cancelled, np.nan, late)
    rows["arrived"] = rows["time"] + pd.to_timedelta(rng.integers(30, 300, n), unit="min")
    rows.loc[cancelled, "arrived"] = pd.NaT
    return rows


@pytest.mark.parametrize("quick", [False, True])
def test_the_config_it_writes_is_valid_and_names_every_input(tmp_path, quick):
    path = run.write_inputs(fl.WORLD, made_flights(30), tmp_path, 8123, seed=5, quick=quick)
    config = load(path)
    assert set(config.data.columns) == set(fl.INPUTS)
    kinds = {name for name, kind in config.data.columns.items() if kind == "category"}
    assert kinds == set(fl.CATEGORIES)
    assert config.serving.port == 8123
    assert config.train.seed == 5
    assert config.folder == tmp_path
    assert (config.train.families == ["logistic"]) is quick
    table = pd.read_parquet(config.data.source)
    assert table["time"].max() < pd.Timestamp(START)
    assert set(table["late"]) == {0, 1}


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DemoFault, match=r"something else.*--runs"), run._folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_earlier_demos_folder_is_written_anew_but_not_under_a_running_one(tmp_path):
    with run._folder(tmp_path):
        (tmp_path / "telemetry.db").write_text("old")
        (tmp_path / "reports").mkdir()
        with pytest.raises(DemoFault, match="one runs there"), run._folder(tmp_path):
            pass
        assert (tmp_path / "telemetry.db").exists()
    with run._folder(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [run.MARK]


def test_less_than_a_week_is_refused():
    with pytest.raises(DemoFault, match="at least one week, got 0"):
        run.demo(weeks=0)


@pytest.mark.prefect
@pytest.mark.timeout(300)
def test_the_loop_closes_on_made_flights(tmp_path, free_port):
    """Served over HTTP, watched daily, retrained, and the next answers are the new version's."""
    from deployments.stack import inference_server

    rows, runs, out = made_flights(37), tmp_path / "demo", io.StringIO()
    console = Console(file=out, width=100)
    with run._folder(runs):
        path = run.write_inputs(fl.WORLD, rows, runs, free_port, seed=0, quick=True)
        path.write_text(run.changed(path.read_text(encoding="utf-8"), SMALL), encoding="utf-8")
        with inference_server(path, free_port):
            story = asyncio.run(run._loop(fl.WORLD, path, rows, 9, 0, console, time.monotonic()))
        table = run.publish(story, runs, tmp_path / "table.json", console)
    served = between(rows, START, START + 9 * fl.DAY)
    assert table["replayed"]["rows"] == len(served)
    assert table["replayed"]["rows_never_labelled"] == served["late"].isna().sum()
    assert table["replayed"]["rows_scored"] == served["late"].notna().sum()
    assert len(story.checks) == 9
    assert story.weekly_retrains == 1
    passed = [r for r in story.retrains if r.passed]
    assert passed
    after = [c for c in story.checks if c.day > passed[0].day]
    assert {c.version for c in after} >= {passed[0].version}
    loss = {name: row["log_loss"] for name, row in table["table"].items()}
    assert loss["everfit"] < loss["frozen"]
    assert json.loads((tmp_path / "table.json").read_text()) == json.loads(
        (runs / "replay.json").read_text()
    )
    assert (runs / "report.html").exists()
    assert (runs / "report.png").exists()
    said = out.getvalue()
    assert "retrain 1" in said
    assert "everfit ui" in said
