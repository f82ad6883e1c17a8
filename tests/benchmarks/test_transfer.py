"""The benchmark of transfer on a tiny table: its pairs, its figures, and what they must come to."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from tests.benchmarks import bench_transfer
from tests.benchmarks.transfer import score


def record(pair: str, seed: int, *, apart: float, here: float, there: float) -> dict:
    one = {"value": there, "low": there - 0.02, "high": there + 0.02}
    return {
        "pair": pair, "seed": seed, "source": {"value": here}, "target": {"value": there},
        "own": {"value": 0.9}, "off": 0.01,
        "foretold": {
            "accuracy": {**one, "value": there + 0.01}, "calibrated": one, "agreement": None
        },
        "apart": {"mmd": apart, "effect": apart**2, "a_distance": 2 * apart},
        "adapted": [{"way": "self", "measured": {"value": there + 0.05},
                     "gain": {"value": 0.05}, "reverse": {"value": 0.02, "low": 0.01}}],
    }  # fmt: skip


def test_a_distance_that_tells_the_drop_is_correlated_with_it() -> None:
    records = [
        record(f"{i}", seed, apart=0.1 * i, here=0.9, there=0.9 - 0.05 * i)
        for i in range(1, 6)
        for seed in range(2)
    ]
    found = {row["distance"]: row for row in score.correlations(records)}
    assert found["MMD"]["drop to target-trained"].startswith("1.00 (1.00 to")
    assert found["effect of the MMD"]["drop from source, ranks"] == 1.0
    assert score.correlations(records[:4]) == []  # two pairs
    table = score.table(records)
    assert [row["pair"] for row in table] == ["1", "2", "3", "4", "5", "all pairs"]
    assert table[0]["source only"] == "85.0 ± 0.0"
    assert table[-1]["self"] == "80.0 ± 0.0"
    honest = {row["estimate"]: row for row in score.honesty(records)}
    assert honest["foretold"]["interval held"] == "10 of 10"
    assert honest["'as on the source'"]["bias"] == pytest.approx(15.0)
    assert "agreement alone" not in honest
    chosen = {row["way"]: row for row in score.chosen(records)}
    assert chosen["self"]["better in"] == chosen["self"]["studies"] == 10
    assert chosen["best by reverse validation"]["gain"] == "5.0 ± 0.0"


def test_every_ordered_pair_of_a_table_is_studied(tmp_path) -> None:
    rng = np.random.default_rng(0)
    n = 800
    far = np.arange(n) % 2
    x = rng.normal(size=(n, 2)) + far[:, None]
    late = x[:, 0] + rng.normal(0, 0.5, n) > 0.5
    frame = pd.DataFrame({"where": np.where(far, "far", "near"), "x": x[:, 0], "z": x[:, 1]})
    frame.assign(late=late.astype(int)).to_csv(tmp_path / "t.csv", index=False)
    args = ["--data", tmp_path / "t.csv", "--target", "late", "--by", "where", "--way", "weights",
            "--seeds", 1, "--permutations", 19, "--json", tmp_path / "out.json"]  # fmt: skip
    found = CliRunner().invoke(bench_transfer.command, [*map(str, args)])
    assert found.exit_code == 0, found.output
    small = [*map(str, args), "--family", "logistic", "--small", "units"]
    assert "textnet can be made small, got logistic" in (
        CliRunner().invoke(bench_transfer.command, small).output
    )
    records = json.loads((tmp_path / "out.json").read_text())
    assert [one["pair"] for one in records] == ["far to near", "near to far"]
    assert all(one["target"]["value"] > 0.7 for one in records)
    assert all(one["own"]["value"] > 0.7 for one in records)
    assert all(0.5 < one["apart"]["a_distance"] < 2 for one in records)
