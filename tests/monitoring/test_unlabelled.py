from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from monitoring.errors import WindowFault
from monitoring.expectation import expected, wander
from monitoring.importance import importance_weights
from monitoring.records import Kind, Signal, to_dict
from monitoring.rules import Threshold
from monitoring.unlabelled import estimate_performance, estimate_signals, track_record

COLUMNS = {"x": "number", "colour": "category"}


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def stack(p: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - p, p])


def world(rows: int, seed: int, *, mean: float = 0.0, side: float = 0.0, turn: float = 0.0):
    """Rows, the model's probabilities, the labels. The model overlooks `side`: where it is high,
    its odds are too large; `turn` changes the labels of like rows, a concept drift."""
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1.0, rows)
    z = rng.normal(side, 1.0, rows)
    odds = 2.5 * x
    truth = sigmoid(odds * np.clip(1 - 0.5 * z, 0, 1.2) + turn)
    codes = (rng.random(rows) < truth).astype(np.int64)
    return np.column_stack([x, z]), stack(sigmoid(odds)), codes


def realised(proba: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    return expected(np.eye(proba.shape[1])[codes], proba)


def frame(rows: int, seed: int, *, mean: float = 0.0, label: bool = True) -> pd.DataFrame:
    points, proba, codes = world(rows, seed, mean=mean)
    made = pd.DataFrame({"x": points[:, 0], "proba": list(proba)})
    made["colour"] = np.where(points[:, 1] > 0, "red", "blue")
    if label:
        made["label"] = np.array(["no", "yes"], dtype=object)[codes]
    return made


def signals(reference, current, thresholds=(), baseline=None, **options) -> dict[str, Signal]:
    found = estimate_signals(
        reference, current, COLUMNS, ["no", "yes"], thresholds, baseline or {}, **options
    )
    return {s.name: s for s in found}


def test_expected_metrics_are_exact() -> None:
    p = stack(np.array([0.9, 0.6, 0.2]))
    q = stack(np.array([0.8, 0.5, 0.3]))
    found = expected(q, p)
    assert found["accuracy"] == pytest.approx((0.8 + 0.5 + 0.7) / 3)
    assert found["error"] == pytest.approx(1 - found["accuracy"])
    losses = -(q * np.log(p)).sum(axis=1)
    assert found["log_loss"] == pytest.approx(losses.mean())
    # pairs (positive above negative), each pair by the product of its shares; ties of a row half
    up, down = np.array([0.8, 0.5, 0.3]), np.array([0.2, 0.5, 0.7])
    won = sum(
        up[i] * down[j] * (1.0 if p[i, 1] > p[j, 1] else 0.5 if i == j else 0.0)
        for i in range(3)
        for j in range(3)
    )
    assert found["roc_auc"] == pytest.approx(won / (up.sum() * down.sum()))


def test_expected_area_of_known_labels_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 300).round(2)
    p /= p.sum(axis=1, keepdims=True)
    codes = rng.integers(0, 3, 300)
    assert realised(p, codes)["roc_auc"] == pytest.approx(
        roc_auc_score(codes, p, multi_class="ovr"), abs=1e-9
    )


def test_estimates_are_right_when_the_rows_become_harder() -> None:
    """The mean of x moves towards the boundary, P(label | x) stays: accuracy falls, unseen."""
    _, proba, codes = world(4_000, 0, mean=1.5)
    _, current, truth = world(4_000, 1, mean=0.0)
    found = estimate_performance(proba, codes, current).metrics
    before, after = realised(proba, codes), realised(current, truth)
    assert before["accuracy"] - after["accuracy"] > 0.08
    for metric, figure in found.items():
        assert abs(figure.value - after[metric]) < 0.3 * abs(before[metric] - after[metric]) + 0.02
        assert figure.low <= figure.value <= figure.high


