"""Errors, throughput and the model's answers: what is usual stays silent, what is not does not."""

import json
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.errors import WindowFault
from monitoring.records import Kind, RequestCount, to_dict
from monitoring.rules import Threshold
from monitoring.service import prediction_signal, service_signals

NOW = datetime(2024, 3, 6, 6, tzinfo=UTC)  # a Wednesday
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def measured(counts, history=(), thresholds=(), start=NOW - DAY, end=NOW, **options):
    found = service_signals(counts, history, thresholds, start=start, end=end, **options)
    for signal in found:
        assert signal.kind is Kind.SERVICE
        json.dumps(to_dict(signal))
    return {s.name: s for s in found}


def asked(requests, errors=0, at=NOW - HOUR, route="invocations", **figures):
    return RequestCount(at, route, "1", requests, requests, server_errors=errors, **figures)


def traffic(start, end, rate, seed=0, every=HOUR, day_off=1.0):
    """Poisson counts by hour: `rate` an hour by day, a tenth of it by night."""
    rng = np.random.default_rng(seed)
    found = []
    while start < end:
        level = rate * (1.0 if 6 <= start.hour < 22 else 0.1)
        level *= day_off if start.weekday() >= 5 else 1.0
        found.append(asked(int(rng.poisson(level)), at=start))
        start += every
    return found


# -- errors -------------------------------------------------------------------------------------


def test_errors_are_held_against_the_threshold_with_their_interval():
    limit = (Threshold("error_rate", above=0.01),)
    unlucky = measured([asked(100, 2)], thresholds=limit)["error_rate"]
    assert unlucky.value == pytest.approx(0.02)
    assert unlucky.low < 0.01 < unlucky.high
    assert unlucky.breached is False
    broken = measured([asked(1_000, 30)], thresholds=limit)["error_rate"]
    assert broken.breached is True
    assert broken.threshold == "error_rate > 0.01"
    assert broken.detail["beyond"] == "above"
    assert broken.detail["worst_minute"] == (NOW - HOUR).isoformat()


def test_faults_of_the_senders_and_labels_are_told_apart():
    counts = [asked(100, 2, client_errors=40), asked(500, 50, route="labels")]
    found = measured(counts)["error_rate"]
    assert (found.rows, found.value, found.breached) == (100, 0.02, False)
    assert found.detail["client_errors"] == 40
    assert found.detail["label_server_errors"] == 50


def test_few_requests_and_those_outside_the_window_say_nothing():
    outside = [asked(1_000, 900, at=NOW), asked(1_000, 900, at=NOW - DAY - MINUTE)]
    limit = (Threshold("error_rate", above=0.01),)
    found = measured([*outside, asked(10, 10)], thresholds=limit)["error_rate"]
    assert found.breached is None
    assert "10 requests" in found.reason
    with pytest.raises(WindowFault, match="swap them"):
        measured([], start=NOW, end=NOW)


# -- throughput ---------------------------------------------------------------------------------


def test_usual_traffic_is_about_one_and_silent():
    limit = (Threshold("throughput", below=0.5, above=2.0),)
    history = traffic(NOW - 31 * DAY, NOW - DAY, 200)
    found = measured(traffic(NOW - DAY, NOW, 200, 1), history, limit)["throughput"]
    assert 0.9 < found.low <= found.value <= found.high < 1.1
    assert found.breached is False
    assert found.detail["periods"] == 30
    assert found.detail["requests_per_second"] == pytest.approx(200 * 16.8 / 86_400, rel=0.1)


@pytest.mark.parametrize("hour", [3, 12])
def test_an_hour_is_compared_with_the_same_hour_of_other_days(hour):
    start = NOW.replace(hour=hour) - DAY
    history = traffic(start - 20 * DAY, start, 600)
    window = {"start": start, "end": start + HOUR}
    limit = (Threshold("throughput", below=0.5),)
    same = measured(traffic(start, start + HOUR, 600, 1), history, limit, **window)["throughput"]
    assert same.breached is False
    assert same.value == pytest.approx(1, abs=0.25)
    less = measured(traffic(start, start + HOUR, 150, 1), history, limit, **window)["throughput"]
    assert less.breached is True


def test_no_request_where_many_are_usual_is_a_breach():
    history = traffic(NOW - 31 * DAY, NOW - DAY, 200)
    limit = (Threshold("throughput", below=0.5),)
    found = measured([], history, limit)
    assert found["throughput"].breached is True
    assert found["throughput"].value == 0
    assert found["error_rate"].breached is None


def test_a_sunday_is_compared_with_sundays_once_there_are_enough():
    sunday = datetime(2024, 3, 3, tzinfo=UTC)
    window = {"start": sunday, "end": sunday + DAY}
    limit = (Threshold("throughput", below=0.7),)
    counts = traffic(sunday, sunday + DAY, 200, 1, day_off=0.3)
    long = traffic(sunday - 70 * DAY, sunday, 200, day_off=0.3)
    found = measured(counts, long, limit, **window)["throughput"]
    assert found.detail["compared_with"] == "weeks"
    assert found.breached is False
    assert found.value == pytest.approx(1, abs=0.1)
    # among three weeks of days the quiet tenth is a weekend's, so that a quiet Sunday is none
    short = traffic(sunday - 20 * DAY, sunday, 200, day_off=0.3)
    found = measured(counts, short, limit, **window)["throughput"]
    assert found.detail["compared_with"] == "days"
    assert found.breached is False
    assert found.value < 0.5


