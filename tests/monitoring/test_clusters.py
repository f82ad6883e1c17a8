"""Rows that come together: intervals over whole stretches of time, and what few of them can say."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.clusters import correction, grouped, stretches
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, bootstrap, difference, judge, share_of, wilson
from monitoring.performance import performance_signals
from monitoring.records import to_dict
from monitoring.rules import Threshold
from monitoring.slices import SliceThreshold, slice_signals
from monitoring.wording import say

START = datetime(2024, 3, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)
METRICS = ("log_loss", "roc_auc", "calibration_gap")


def days(count, rows=100, alike=0.7, seed=0, bias=0.0, times=True):
    """Rows of `count` days; each day has a weather that the answers do not know."""
    rng = np.random.default_rng(seed)
    weather = np.repeat(rng.normal(size=count) * alike, rows)
    x = rng.normal(size=count * rows)
    label = rng.random(count * rows) < 1 / (1 + np.exp(0.5 - x - weather))
    said = 1 / (1 + np.exp(0.5 - x - bias))
    frame = pd.DataFrame({"label": label.astype(int), "proba": [[1 - p, p] for p in said]})
    if times:
        hours = np.repeat(np.arange(count) * 24.0, rows) + rng.uniform(0, 16, count * rows)
        frame["time"] = pd.Timestamp(START) + pd.to_timedelta(hours, unit="h")
    return frame


def arrays(frame):
    return np.array(frame["proba"].tolist()), frame["label"].to_numpy(dtype=np.int64)


def one(frame, threshold, baseline=None, **options):
    options = {"resamples": 300, **options}
    return performance_signals(frame, (0, 1), (threshold,), baseline or {}, **options)[0]


def answers(count, rows, rng, alike=0.7):
    """Probabilities, codes and days, without a frame around them."""
    weather = np.repeat(rng.normal(size=count) * alike, rows)
    x = rng.normal(size=count * rows)
    codes = (rng.random(count * rows) < 1 / (1 + np.exp(0.5 - x - weather))).astype(np.int64)
    said = 1 / (1 + np.exp(0.5 - x))
    return np.stack([1 - said, said], axis=1), codes, np.repeat(np.arange(count), rows)


@pytest.fixture(scope="module")
def truth():
    proba, codes, _ = answers(60_000, 5, np.random.default_rng(10**6))
    found = bootstrap(proba, codes, METRICS, confidence=0.5, seed=0, resamples=1)
    values = {metric: interval.value for metric, interval in found.items()}
    return values | {"error": float((proba.argmax(axis=1) != codes).mean())}


@pytest.mark.parametrize("count", [5, 7, 15, 30])
def test_the_intervals_cover_with_few_groups_that_are_very_alike(count, truth):
    rng, trials = np.random.default_rng(count), 150
    held, alone = dict.fromkeys(truth, 0), 0
    for seed in range(trials):
        proba, codes, ids = answers(count, 40, rng)
        options = {"confidence": 0.9, "seed": seed, "resamples": 100}
        found = bootstrap(proba, codes, METRICS, groups=ids, **options)
        found["error"] = share_of(proba.argmax(axis=1) != codes, confidence=0.9, groups=ids)
        for metric, interval in found.items():
            held[metric] += interval.low <= truth[metric] <= interval.high
        rows = bootstrap(proba, codes, ["calibration_gap"], **options)["calibration_gap"]
        alone += rows.low <= truth["calibration_gap"] <= rows.high
    # 0.9, less three standard errors
    assert min(held.values()) >= 0.826 * trials, held
    assert held["log_loss"] <= 0.965 * trials
    assert alone < 0.75 * trials  # rows for themselves promise too much


def test_a_mean_of_few_groups_has_students_interval():
    rng = np.random.default_rng(0)
    levels = rng.uniform(0.2, 0.8, 6)
    proba = np.repeat(np.stack([levels, 1 - levels], axis=1), 50, axis=0)
    found = bootstrap(
        proba,
        np.ones(300, dtype=np.int64),
        ["log_loss"],
        confidence=0.95,
        seed=0,
        resamples=20_000,
        groups=np.repeat(np.arange(6), 50),
    )["log_loss"]
    losses = -np.log(1 - levels)
    half = 2.5706 * losses.std(ddof=1) / np.sqrt(6) / losses.mean()
    assert np.log(found.high / found.value) == pytest.approx(half, rel=0.03)
    assert found.low * found.high == pytest.approx(found.value**2)


def test_the_correction_is_exact_for_groups_of_any_size():
    few = correction(np.full(8, 3.0))
    assert few.factor == pytest.approx(8 / 7)
    assert few.freedom == pytest.approx(7)
    assert correction(np.array([1.0, 1.0])).freedom == pytest.approx(1)
    sizes = np.array([900.0, 850.0, 910.0, 120.0])
    w = sizes / sizes.sum()
    centre = np.eye(4) - np.outer(np.ones(4), w)
    form = centre.T @ np.diag(w**2) @ centre
    few = correction(sizes)
    assert few.factor == pytest.approx((w**2).sum() / np.trace(form))
    assert few.freedom == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))
    assert few.freedom < 3  # a short day is not a whole one


def test_groups_of_one_row_change_nothing():
    proba, codes = arrays(days(1, 400))
    options = {"confidence": 0.9, "seed": 3, "resamples": 200}
    singly = np.random.default_rng(0).permutation(400) + 7
    rows = bootstrap(proba, codes, METRICS, **options)
    assert bootstrap(proba, codes, METRICS, groups=singly, **options) == rows
    flags = codes == 1
    assert share_of(flags, confidence=0.9, groups=singly) == wilson(int(flags.sum()), 400, 0.9)
    frame = days(4)
    frame["time"] = pd.Timestamp(START) + pd.to_timedelta(np.arange(400), unit="h")
    limit = Threshold("log_loss", above=9.0)
    free, held = one(frame, limit), one(frame, limit, block=timedelta(hours=1))
    assert (held.low, held.high) == (free.low, free.high)


def test_without_groups_a_copy_of_every_row_makes_the_interval_narrower_and_with_them_not():
    frame = days(12)
    proba, codes = arrays(frame)
    ids = np.repeat(np.arange(12), 100)
    options = {"confidence": 0.95, "seed": 0, "resamples": 400}

    def width(copies, groups):
        found = bootstrap(
            np.tile(proba, (copies, 1)), np.tile(codes, copies), ["log_loss"],
            groups=None if groups is None else np.tile(groups, copies), **options,
        )["log_loss"]  # fmt: skip
        return found.high - found.low

    assert width(4, None) == pytest.approx(width(1, None) / 2, rel=0.15)
    assert width(4, ids) == pytest.approx(width(1, ids), rel=1e-9)
    wrong = proba.argmax(axis=1) != codes
    few, many = (
        share_of(np.tile(wrong, c), confidence=0.95, groups=np.tile(ids, c)) for c in (1, 4)
    )
    assert many.high - many.low > 0.8 * (few.high - few.low)


def test_equal_seeds_give_equal_intervals_and_the_order_of_rows_does_not_matter():
    frame, limit = days(9), Threshold("log_loss", above=1.0)
    first = one(frame, limit, block=DAY, seed=1)
    assert first == one(frame, limit, block=DAY, seed=1)
    assert first.low != one(frame, limit, block=DAY, seed=2).low
    mixed = one(frame.sample(frac=1, random_state=0), limit, block=DAY, seed=1)
    assert (mixed.low, mixed.high) == pytest.approx((first.low, first.high))


def test_resampling_groups_in_pieces_changes_nothing(monkeypatch):
    proba, codes = arrays(days(6))
    ids = np.repeat(np.arange(6), 100)
    options = {"confidence": 0.9, "seed": 3, "resamples": 101, "groups": ids}
    whole = bootstrap(proba, codes, METRICS, **options)
    monkeypatch.setattr("monitoring.resampling._CELLS", 6_000)
    for metric, found in bootstrap(proba, codes, METRICS, **options).items():
        assert found == pytest.approx(whole[metric])


def test_stretches_are_counted_from_the_first_row():
    times = [START + timedelta(hours=h) for h in (0, 23.99, 24, 167.9)]
    assert stretches(times, DAY).tolist() == [0, 0, 1, 6]  # a week from eight o'clock: seven days
    assert stretches([None, times[0], None], DAY).tolist() == [-1, 0, -1]
    assert stretches([None, None], DAY).tolist() == [-1, -1]
    assert stretches([], DAY).tolist() == []
    with pytest.raises(WindowFault, match="longer than nothing"):
        stretches(times, timedelta(0))
    with pytest.raises(WindowFault, match="one id for each of the 3 rows"):
        grouped([1, 2], 3)


@pytest.mark.parametrize("case", ["one day", "no time at all", "no column"])
def test_one_block_cannot_say(case):
    frame = days(1, 400)
    if case == "no time at all":
        frame["time"] = pd.NaT
    if case == "no column":
        frame = frame.drop(columns=["time"])
    limits = [Threshold(m, above=0.01) for m in (*METRICS, "error")]
    found = performance_signals(frame, (0, 1), limits, {}, block=DAY, resamples=50)
    for signal in found:
        assert signal.breached is None
        assert (signal.low, signal.high) == (None, None)
        assert signal.value is not None
        wanted = "no times to make blocks" if case == "no column" else "lie in one block of 1d"
        assert wanted in signal.reason
        json.dumps(to_dict(signal))
    assert share_of(np.ones(9, dtype=bool), confidence=0.9, groups=np.zeros(9)).low is None


def test_rows_without_a_time_are_one_block():
    frame = days(6)
    frame.loc[:149, "time"] = pd.NaT  # the first day and half of the second
    found = one(frame, Threshold("log_loss", above=9.0), block=DAY)
    assert found.detail["blocks"] == 6  # five days with a time, and those without
    assert found.detail["block"] == "1d"
    assert found.rows == 600


def test_days_that_are_alike_breach_later():
    frame = days(5, 200, seed=3)
    free = one(frame, Threshold("log_loss", above=9.0))
    limit = Threshold("log_loss", above=(free.low + free.value) / 2 - 0.02)
    assert one(frame, limit).breached is True
    held = one(frame, limit, block=DAY)
    assert held.breached is False
    assert held.low < free.low < free.high < held.high
    assert held.value == free.value


def test_rows_that_cannot_be_read_keep_the_others_with_their_day():
    frame = days(6)
    whole = one(frame, Threshold("log_loss", above=9.0), block=DAY)
    spoilt = pd.concat([frame.iloc[:50].assign(label=7), frame], ignore_index=True)
    spoilt.loc[:9, "label"] = None
    found = one(spoilt, Threshold("log_loss", above=9.0), block=DAY)
    assert found.detail["set_aside"] == 40
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high))


def test_all_right_in_few_groups_is_not_certain():
    ids = np.repeat(np.arange(5), 100)
    sure = np.ones(500, dtype=bool)
    assert share_of(sure, confidence=0.95, groups=ids).low < 0.6
    assert share_of(sure, confidence=0.95).low > 0.99


def test_the_difference_is_that_of_two_samples():
    close = difference(Interval(0.6, 0.55, 0.68), Interval(0.5, 0.46, 0.53))
    assert close.value == pytest.approx(0.1)
    assert close.low == pytest.approx(0.1 - np.hypot(0.05, 0.03))
    assert close.high == pytest.approx(0.1 + np.hypot(0.08, 0.04))
    # Newcombe 1998, table II, method 10: 56/70 against 48/80
    found = difference(wilson(56, 70, 0.95), wilson(48, 80, 0.95))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    half = difference(Interval(0.6, None, 0.68), Interval(0.5, 0.46, 0.53))
    assert half.low is None
    assert half.high is not None


def test_the_difference_covers_where_a_gate_taken_as_a_point_does_not():
    both = point = 0
    rng = np.random.default_rng(0)
    for seed in range(300):
        sides = []
        for rows, step in ((600, 0), (300, 10_000)):
            codes = (rng.random(rows) < 0.8).astype(np.int64)
            options = {"confidence": 0.9, "seed": seed + step, "resamples": 200}
            found = bootstrap(np.tile([0.2, 0.8], (rows, 1)), codes, ["log_loss"], **options)
            sides.append(found["log_loss"])
        now, then = sides
        change = difference(now, then)
        both += change.low <= 0 <= change.high
        point += now.low <= then.value <= now.high
    assert 0.85 * 300 <= both <= 0.95 * 300
    assert point < 0.78 * 300


def test_worse_by_is_held_against_the_difference_with_the_gates_rows():
    frame, proof = days(20, 50, bias=1.0, seed=1), days(6, 50, seed=2)
    limit = Threshold("log_loss", worse_by=0.0)
    past = one(proof, Threshold("log_loss", above=9.0))
    free = one(frame, limit, {"log_loss": past.value})
    found = one(frame, limit, {"log_loss": past.value}, proof=proof)
    assert (found.value, found.low, found.high) == (free.value, free.low, free.high)
    detail = found.detail
    assert detail["baseline"] == pytest.approx(past.value)
    assert detail["change"] == pytest.approx(found.value - past.value)
    assert detail["change_low"] < found.low - past.value < detail["change"] < detail["change_high"]
    between = (detail["change_low"] + found.low - past.value) / 2
    limit = Threshold("log_loss", worse_by=between)
    assert one(frame, limit, {"log_loss": past.value}).breached is True
    unsure = one(frame, limit, {"log_loss": past.value}, proof=proof)
    assert unsure.breached is False
    assert unsure.detail["limit"] == pytest.approx(past.value + between)
    limit = Threshold("log_loss", worse_by=detail["change_low"] - 0.001)
    certain = one(frame, limit, {"log_loss": past.value}, proof=proof)
    assert certain.breached is True
    assert certain.detail["beyond"] == "worse_by"
    low, high = detail["change_low"], detail["change_high"]
    assert say(certain).endswith(
        f"is worse than at the gate ({past.value:.3g}) by more than {limit.worse_by:g}: the "
        f"difference is {detail['change']:.3g} ({low:.3g} to {high:.3g})"
    )
    fine = one(frame, Threshold("log_loss", worse_by=high + 0.001), {}, proof=proof)
    assert fine.detail["fine"] is True


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", -1), ("error", 1), ("roc_auc", -1)])
def test_the_difference_knows_its_direction(metric, sign):
    good, bad = days(10, 80, seed=1), days(10, 80, seed=2)
    bad["proba"] = [[b, a] for a, b in bad["proba"]]
    limit = Threshold(metric, worse_by=0.05)
    assert one(bad, limit, proof=good).breached is True
    assert one(good, limit, proof=bad).breached is False
    assert np.sign(one(bad, limit, proof=good).detail["change"]) == sign


def test_both_sides_have_their_days():
    frame, proof = days(14, 50, seed=1), days(6, 50, seed=2)
    limit = Threshold("calibration_gap", worse_by=0.1)

    def width(**options):
        detail = one(frame, limit, **options).detail
        return detail["change_high"] - detail["change_low"]

    rows, now = width(proof=proof), width(proof=proof.drop(columns=["time"]), block=DAY)
    assert rows < now < width(proof=proof, block=DAY)


def test_a_gate_of_one_day_cannot_say_by_how_much_it_is_worse():
    found = one(days(9), Threshold("log_loss", worse_by=0.01), proof=days(1, 400), block=DAY)
    assert found.breached is None
    assert found.low is not None
    assert "the gate's rows lie in one block of 1d" in found.reason
    assert "raise gate.rows" in found.reason
    also = Threshold("log_loss", worse_by=0.01, above=0.1)
    assert one(days(9), also, proof=days(1, 400), block=DAY).breached is True


def test_a_baseline_with_bounds_is_judged_by_the_difference():
    now, then = Interval(0.60, 0.57, 0.63), Interval(0.5, 0.45, 0.55)
    limit = Threshold("log_loss", worse_by=0.05)
    assert judge(now, limit, 0.5, higher_is_better=False)[0] is True
    breached, _, detail = judge(now, limit, then, higher_is_better=False)
    assert breached is False
    assert detail["limit"] == pytest.approx(0.55)


def test_slices_have_their_days_too():
    frame = days(8, 200).assign(origin="JFK")
    limits = (SliceThreshold(metric="error", above=0.9, slice="origin"),)
    columns = {"origin": "category"}

    def sliced(matured, **options):
        return slice_signals(matured, frame, columns, [], (0, 1), limits, resamples=200, **options)

    for free, held in zip(sliced(frame), sliced(frame, block=DAY), strict=True):
        assert held.value == free.value
        assert held.low < free.low < free.high < held.high
    for alone in sliced(frame.head(200), block=DAY):
        assert alone.breached is None
        assert "one block of 1d" in alone.reason


def test_two_groups_at_a_high_level_are_bounded_by_finite_numbers():
    proba, codes, ids = answers(2, 50, np.random.default_rng(0), alike=3.0)
    found = bootstrap(proba, codes, METRICS, confidence=1 - 1e-6, seed=0, resamples=50, groups=ids)
    found["error"] = share_of(proba.argmax(axis=1) != codes, confidence=1 - 1e-6, groups=ids)
    for interval in found.values():
        assert 0 <= interval.low <= interval.value <= interval.high < np.inf
    assert found["roc_auc"][1:] == (0.0, 1.0)