def test_weights_take_off_the_bias_that_plain_estimates_have() -> None:
    """The fault lies along a column that the score does not show, and that column moves."""
    points, proba, codes = world(4_000, 0)
    gaps = []
    for seed in range(1, 4):
        there, current, truth = world(3_000, seed, side=0.6)
        plain = estimate_performance(proba, codes, current, resamples=50)
        weighed = estimate_performance(proba, codes, current, points=(points, there), resamples=50)
        real = realised(current, truth)["log_loss"]
        assert weighed.weights.share > 0.9
        assert weighed.weights.effective >= 0.49 * len(codes)
        gaps.append(
            (
                abs(plain.metrics["log_loss"].value - real),
                abs(weighed.metrics["log_loss"].value - real),
            )
        )
    plain_gap, weighed_gap = np.mean(gaps, axis=0)
    assert weighed_gap < 0.6 * plain_gap


def test_no_weighting_without_shift_or_overlap_or_fault() -> None:
    points, proba, codes = world(1_000, 0)
    gap = codes - proba[:, 1]
    variance = proba[:, 1] * proba[:, 0]
    same = importance_weights(points, world(1_000, 1)[0], gap, variance)
    far = importance_weights(points, points + 20.0, gap, variance)
    constant = importance_weights(np.ones((50, 3)), np.ones((40, 3)), gap[:50], variance[:50])
    rng = np.random.default_rng(0)
    fair = rng.random(1_000)
    faultless = (rng.random(1_000) < fair) - fair
    moved = importance_weights(points, world(1_000, 1, side=1.0)[0], faultless, fair * (1 - fair))
    for weights, why in ((same, ""), (far, "overlap"), (constant, "varies"), (moved, "faults")):
        np.testing.assert_array_equal(weights.values, 1.0)
        assert weights.share == 0
        assert weights.effective == pytest.approx(len(weights.values))
        assert why in weights.reason
    assert same.auc < 0.56
    assert far.auc > 0.99


def test_weights_know_the_true_ratio() -> None:
    """Two normals 0.6 deviations apart: the log ratio is linear in the column."""
    rng = np.random.default_rng(0)
    reference, current = rng.normal(0, 1, (4_000, 2)), rng.normal([0.6, 0], 1, (4_000, 2))
    gap = np.sign(reference[:, 0]) * 0.4
    found = importance_weights(reference, current, gap, np.full(4_000, 0.25))
    assert found.share == 1
    ratio = np.exp(0.6 * reference[:, 0])
    assert np.corrcoef(np.log(found.values), np.log(ratio))[0, 1] > 0.95
    assert np.average(reference[:, 0], weights=found.values) == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize("shifted", [False, True])
def test_intervals_hold_what_they_promise(shifted: bool) -> None:
    held, widths = np.zeros(3), 0.0
    runs = 60
    for run in range(runs):
        _, proba, codes = world(500, 3 * run, mean=0.7)
        _, current, truth = world(300, 3 * run + 1, mean=0.2 if shifted else 0.7)
        found = estimate_performance(proba, codes, current, seed=run, resamples=150).metrics
        real = realised(current, truth)
        widths += found["accuracy"].high - found["accuracy"].low
        held += [
            found[m].low <= real[m] <= found[m].high for m in ("accuracy", "log_loss", "roc_auc")
        ]
    assert (held / runs >= 0.85).all()  # nominal 0.95; four deviations of 60 runs below
    assert widths / runs < 0.15  # 300 rows alone make 0.09


def test_a_concept_drift_is_not_seen_and_the_signal_says_so() -> None:
    _, proba, codes = world(2_000, 0)
    _, current, truth = world(2_000, 1, turn=3.0)
    found = estimate_performance(proba, codes, current).metrics["accuracy"]
    assert found.value - realised(current, truth)["accuracy"] > 0.1
    assert (
        "concept drift"
        in signals(frame(500, 0), frame(500, 1))["estimated_accuracy"].detail["blind"]
    )