def test_one_outage_in_the_history_hides_no_other():
    history = [c for c in traffic(NOW - 31 * DAY, NOW - DAY, 200) if c.minute.day != 20]
    limit = (Threshold("throughput", below=0.5),)
    few = measured(traffic(NOW - DAY, NOW, 50, 1), history, limit)["throughput"]
    assert few.detail["quiet"] > 2_000
    assert few.breached is True


def test_little_history_says_so():
    limit = (Threshold("throughput", below=0.5),)
    for days in (0, 3):
        history = traffic(NOW - (days + 1) * DAY, NOW - DAY, 200)
        found = measured([asked(1)], history, limit)["throughput"]
        assert found.breached is None
        assert f"{days} earlier days" in found.reason
    idle = [asked(0, at=NOW - 20 * DAY)]
    found = measured([asked(100)], idle, limit)["throughput"]
    assert found.breached is None
    assert "no request is usual" in found.reason


# -- predictions --------------------------------------------------------------------------------


def proba(rows, classes=2, seed=0, tilt=0.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rows, classes))
    scores[:, 0] += tilt
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_level_holds_over_classes_and_both_tests(classes):
    alarms = 0
    for seed in range(300):
        reference = proba(400, classes, 2 * seed).round(2)  # rounded: scores with ties
        current = proba(150, classes, 2 * seed + 1).round(2)
        alarms += prediction_signal(reference, current, range(classes), level=0.05).breached
    assert alarms <= 25  # 5 % of 300 is 15, and this 2.6 deviations more


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
def test_answers_that_lean_elsewhere_alarm(classes):
    k = len(classes)
    found = prediction_signal(proba(1_000, k), proba(400, k, 1, tilt=1.0), classes, level=1e-5)
    assert found.breached is True
    assert found.kind is Kind.PREDICTIONS
    assert found.p_value < 1e-5
    assert 0.1 < found.value < 1
    assert "of the rows, its mean probability" in found.reason
    json.dumps(to_dict(found))
    top = found.detail["classes"][0]
    assert top["low"] < top["now"] - top["before"] < top["high"]


def test_a_model_that_became_unsure_alarms_though_it_names_the_same_classes():
    reference = proba(2_000)
    unsure = 0.5 + (proba(1_000, seed=1) - 0.5) * 0.3
    found = prediction_signal(reference, unsure, (0, 1))
    (entry,) = found.detail["classes"]
    assert found.breached is True
    assert entry["share_p_value"] > 0.05
    assert entry["score_p_value"] < 1e-6
    assert prediction_signal(reference, unsure, (0, 1), floor=0.5).breached is False


def test_answers_that_come_in_bursts_are_worth_their_bursts():
    """Each hour leans its own way; the reference is of many hours."""
    rng = np.random.default_rng(5)

    def leaning(spans, each):
        scores = np.repeat(rng.normal(0, 1, spans), each) + rng.normal(0, 0.5, spans * each)
        p = 1 / (1 + np.exp(-scores))
        return np.column_stack([1 - p, p])

    aware = naive = 0
    for _ in range(60):
        reference, window = leaning(1_000, 1), leaning(24, 40)
        times = np.repeat(np.arange(24), 40)
        aware += prediction_signal(reference, window, (0, 1), level=0.01, times=times).breached
        naive += prediction_signal(reference, window, (0, 1), level=0.01).breached
    assert naive >= 20
    assert aware <= 4
    # answers that lean elsewhere in every hour are seen all the same
    moved = proba(960, seed=1, tilt=1.0)
    found = prediction_signal(proba(1_000), moved, (0, 1), level=1e-5, times=times)
    assert found.breached is True
    with pytest.raises(WindowFault, match="from one frame"):
        prediction_signal(reference, window, (0, 1), times=times[1:])


def test_few_rows_odd_rows_and_constant_answers():
    assert prediction_signal(proba(500), proba(3), (0, 1)).breached is None
    assert prediction_signal(proba(500), [], (0, 1)).breached is None
    gaps = proba(300, seed=1)
    gaps[:5] = np.nan
    found = prediction_signal(proba(500), gaps, (0, 1))
    assert (found.breached, found.rows, found.detail["set_aside"]) == (False, 295, 5)
    flat = np.tile([0.3, 0.7], (200, 1))
    assert prediction_signal(flat, flat, (0, 1)).p_value == 1.0
    for odd in (proba(200, 3), np.zeros(200), [[0.5, 0.5], [1.0]]):
        with pytest.raises(WindowFault, match="one column per class"):
            prediction_signal(proba(500), odd, (0, 1))


def test_large_windows_are_read_in_time():
    begin = time.process_time()
    for n in (2_000, 9_999, 200_000):
        prediction_signal(proba(n), proba(n - 3, seed=1), (0, 1))
    assert time.process_time() - begin < 5
