"""Realised performance, latency and labels: intervals, directions, and what cannot be said."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from monitoring.errors import WindowFault
from monitoring.estimates import bootstrap, quantile_bounds, wilson
from monitoring.performance import label_signal, latency_signals, performance_signals
from monitoring.records import Kind, to_dict
from monitoring.rules import Rules, Threshold

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def predictions(rows=1_000, strength=1.0, classes=(0, 1), seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(classes), rows)
    scores = rng.normal(size=(rows, len(classes)))
    scores[np.arange(rows), codes] += strength
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = [classes[code] for code in codes]
    return pd.DataFrame({"label": pd.Series(labels, dtype=object), "proba": list(proba.tolist())})


def one(frame, threshold, baseline=None, classes=(0, 1), **options):
    found = performance_signals(frame, classes, (threshold,), baseline or {}, **options)
    return found[0]


@pytest.mark.parametrize("classes", [(0, 1), ("no", "yes"), (False, True), ("a", "b", "c")])
def test_figures_agree_with_scikit_learn(classes):
    frame = predictions(classes=classes)
    thresholds = tuple(
        Threshold(metric, above=9.0) for metric in ("accuracy", "error", "log_loss", "roc_auc")
    )
    found = {s.name: s for s in performance_signals(frame, classes, thresholds, {})}
    proba = np.array(frame["proba"].tolist())
    codes = np.array([classes.index(label) for label in frame["label"]])
    area = (
        roc_auc_score(codes, proba[:, 1])
        if len(classes) == 2
        else roc_auc_score(codes, proba, multi_class="ovr")
    )
    right = (proba.argmax(axis=1) == codes).mean()
    assert found["accuracy"].value == pytest.approx(right)
    assert found["error"].value == pytest.approx(1 - right)
    assert found["log_loss"].value == pytest.approx(log_loss(codes, proba))
    assert found["roc_auc"].value == pytest.approx(area)
    for signal in found.values():
        assert signal.low < signal.value < signal.high
        assert signal.high - signal.low < 0.2
        assert signal.breached is False
        assert signal.kind is Kind.PERFORMANCE
        json.dumps(to_dict(signal))


def test_tied_scores_count_half():
    codes = np.array([0, 1] * 50)
    proba = np.full((100, 2), 0.5)
    proba[:20] = [0.3, 0.7]
    found = bootstrap(proba, codes, ["roc_auc"], confidence=0.9, seed=0, resamples=50)
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(codes, proba[:, 1]))


def test_the_bootstrap_interval_covers_the_truth():
    rng, covered = np.random.default_rng(7), 0
    truth = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    for repetition in range(200):
        codes = (rng.random(300) < 0.8).astype(np.int64)
        proba = np.tile([0.2, 0.8], (300, 1))
        found = bootstrap(
            proba, codes, ["log_loss"], confidence=0.9, seed=repetition, resamples=400
        )["log_loss"]
        covered += found.low <= truth <= found.high
    assert 165 <= covered <= 194


def test_resampling_in_pieces_changes_nothing(monkeypatch):
    frame = predictions(400)
    proba, codes = np.array(frame["proba"].tolist()), frame["label"].to_numpy(dtype=np.int64)
    options = {"confidence": 0.9, "seed": 3, "resamples": 101}
    whole = bootstrap(proba, codes, ["log_loss", "roc_auc"], **options)
    monkeypatch.setattr("monitoring.resampling._CELLS", 4_000)
    pieces = bootstrap(proba, codes, ["log_loss", "roc_auc"], **options)
    for metric, found in whole.items():
        assert pieces[metric] == pytest.approx(found)


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    frame, limit = predictions(), Threshold("log_loss", above=1.0)
    assert one(frame, limit, seed=1) == one(frame, limit, seed=1)
    assert one(frame, limit, seed=1).low != one(frame, limit, seed=2).low


def test_only_a_whole_interval_beyond_the_threshold_breaches():
    frame = predictions()
    free = one(frame, Threshold("accuracy", below=0.0))
    inside, outside = (free.value + free.high) / 2, free.high + 0.01
    assert one(frame, Threshold("accuracy", below=inside)).breached is False
    breached = one(frame, Threshold("accuracy", below=outside))
    assert breached.breached is True
    assert breached.threshold == f"accuracy < {outside:g}"
    assert one(frame, Threshold("log_loss", above=0.1)).breached is True
    assert one(frame, Threshold("error", above=1 - free.low)).breached is False


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("accuracy", 0.5, 0.95), ("roc_auc", 0.5, 0.99), ("log_loss", 0.9, 0.1), ("error", 0.6, 0.0)],
)
def test_worse_by_knows_the_direction(metric, better, worse):
    limit = Threshold(metric, worse_by=0.05)
    assert one(predictions(), limit, {metric: better}).breached is False
    found = one(predictions(), limit, {metric: worse})
    assert found.breached is True
    assert found.detail["beyond"] == "worse_by"
    assert found.detail["baseline"] == worse


def test_worse_by_without_a_figure_from_the_gate_cannot_say():
    found = one(predictions(), Threshold("log_loss", worse_by=0.05))
    assert found.breached is None
    assert found.reason == "the gate left no figure for log_loss to compare with"
    either = one(predictions(), Threshold("log_loss", worse_by=0.05, above=0.1))
    assert either.breached is True


def test_too_few_labels_is_an_answer_of_its_own():
    frame = predictions(300)
    frame.loc[100:, "label"] = None
    found = one(frame, Threshold("accuracy", below=0.99), minimum_labels=200)
    assert found.breached is None
    assert found.rows == 100
    assert found.reason == "100 labelled rows; at least 200 are needed"
    old = one(frame, Threshold("accuracy", below=0.99), label_delay=timedelta(days=30))
    assert old.reason == "100 labelled rows asked for 30d ago or earlier; at least 200 are needed"
    assert one(frame, Threshold("accuracy", below=0.99), minimum_labels=100).breached is True


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_single_row_windows(rows):
    found = performance_signals(predictions(5).head(rows), (0, 1), (), {}, minimum_labels=2)
    assert [s.breached for s in found] == [None]


def test_log_loss_is_told_even_without_a_threshold():
    found = performance_signals(predictions(), (0, 1), (Threshold("error", above=0.9),), {})
    assert [s.name for s in found] == ["error", "log_loss"]
    assert found[1].threshold == ""
    assert found[1].breached is False
    assert found[1].value is not None


def test_two_thresholds_on_one_metric_are_two_signals():
    limits = (Threshold("log_loss", above=9.0), Threshold("log_loss", worse_by=9.0))
    found = performance_signals(predictions(), (0, 1), limits, {"log_loss": 0.5})
    assert [s.name for s in found] == ["log_loss", "log_loss-2"]
    assert found[0].low == found[1].low


def test_a_window_of_one_class_has_no_roc_auc():
    frame = predictions()
    frame["label"] = 1
    found = performance_signals(frame, (0, 1), (Threshold("roc_auc", below=0.5),), {})
    assert found[0].breached is None
    assert "all of one class" in found[0].reason
    assert found[1].value is not None


def test_rows_that_cannot_be_read_are_set_aside_and_counted():
    frame = predictions(500)
    frame.loc[0, "label"] = 7
    frame.at[1, "proba"] = [0.5, 0.25, 0.25]
    frame.at[2, "proba"] = [float("nan"), 0.5]
    frame.at[3, "proba"] = None
    frame.loc[4, "label"] = float("nan")
    found = one(frame, Threshold("accuracy", below=0.1))
    assert found.rows == 495
    assert found.detail["set_aside"] == 4


def test_labels_that_came_as_text_are_understood():
    frame = predictions(500)
    text = frame.assign(label=frame["label"].astype(str))
    limit = Threshold("accuracy", below=0.1)
    assert one(text, limit) == one(frame, limit)


def test_certain_and_wrong_is_costly_but_finite():
    frame = pd.DataFrame({"label": [1] * 300, "proba": [[1.0, 0.0]] * 300})
    found = performance_signals(frame, (0, 1), (), {})[0]
    assert found.value == pytest.approx(-np.log(1e-12))


def test_a_frame_without_its_columns_is_refused():
    with pytest.raises(WindowFault, match="columns label and proba"):
        performance_signals(pd.DataFrame({"label": [1]}), (0, 1), (), {})


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (10, 10), (1, 10), (50, 100), (1, 100_000)])
def test_wilson_stays_within_its_range(right, rows):
    found = wilson(right, rows, 0.95)
    assert 0 <= found.low <= found.value <= found.high <= 1
    if (right, rows) == (50, 100):  # Agresti and Coull 1998
        assert (found.low, found.high) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_quantile_bounds_hold_their_level():
    rng, missed = np.random.default_rng(0), [0, 0]
    truth = -np.log(0.05)
    for _ in range(600):
        found = quantile_bounds(rng.exponential(size=200), 0.95, 0.9)
        missed[0] += found.low > truth
        missed[1] += found.high is not None and found.high < truth
    assert max(missed) <= 45  # 5 % of 600 is 30; the bounds are conservative
    assert sum(missed) >= 10


def test_latency_speaks_through_its_bound():
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 100.0, size=500)  # p95 about 474
    limits = (Threshold("latency_p95_ms", above=300.0), Threshold("accuracy", below=0.5))
    (found,) = latency_signals(values, limits)
    assert found.kind is Kind.LATENCY
    assert found.breached is True
    assert found.low < found.value < found.high
    (close,) = latency_signals(values, (Threshold("latency_p95_ms", above=found.low + 1),))
    assert close.breached is False


def test_latency_of_few_rows_cannot_say():
    (found,) = latency_signals([900.0] * 10 + [float("nan")] * 50)
    assert found.breached is None
    assert found.reason == "10 latencies; at least 30 are needed"
    (bounded,) = latency_signals([900.0] * 40, (Threshold("latency_p95_ms", above=500.0),))
    assert bounded.breached is True  # a lower bound needs few rows
    assert bounded.high is None
    with pytest.raises(WindowFault, match="one value a row"):
        latency_signals(np.zeros((50, 2)))


def test_labels_signal_carries_what_the_policy_reads():
    found = label_signal(0.4, 250, 1_000, NOW - timedelta(days=2), NOW, Rules(), rows=100)
    assert (found.name, found.kind, found.breached, found.value) == (
        "labels", Kind.LABELS, False, 0.4,
    )  # fmt: skip
    assert found.detail == {
        "new_labels": 250,
        "trained_rows": 1_000,
        "growth": 0.25,
        "silent_for_seconds": 172_800.0,
    }
    assert found.low < 0.4 < found.high


def test_silent_labels_breach():
    found = label_signal(0.0, 0, 1_000, NOW - timedelta(days=8), NOW, Rules())
    assert found.breached is True
    assert found.reason == "no label for 8 days; at most 7 days are allowed"
    never = label_signal(0.0, 0, 0, None, NOW, Rules())
    assert (never.breached, never.reason) == (None, "no label has ever come")
    assert never.detail["growth"] is None
    unwatched = label_signal(0.0, 0, 0, None, NOW, Rules(label_silence=None))
    assert unwatched.breached is False


def test_low_coverage_breaches_its_threshold():
    limit = (Threshold("label_coverage", below=0.5),)
    args = (100, 1_000, NOW, NOW, Rules())
    assert label_signal(0.2, *args, rows=500, thresholds=limit).breached is True
    assert label_signal(0.48, *args, rows=500, thresholds=limit).breached is False
    assert label_signal(0.0, *args, rows=0, thresholds=limit).breached is False


def test_the_calibration_gap_is_the_distance_between_mean_and_rate():
    rng = np.random.default_rng(0)
    late = rng.random(4_000) < 0.30
    frame = pd.DataFrame({"label": late.astype(int), "proba": [(0.8, 0.2)] * 4_000})
    (signal, _) = performance_signals(
        frame, (0, 1), (Threshold("calibration_gap", above=0.07),), {}, minimum_labels=100
    )
    assert signal.value == pytest.approx(late.mean() - 0.2)
    assert signal.low < signal.value < signal.high
    assert signal.breached
    (fine, _) = performance_signals(
        frame, (0, 1), (Threshold("calibration_gap", above=0.1),), {}, minimum_labels=100
    )
    assert fine.breached is False  # 0.1 lies inside the interval