def test_calibration_that_wanders_between_stretches_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1.5, 2_000)
    push = np.repeat(rng.normal(0, 1.0, 10), 200)
    current = stack(sigmoid(rng.normal(0, 1.5, 1_000)))
    steady = (rng.random(2_000) < sigmoid(odds)).astype(np.int64)
    restless = (rng.random(2_000) < sigmoid(odds + push)).astype(np.int64)
    q = stack(sigmoid(odds))
    assert wander(q, steady)[0] < 0.3
    assert 0.5 < wander(q, restless)[0] < 1.7
    shuffled = rng.permutation(2_000)
    assert wander(q[shuffled], restless[shuffled])[0] < 0.3
    widths = []
    for codes in (steady, restless):
        figure = estimate_performance(q, codes, current).metrics["accuracy"]
        widths.append(figure.high - figure.low)
    assert widths[1] > 1.5 * widths[0]


def test_three_classes() -> None:
    rng = np.random.default_rng(0)

    def drawn(rows: int, spread: float):
        odds = rng.normal(0, spread, (rows, 3))
        truth = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        codes = np.minimum((rng.random((rows, 1)) > truth.cumsum(axis=1)).sum(axis=1), 2)
        given = np.exp(2 * odds) / np.exp(2 * odds).sum(axis=1, keepdims=True)
        return given, codes

    proba, codes = drawn(3_000, 2.0)
    current, truth = drawn(3_000, 1.0)
    found, real = estimate_performance(proba, codes, current).metrics, realised(current, truth)
    assert realised(proba, codes)["accuracy"] - real["accuracy"] > 0.1
    for metric in ("accuracy", "error", "roc_auc"):
        assert found[metric].value == pytest.approx(real[metric], abs=0.03)
    assert found["log_loss"].value == pytest.approx(real["log_loss"], rel=0.05)


def test_the_same_seed_gives_the_same_answer_and_another_does_not() -> None:
    a, b = frame(400, 0), frame(400, 1, label=False)
    one, two, other = (signals(a, b, seed=s)["estimated_accuracy"] for s in (0, 0, 1))
    assert one == two
    assert (one.low, one.high) != (other.low, other.high)
    assert one.value == other.value


def test_signals_of_mixed_columns_are_held_against_thresholds() -> None:
    thresholds = [
        Threshold("accuracy", below=0.999),
        Threshold("error", above=0.9),
        Threshold("log_loss", worse_by=0.01),
        Threshold("calibration_gap", above=0.1),  # not one that can be estimated
    ]
    reference, current = frame(800, 0, mean=1.0), frame(800, 1, mean=0.0, label=False)
    reference.loc[::7, "x"] = np.nan
    current.loc[::5, "colour"] = None
    found = signals(reference, current, thresholds, {"log_loss": 0.1})
    assert set(found) == {f"estimated_{m}" for m in ("accuracy", "error", "log_loss", "roc_auc")}
    assert all(s.kind is Kind.ESTIMATE for s in found.values())
    assert found["estimated_accuracy"].breached is True
    assert found["estimated_error"].breached is False
    assert found["estimated_log_loss"].breached is True
    assert found["estimated_roc_auc"].breached is False
    detail = found["estimated_accuracy"].detail
    assert detail["reference"] == pytest.approx(
        ((np.stack(reference["proba"])[:, 1] > 0.5) == (reference["label"] == "yes")).mean()
    )
    assert 0 < detail["effective_rows"] <= 800
    assert detail["calibration"] == "mean"
    json.dumps(to_dict(found["estimated_accuracy"]), allow_nan=False)


def test_two_thresholds_on_one_metric_are_two_signals() -> None:
    found = signals(
        frame(300, 0),
        frame(300, 1),
        [Threshold("accuracy", below=0.1), Threshold("accuracy", below=0.99)],
    )
    assert found["estimated_accuracy"].breached is False
    assert found["estimated_accuracy-2"].breached is True


def test_worse_by_without_a_figure_from_the_gate_is_unknown() -> None:
    found = signals(frame(300, 0), frame(300, 1), [Threshold("accuracy", worse_by=0.1)])
    assert found["estimated_accuracy"].breached is None
    assert "gate" in found["estimated_accuracy"].reason


