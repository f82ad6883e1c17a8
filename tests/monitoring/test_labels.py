"""How labels come in: delays without the bias of what has not come yet, and shifts of classes."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.errors import WindowFault
from monitoring.labels import delay_signal, label_signal, prior_signal
from monitoring.records import Kind, to_dict

NOW = datetime(2024, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def stream(rows=4_000, days=20, mean_hours=24.0, never=0.1, seed=0) -> pd.DataFrame:
    """Rows over the last `days`, with exponential delays; a label after NOW has not come."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(0, days * 24, rows)
    time = pd.DatetimeIndex([NOW] * rows) - pd.to_timedelta(ages, unit="h")
    arrived = time + pd.to_timedelta(rng.exponential(mean_hours, rows), unit="h")
    arrived = arrived.where(rng.random(rows) >= never)
    return pd.DataFrame({"time": time, "label_arrived": arrived.where(arrived <= NOW)})


def test_the_delays_of_a_growing_stream_are_not_biased_to_the_fast_ones():
    """The true median of an exponential of mean 24 h is 16.6 h, its 90th percentile 55.3 h."""
    frame = stream(days=6)
    found = delay_signal(frame, NOW, 5 * DAY)
    come = (frame["label_arrived"] - frame["time"]).dropna().dt.total_seconds() / 3_600
    assert come.median() < 15.0  # what all labels together would say
    within = 1 - np.exp(-5)  # of those that come, within the horizon
    truth = -24 * np.log(1 - 0.5 * within)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, rel=0.12)
    p90 = found.detail["p90"]
    assert p90["low"] < -24 * np.log(1 - 0.9 * within) < p90["high"]
    share = found.detail["within"]
    assert share["low"] < 0.9 * within < share["high"]
    assert (found.kind, found.breached) == (Kind.LABELS, False)
    json.dumps(to_dict(found))


def test_the_bounds_cover_the_median_whatever_the_age_of_the_rows():
    covered = 0
    truth = -24 * np.log(1 - 0.5 * (1 - np.exp(-3)))
    for seed in range(200):
        found = delay_signal(stream(400, days=8, seed=seed), NOW, 3 * DAY, confidence=0.9)
        covered += found.low <= truth <= found.high
    assert 0.85 <= covered / 200 <= 0.97


def test_a_longer_label_delay_than_configured_is_said():
    frame = stream(mean_hours=48)
    assert delay_signal(frame, NOW, 6 * DAY, label_delay=2 * DAY).breached is False
    found = delay_signal(frame, NOW, 6 * DAY, label_delay=1 * DAY)
    assert found.breached is True
    assert "raise it" in found.reason
    assert found.threshold == "median > 1 day"
    assert found.detail["on_time"] == pytest.approx(0.9 * (1 - np.exp(-0.5)), abs=0.04)


def test_delays_that_cannot_be_told():
    assert delay_signal(stream(days=2), NOW, 5 * DAY).breached is None
    empty = stream().iloc[:0]
    found = delay_signal(empty, NOW, DAY)
    assert (found.breached, found.rows) == (None, 0)
    assert "are needed" in found.reason
    never = stream(never=1.0)
    found = delay_signal(never, NOW, DAY)
    assert found.breached is None
    assert found.detail["within"]["value"] == 0
    with pytest.raises(WindowFault, match="label_arrived"):
        delay_signal(stream()[["time"]], NOW, DAY)
    with pytest.raises(WindowFault, match="positive"):
        delay_signal(stream(), NOW, timedelta(0))


def test_labels_that_come_at_once_have_no_delay():
    frame = stream(200)
    frame["label_arrived"] = frame["time"] - HOUR
    found = delay_signal(frame, NOW, DAY)
    assert (found.value, found.low, found.high) == (0, 0, 0)


# -- label prior --------------------------------------------------------------------------------


