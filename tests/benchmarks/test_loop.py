"""The loop's benchmark on tiny streams: its parts, and one replay that must come out as it must."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from models.errors import DataFault
from models.metrics import per_row_log_loss
from tests.benchmarks import bench_loop
from tests.benchmarks.loop import score, settings, streams
from tests.benchmarks.loop.adwin import Adwin
from tests.benchmarks.loop.drawing import smoothed
from tests.benchmarks.loop.entries import Attempt, Log
from tests.benchmarks.loop.learner import Learner, retrain


def steps(seed: int = 0, rows: int = 4_000) -> np.ndarray:
    """Errors of which a tenth, then four tenths are 1."""
    rng = np.random.default_rng(seed)
    return (rng.random(rows) < np.where(np.arange(rows) < rows // 2, 0.1, 0.4)).astype(float)


def test_adwin_forgets_what_was_before_a_shift() -> None:
    window = Adwin()
    cuts = [i for i, value in enumerate(steps()) if window.update(value)]
    assert cuts
    assert window.rises
    assert 2_000 < cuts[0] < 2_300
    assert window.mean == pytest.approx(0.4, abs=0.05)
    assert window.width < 2_200


def test_adwin_is_silent_where_nothing_moves_and_counts_right() -> None:
    values = (np.random.default_rng(2).random(5_000) < 0.2).astype(float)
    window = Adwin()
    assert window.feed(values) == 0
    assert window.width == 5_000
    assert window.mean == pytest.approx(values.mean())
    spread = values.var() * len(values)
    assert window._spread == pytest.approx(spread)


def test_adwin_cuts_where_river_does() -> None:
    drift = pytest.importorskip("river.drift")
    for seed in range(5):
        ours, theirs = Adwin(), drift.ADWIN()
        for value in steps(seed):
            cut = ours.update(value)
            theirs.update(value)
            assert cut == theirs.drift_detected
            assert ours.width == theirs.width
            assert ours.mean == pytest.approx(theirs.estimation)
            if cut:
                break  # river's window starts afresh after a cut
        assert cut


def test_a_stream_is_cut_into_blocks_that_hold_every_row_once() -> None:
    stream = streams.synthetic("abrupt", rows=3_050, block=100)
    assert stream.edges[0] == 300
    assert stream.edges[-1] == 3_050
    sizes = np.diff(stream.edges)
    assert (sizes[:-1] == 100).all()
    assert 50 <= sizes[-1] < 150
    assert stream.span == timedelta(days=1)
    assert stream.frame[streams.TIME].is_monotonic_increasing
    assert len(stream.shifts) == 2


def test_a_files_own_clock_orders_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rng = np.random.default_rng(0)
    when = pd.date_range("2021-01-01", periods=900, freq="h", tz="UTC")
    frame = pd.DataFrame(
        {
            "at": when,
            "a": rng.normal(size=900),
            "b": rng.choice(["x", "y", None], 900),
            "c": rng.choice(["p", "q", "r"], 900),
        }
    )
    frame.loc[5, "c"] = None  # no label: left out
    frame.sample(frac=1, random_state=1).to_csv(path, index=False)
    stream = streams.from_file(path, "c", time="at", block=48)
    assert len(stream.y) == 899
    assert stream.frame[streams.TIME].is_monotonic_increasing
    assert stream.span == timedelta(hours=48)
    assert stream.schema.classes == ("p", "q", "r")


def test_too_short_a_stream_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataFault, match="smaller --block"):
        streams.synthetic("still", rows=1_000, block=300)


def test_rules_come_from_the_block_and_the_base_rates() -> None:
    small = streams.synthetic("still", rows=3_000, block=50)
    plan = settings.plan(small, "performance-first", settings.Search())
    assert plan.rules.rule_set == "performance-first"
    assert plan.rules.maximum_age is None
    assert plan.rules.cooldown == 2.5 * small.span
    assert plan.gate.rows == 200
    assert plan.gate.margin == pytest.approx(-0.0693, abs=0.002)  # a tenth of ln 2, nearly
    aged = settings.plan(small, "default", settings.Search(), age=True)
    assert aged.rules.maximum_age == 20 * small.span


def test_the_share_of_the_gain_is_one_for_a_copy_of_the_schedule() -> None:
    stream = streams.synthetic("still", rows=3_000, block=100)
    rng = np.random.default_rng(0)

    def log(right: float, retrains: int) -> Log:
        p = np.clip(right + 0.1 * rng.random(len(stream.y)), 0.01, 0.99)
        proba = np.where(stream.y == 1, p, 1 - p)
        attempts = [Attempt(i, True, ("x",)) for i in range(retrains)]
        return Log(np.stack([1 - proba, proba], axis=1), attempts)

    logs = {"frozen": log(0.5, 0), "every block": log(0.7, 26)}
    copy = logs["every block"]
    logs["everfit"] = Log(copy.proba, copy.attempts[:5])
    logs["worse"] = log(0.4, 3)
    rows = {
        r["entry"]: r for r in score.table(stream, logs, frozen="frozen", schedule="every block")
    }
    assert rows["everfit"]["gain_share"] == pytest.approx(1.0)
    assert rows["everfit"]["gain_low"] == pytest.approx(1.0)
    assert rows["everfit"]["retrain_share"] == pytest.approx(5 / 26)
    assert rows["worse"]["gain_high"] < 0
    assert rows["frozen"]["gain_share"] == 0
    start = int(stream.edges[0])
    whole = per_row_log_loss(stream.y[start:], logs["frozen"].proba[start:]).mean()
    assert rows["frozen"]["log_loss"] == pytest.approx(whole)
    moving = replace(stream, truth="")
    assert "reaches the aim" in score.verdicts(list(rows.values()), "every block", moving)[0]
    still = score.verdicts(list(rows.values()), "every block", stream)[0]
    assert "5 retrains; nothing moves here" in still


def test_no_share_where_the_schedule_gains_nothing() -> None:
    assert score._share(np.ones(5), -np.ones(5), 0.95) == (None, None, None)
    value, low, high = score._share(np.ones(3), np.array([1.0, -1.0, 2.0]), 0.95)
    assert (value, low, high) == (1.0, None, None)


def test_smoothing_keeps_constants_and_length() -> None:
    assert smoothed(np.ones(7)) == pytest.approx(np.ones(7))
    assert len(smoothed(np.arange(3.0))) == 3


def test_texts_are_learnt_by_a_family_that_reads_them(tmp_path: Path) -> None:
    """The mails of the demo, cut, looked for, fitted and proven; the numbers beside them count."""
    stream = streams.demo("spam")
    assert stream.schema.texts == ("subject", "body")
    assert stream.block == 100
    search = settings.Search(trials=1).of(stream)
    assert search.families == ("tfidf",)
    assert settings.Search().of(streams.synthetic("still", rows=1_000, block=80)).families == (
        "hgb",
        "logistic",
    )
    learner = Learner(stream.schema, tmp_path, search, seed=0)
    frame = stream.rows(1_100, 1_500)
    gate = settings.plan(stream, "default", search).gate
    made = retrain(learner, frame, None, None, gate, frame[streams.TIME].iloc[-1])
    assert made.verdict.passed
    assert made.model is not None
    later = stream.rows(1_500, 1_700)
    loss = per_row_log_loss(stream.y[1_500:1_700], made.model.predict(later, stream.schema)).mean()
    assert loss < 0.35
    nothing = later.assign(subject=None, body=None)
    blind = per_row_log_loss(stream.y[1_500:1_700], made.model.predict(nothing, stream.schema))
    assert blind.mean() > loss + 0.1


@pytest.mark.timeout(120)
def test_everfit_answers_an_abrupt_shift_and_says_why(tmp_path: Path) -> None:
    out, picture = tmp_path / "loop.json", tmp_path / "loop.png"
    arguments = ["--synthetic", "abrupt", "--rows", "2400", "--block", "180", "--trials", "2",
                 "--warm-trials", "1", "--json", str(out), "--png", str(picture)]  # fmt: skip
    result = CliRunner().invoke(bench_loop.command, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    table = {row["entry"]: row for row in found["table"]}
    assert table["frozen"]["retrains"] == 0
    assert table["every block"]["retrains"] == found["blocks"] - 1
    for name in ("everfit", "everfit, performance-first"):
        first = found["retrains"][name][0]
        assert first["block"] >= found["shifts"][0]  # nothing moved before
        assert any("recency_gain" in why or "log_loss" in why for why in first["why"])
        assert table[name]["log_loss"] < table["frozen"]["log_loss"]
    assert picture.stat().st_size > 10_000
    assert "why" in result.output


def test_without_data_the_command_says_what_it_wants() -> None:
    result = CliRunner().invoke(bench_loop.command, [])
    assert result.exit_code == 2
    assert "--data FILE and --target COL" in result.output