def test_too_little_data_is_a_result() -> None:
    good = frame(300, 0)
    one_class = good.assign(label="yes")
    cases = [
        (good[:20], good, "20 labelled reference rows; at least 200"),
        (good, good[:3], "3 current rows"),
        (good[:0], good, "0 labelled reference rows"),
        (good.assign(label=None), good, "0 labelled reference rows"),
        (one_class, good, "one class"),
    ]
    for reference, current, why in cases:
        found = signals(reference, current, [Threshold("accuracy", below=0.5)])
        for signal in found.values():
            assert signal.breached is None
            assert signal.value is None
            assert why in signal.reason


def test_rows_that_cannot_be_read_are_set_aside() -> None:
    reference, current = frame(400, 0), frame(400, 1)
    reference.at[0, "label"] = "maybe"
    reference.at[1, "label"] = None  # not a fault: it has not come
    reference.at[2, "proba"] = [0.5, np.nan]
    current.at[0, "proba"] = None
    current.at[1, "proba"] = [0.2, 0.3, 0.5]
    found = signals(reference, current)["estimated_accuracy"]
    assert found.detail["set_aside"] == {"reference": 2, "current": 2}
    assert found.detail["reference_rows"] == 397
    assert found.rows == 398


def test_constant_and_absent_columns_do_no_harm() -> None:
    reference, current = frame(300, 0).assign(x=1.0), frame(300, 1).assign(x=5.0)
    assert signals(reference, current)["estimated_accuracy"].value is not None
    found = signals(reference, current.drop(columns=["x"]))["estimated_accuracy"]
    assert found.detail["columns_left_out"] == ["x"]
    alone = signals(reference[["label", "proba"]], current[["proba"]])["estimated_accuracy"]
    assert alone.value is not None
    assert alone.detail["weighting"]["share"] == 0


def test_missing_label_or_probabilities_are_a_fault() -> None:
    good = frame(300, 0)
    with pytest.raises(WindowFault, match=r"reference rows.*label"):
        signals(good.drop(columns="label"), good)
    with pytest.raises(WindowFault, match=r"current rows.*proba"):
        signals(good, good.drop(columns="proba"))


def test_two_thousand_rows_a_side_take_less_than_a_second() -> None:
    reference, current = frame(2_000, 0), frame(2_000, 1)
    signals(reference[:300], current[:300])  # loads scipy
    started = time.process_time()
    signals(reference, current)
    assert time.process_time() - started < 1.5  # 0.3 s on a quiet core


def told(value: float, low: float, high: float, rows: int = 100) -> Signal:
    return Signal(
        "estimated_accuracy", Kind.ESTIMATE, False, value=value, low=low, high=high, rows=rows
    )


def was(value: float, rows: int = 100) -> Signal:
    return Signal("accuracy", Kind.PERFORMANCE, False, value=value, rows=rows)


def test_the_track_record_counts_what_held() -> None:
    estimates = {str(i): [told(0.8, 0.75, 0.85)] for i in range(20)}
    good = {str(i): [was(0.78 if i % 2 else 0.82)] for i in range(20)}
    found = track_record(estimates, good)
    assert found.name == "estimate_error"
    assert found.kind is Kind.ESTIMATE
    assert found.breached is False
    assert found.value == pytest.approx(0.02)
    assert found.detail["bias"] == pytest.approx(0.0)
    assert found.detail["held"] == 1.0
    bad = {str(i): [was(0.6 if i % 2 else 0.82)] for i in range(20)}
    wrong = track_record(estimates, bad)
    assert wrong.breached is True
    assert wrong.detail["held"] == pytest.approx(0.5)
    assert "10 of 20" in wrong.reason


def test_the_track_record_waits_for_labels() -> None:
    estimates = {str(i): [told(0.8, 0.75, 0.85)] for i in range(20)}
    few = {str(i): [was(0.8)] for i in range(3)}
    young = {str(i): [was(0.8, rows=30)] for i in range(20)}
    for known, windows in ((few, 3), (young, 0), ({}, 0)):
        found = track_record(estimates, known)
        assert found.breached is None
        assert found.detail["windows"] == windows
    with pytest.raises(WindowFault, match="a metric is one of"):
        track_record(estimates, few, metric="f1")