def drawn(n, shares, seed=0, classes=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    return [classes[c] for c in rng.choice(len(shares), n, p=shares)]


@pytest.mark.parametrize("shares", [(0.02, 0.98), (0.5, 0.3, 0.2)])
def test_the_level_and_the_interval_hold(shares):
    classes, alarms, covered, n = ("a", "b", "c")[: len(shares)], 0, 0, 400
    for seed in range(n):
        found = prior_signal(
            drawn(500, shares, 2 * seed),
            drawn(150, shares, 2 * seed + 1),
            classes,
            level=0.05,
        )
        alarms += found.breached
        covered += found.low <= 0 <= found.high
    assert alarms <= 31  # 5 % of 400 is 20, and this 2.5 deviations more
    assert covered >= 0.93 * n


def test_classes_that_come_true_more_often_alarm():
    found = prior_signal(drawn(2_000, (0.8, 0.2)), drawn(500, (0.6, 0.4), 1), ("a", "b"))
    assert found.breached is True
    assert found.detail["class"] == "b"
    assert found.low < 0.2 < found.high
    assert found.value == pytest.approx(0.2, abs=0.06)
    assert found.reason.startswith("label 'b': ")
    assert found.kind is Kind.LABELS
    json.dumps(to_dict(found))
    found = prior_signal(
        drawn(2_000, (0.5, 0.3, 0.2)), drawn(500, (0.3, 0.3, 0.4), 1), ("a", "b", "c")
    )
    assert found.breached is True
    assert found.detail["distance"] == pytest.approx(0.2, abs=0.05)
    assert found.detail["classes"][1]["p_value"] > 0.05


def test_labels_are_read_by_value_or_text_and_others_set_aside():
    old = [0, 1] * 100
    new = ["0", 1.0, None, float("nan"), "x"] * 60
    found = prior_signal(old, pd.Series(new, dtype=object), (0, 1))
    assert (found.rows, found.value, found.p_value) == (120, 0.0, 1.0)
    assert found.detail["set_aside"] == 60


def test_labels_that_come_in_bursts_are_worth_their_bursts():
    """Some hours everything is late; the reference is of many hours."""
    rng = np.random.default_rng(5)
    aware = naive = 0
    for _ in range(100):
        old = (rng.random(1_000) < 0.2).astype(int).tolist()
        new = np.repeat(rng.random(24) < 0.2, 40).astype(int).tolist()
        times = np.repeat(np.arange(24), 40)
        found = prior_signal(old, new, (0, 1), level=0.01, times=times)
        aware += found.breached
        naive += prior_signal(old, new, (0, 1), level=0.01).breached
        assert found.low <= found.value <= found.high
    assert naive >= 30
    assert aware <= 4
    late = (rng.random(960) < 0.5).astype(int)
    assert prior_signal(old, late, (0, 1), level=1e-5, times=times).breached is True
    with pytest.raises(WindowFault, match="from one frame"):
        prior_signal(old, late, (0, 1), times=times[1:])


def test_a_bad_day_is_no_shift_where_the_reference_has_bad_days():
    rng = np.random.default_rng(7)
    day = np.repeat(np.arange(30), 60)
    old_times = (day * 24 + rng.uniform(0, 24, 1_800)) * 3_600e9
    old = (rng.random(1_800) < rng.beta(2, 6, 30)[day]).astype(int)
    times = rng.uniform(0, 24, 500) * 3_600e9
    bad = (rng.random(500) < 0.55).astype(int)
    assert prior_signal(old, bad, (0, 1), times=times).breached is True
    fair = prior_signal(old, bad, (0, 1), times=times, reference_times=old_times)
    assert fair.breached is False
    assert fair.detail["design_effect"] > 20
    steady = (rng.random(1_800) < 0.25).astype(int)  # days that are all alike excuse nothing
    found = prior_signal(steady, bad, (0, 1), times=times, reference_times=old_times)
    assert found.breached is True


def test_few_labels_on_either_side_are_an_answer_of_their_own():
    for old, new in (([0] * 5, [1] * 500), ([0, 1] * 500, [1] * 5), ([], [])):
        found = prior_signal(old, new, (0, 1))
        assert found.breached is None
        assert "are needed" in found.reason


def test_a_floor_keeps_trifles_silent():
    old, new = [0] * 40_000 + [1] * 40_000, [0] * 38_800 + [1] * 41_200
    assert prior_signal(old, new, (0, 1)).breached is True
    assert prior_signal(old, new, (0, 1), floor=0.02).breached is False


def test_coverage_and_silence_are_still_to_be_had_here():
    from monitoring import performance

    assert label_signal is performance.label_signal
