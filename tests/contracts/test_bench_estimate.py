from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import bench_estimate
from tests.benchmarks.estimate.trials import Cut, stream, table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=1_600)
    rows = pd.DataFrame(
        {"x": x, "colour": rng.choice(["red", "blue"], 1_600), "date": range(1_600)}
    )
    rows["target"] = np.where(rng.random(1_600) < 1 / (1 + np.exp(-2 * x)), "up", "down")
    path = tmp_path / "mine.csv"
    rows.to_csv(path, index=False)
    return path


def test_rows_keep_their_order_and_no_model_meets_what_it_is_judged_on(file: Path) -> None:
    trials = list(stream(str(file), Cut(500, 300, 200), trials=2))
    assert [len(t.windows) for t in trials] == [2, 2]
    x = pd.read_csv(file)["x"].to_numpy()
    first, second = trials
    assert "date" not in first.columns  # it numbers the rows
    np.testing.assert_array_equal(first.reference.frame["x"], x[500:800])
    np.testing.assert_array_equal(first.windows[0].frame["x"], x[800:1_000])
    np.testing.assert_array_equal(second.reference.frame["x"], x[900:1_200])
    np.testing.assert_array_equal(second.windows[-1].frame["x"], x[1_400:1_600])


def test_a_tilt_moves_one_column_and_shares_no_row(file: Path) -> None:
    found = {t.name.split()[1]: t for t in table(str(file), repeats=1)}
    gaps = {}
    for name, trial in found.items():
        reference, window = (r.frame["x"].to_numpy() for r in (trial.reference, trial.windows[0]))
        assert not np.intersect1d(reference, window).size
        gaps[name] = abs(reference.mean() - window.mean())
    assert gaps["still"] < 0.2 < gaps["tilted"] < gaps["steep"]


def test_a_peer_that_is_missing_is_said(file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EVERFIT_PEERS", "")
    rows = bench_estimate.run(
        streams=[str(file)], train=500, reference=300, window=300, peers=str(tmp_path / "none")
    )
    methods = {row["method"]: row for row in rows}
    assert methods["everfit"]["accuracy"] < 10
    assert methods["everfit"]["windows"] == 2
    assert methods["nannyml CBPE"]["accuracy"] is None
    assert "everfit bench peers nannyml" in methods["nannyml CBPE"]["s a window"]
