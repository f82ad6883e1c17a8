"""What a trial fits on and is scored on, and what a resumed search believes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from models.search.controller import Controller
from models.space import Float, Space
from tasks import tune
from tasks.config import load
from tasks.records import Snapshot
from tasks.rows import TIME


def snapshot(config, folder, rows=1_000) -> Snapshot:
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "hour": np.arange(rows, dtype=float),
            TIME: pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"),
        }
    )
    found = Snapshot(folder, rows, 0, "digest")
    frame.to_parquet(found.training)
    return found


def narrowed(config, **changes):
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def test_trials_are_scored_on_the_newest_share(tiny_config, tmp_path):
    config = load(tiny_config)
    earlier, newest = tune._split(config, snapshot(config, tmp_path / "s"))
    assert (len(earlier), len(newest)) == (800, 200)
    assert earlier["hour"].max() < newest["hour"].min()
    assert TIME not in earlier


def test_a_large_table_is_sampled_from_all_of_both_parts(tiny_config, tmp_path):
    config = narrowed(load(tiny_config), trial_rows=100)
    rows = snapshot(config, tmp_path / "s")
    earlier, newest = tune._split(config, rows)
    assert (len(earlier), len(newest)) == (100, 50)
    assert earlier["hour"].min() < 100
    assert earlier["hour"].max() < 800 <= newest["hour"].min()
    assert newest["hour"].max() - newest["hour"].min() > 150  # not the last few rows only
    again, _ = tune._split(config, rows)
    assert earlier.equals(again)


def test_a_resumed_search_keeps_whole_trials_and_drops_a_torn_line(tmp_path):
    journal = tmp_path / "trials.jsonl"
    line = {
        "number": 0,
        "params": {"x": 0.5},
        "status": "complete",
        "loss": 0.3,
        "seconds": 0.1,
        "seed": 0,
        "metrics": {},
        "error": "",
        "fidelity": 1.0,
        "curve": [],
    }
    journal.write_text(json.dumps(line) + "\n" + '{"number": 1, "par', encoding="utf-8")
    controller = Controller(Space((Float("x", 0.0, 1.0),)), seed=0)
    trials = tune._replay(journal, controller)
    assert [t.loss for t in trials] == [0.3]
    assert len(controller.history) == 1
    assert journal.read_text(encoding="utf-8") == json.dumps(line) + "\n"
