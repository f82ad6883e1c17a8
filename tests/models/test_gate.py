from __future__ import annotations

import math
import re
from dataclasses import asdict

import numpy as np
import pytest

from models import metrics
from models.errors import DataFault
from models.gate import GateRule, judge
from models.groups import grouped

RULE = GateRule(resamples=400)


def world(n: int = 1_000, *, better: float = 0.0, seed: int = 0, k: int = 2):
    """Labels, a champion with noisy knowledge of them, and one with `better` more of it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    signal = np.eye(k)[y]
    old = signal * 0.8 + rng.normal(size=(n, k))
    new = signal * (0.8 + better) + rng.normal(size=(n, k))

    def softmax(x: np.ndarray) -> np.ndarray:
        powers = np.exp(x)
        return powers / powers.sum(1, keepdims=True)

    return y, softmax(old), softmax(new)


@pytest.mark.parametrize("metric", ["log_loss", "error", "one_minus_auc"])
@pytest.mark.parametrize("k", [2, 3])
def test_a_better_challenger_passes_and_a_worse_one_does_not(metric: str, k: int) -> None:
    y, old, new = world(better=1.5, k=k)
    passed = judge(old, new, y, RULE, metric=metric)
    assert passed.passed
    assert passed.reason.startswith("challenger better by ")
    assert "95 % lower bound" in passed.reason
    assert "on 1,000 rows" in passed.reason
    loss = metrics.objective(metric)
    assert passed.gain == pytest.approx(loss(y, old) - loss(y, new))
    assert passed.low is not None
    assert passed.high is not None
    assert 0 < passed.low < passed.gain < passed.high
    refused = judge(new, old, y, RULE, metric=metric)
    assert not refused.passed
    assert refused.gain == pytest.approx(-passed.gain)
    assert refused.reason.startswith("challenger worse by ")


def test_the_same_model_again_is_no_gain() -> None:
    y, old, _ = world()
    verdict = judge(old, old, y, RULE)
    assert not verdict.passed
    assert (verdict.gain, verdict.low, verdict.high) == (0.0, 0.0, 0.0)
    assert judge(old, old, y, GateRule(resamples=400, margin=-0.01)).passed  # non-inferiority


def test_the_bound_must_exceed_the_margin() -> None:
    y, old, new = world(better=1.5)
    free = judge(old, new, y, RULE)
    assert free.low is not None
    assert judge(old, new, y, GateRule(resamples=400, margin=free.low - 1e-6)).passed
    held = judge(old, new, y, GateRule(resamples=400, margin=free.low + 1e-6))
    assert not held.passed
    assert "the bound must exceed" in held.reason


def test_without_a_gain_about_one_in_twenty_passes() -> None:
    """The level of the test, at the usual number of rows: both models equally good."""
    rule = GateRule(resamples=300, minimum_rows=100)
    verdicts = [judge(*reorder(world(300, seed=s)), rule, seed=s) for s in range(200)]
    share = np.mean([verdict.passed for verdict in verdicts])
    assert 0.01 <= share <= 0.11  # 0.05, give or take three standard errors


def reorder(parts: tuple) -> tuple:
    y, old, new = parts
    return old, new, y


def test_the_bound_is_that_of_the_normal_theory_for_many_rows() -> None:
    y, old, new = world(4_000, better=0.5)
    verdict = judge(old, new, y, GateRule(resamples=4_000))
    d = metrics.per_row_log_loss(y, old) - metrics.per_row_log_loss(y, new)
    assert verdict.low == pytest.approx(d.mean() - 1.645 * d.std() / math.sqrt(len(d)), rel=0.05)


def test_equal_seeds_give_equal_bounds() -> None:
    y, old, new = world(better=0.3)
    assert judge(old, new, y, RULE, seed=4) == judge(old, new, y, RULE, seed=4)
    assert judge(old, new, y, RULE, seed=4).low != judge(old, new, y, RULE, seed=5).low


def test_without_a_champion_the_base_rate_is_the_opponent() -> None:
    y, _, new = world(better=1.5)
    verdict = judge(None, new, y, RULE, baseline=[0.5, 0.5])
    assert verdict.passed
    assert "than the base rate" in verdict.reason
    assert verdict.champion["log_loss"] == pytest.approx(math.log(2))
    assert not judge(None, np.full((1_000, 2), 0.5), y, RULE, baseline=[0.5, 0.5]).passed
    assert not judge(None, new, y, RULE).passed


def spoil(proba: np.ndarray, value: float) -> np.ndarray:
    bad = proba.copy()
    bad[3, 0] = value
    return bad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 7.0])
def test_no_broken_probability_slips_through(value: float) -> None:
    y, old, new = world(better=2)
    for verdict, name in (
        (judge(old, spoil(new, value), y, RULE), "challenger"),
        (judge(spoil(old, value), new, y, RULE), "champion"),
    ):
        assert not verdict.passed
        assert verdict.reason.startswith(f"the {name} cannot be judged")
        assert "in row 3" in verdict.reason
        assert verdict.gain is None
    nan_base = judge(None, new, y, RULE, baseline=[value, 0.5])
    assert not nan_base.passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y, old, new: (y[:199], old[:199], new[:199]), "too few labelled rows .* 199 of"),
        (lambda y, old, new: (y[:0], old[:0], new[:0]), "too few labelled rows .* 0 of"),
        (lambda y, old, new: (y, old[:500], new), "one row of probabilities per label"),
        (lambda y, old, new: (y, np.full((1_000, 3), 1 / 3), new), "different classes: 3 and 2"),
        (lambda y, old, new: (y + 5, old, new), "labels are codes"),
        (lambda y, old, new: (y[:, None], old, new), "too few labelled rows"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(change, reason: str) -> None:
    y, old, new = change(*world(better=2))
    verdict = judge(old, new, y, RULE)
    assert not verdict.passed
    assert verdict.gain is None
    assert re.search(reason, verdict.reason)


def test_auc_with_one_class_is_refused_and_error_is_not() -> None:
    y, old, new = world(better=2)
    assert "hold one" in judge(old, new, np.zeros_like(y), RULE, metric="one_minus_auc").reason
    assert judge(old, new, np.zeros_like(y), RULE, metric="log_loss").gain is not None


def test_auc_with_a_single_positive_cannot_be_bounded() -> None:
    y, old, new = world(better=2)
    y = np.zeros_like(y)
    y[0] = 1
    verdict = judge(old, new, y, RULE, metric="one_minus_auc")
    assert not verdict.passed
    assert "cannot be bounded" in verdict.reason
    assert verdict.low is None


def test_an_unknown_metric_is_a_fault() -> None:
    y, old, new = world()
    with pytest.raises(DataFault, match="got 'rmse'"):
        judge(old, new, y, RULE, metric="rmse")


def test_slices_report_their_gain_and_may_veto() -> None:
    y, old, new = world(better=2)
    where = np.array(["good"] * 700 + ["bad"] * 280 + ["tiny"] * 20)
    new[700:980] = 0.5  # there the challenger knows nothing
    free = judge(old, new, y, RULE, slices={"origin": where})
    assert free.passed
    parts = {part["value"]: part for part in free.slices}
    assert set(parts) == {"good", "bad"}  # 20 rows tell nothing
    assert parts["good"]["low"] > 0 > parts["bad"]["high"]
    assert parts["bad"]["rows"] == 280
    rule = GateRule(resamples=400, slice_tolerance=0.05)
    veto = judge(old, new, y, rule, slices={"origin": where})
    assert not veto.passed
    assert "certainly worse where origin = bad" in veto.reason


def test_slices_of_another_length_are_refused() -> None:
    y, old, new = world(better=2)
    verdict = judge(old, new, y, RULE, slices={"origin": ["a"]})
    assert not verdict.passed
    assert "a slice has one value per row" in verdict.reason


def test_numeric_slices_with_many_values_are_cut_at_quartiles() -> None:
    y, old, new = world(better=2)
    verdict = judge(old, new, y, RULE, slices={"distance": np.arange(1_000.0)})
    assert [part["rows"] for part in verdict.slices] == [250] * 4
    assert verdict.slices[0]["value"] == "0 to 249.75"


def test_the_level_is_in_the_reason_and_the_verdict() -> None:
    y, old, new = world(better=1.5)
    verdict = judge(old, new, y, GateRule(resamples=400, confidence=0.975))
    assert "97.5 % lower bound" in verdict.reason
    assert verdict.confidence == 0.975


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rows", 0),
        ("minimum_rows", 1),
        ("confidence", 0.5),
        ("confidence", 1.0),
        ("margin", float("nan")),
        ("resamples", 10),
        ("slice_rows", 1),
        ("slice_tolerance", -0.1),
    ],
)
def test_a_rule_that_proves_nothing_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"gate.{field}"):
        GateRule(**{**asdict(GateRule()), field: value})


def days(count: int, rows: int = 60, *, seed: int = 0, gain: float = 0.0):
    """Two models that each misread every day's weather in its own way, and the day of each row."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count * rows)
    y = (rng.random(count * rows) < 1 / (1 + np.exp(-truth))).astype(int)
    sides = []
    for spread in (1.0, 1.0 - gain):
        said = 1 / (1 + np.exp(-truth - np.repeat(rng.normal(size=count) * spread, rows)))
        sides.append(np.stack([1 - said, said], axis=1))
    return sides[0], sides[1], y, np.repeat(np.arange(count), rows)


@pytest.mark.parametrize("count", [3, 7, 30])
def test_with_days_as_groups_no_more_than_one_in_twenty_passes_without_a_gain(count: int) -> None:
    rule, trials = GateRule(resamples=100, minimum_rows=50), 150
    together = alone = 0
    for seed in range(trials):
        old, new, y, groups = days(count, seed=seed)
        together += judge(old, new, y, rule, seed=seed, groups=groups).passed
        alone += judge(old, new, y, rule, seed=seed).passed
    assert together <= 0.11 * trials  # 0.05, and three standard errors more
    assert alone >= 0.13 * trials  # what taking rows for independent lets through


def test_groups_widen_the_interval_and_a_true_gain_still_passes() -> None:
    old, new, y, groups = days(20, 100, gain=0.9)
    rows, held = judge(old, new, y, RULE), judge(old, new, y, RULE, groups=groups)
    assert held.gain == rows.gain
    assert held.low < rows.low < rows.high < held.high
    assert held.passed
    assert "on 2,000 rows of 20 groups" in held.reason
    assert held == judge(old, new, y, RULE, groups=groups)
    area = judge(old, new, y, RULE, groups=groups, metric="one_minus_auc")
    assert area.low < area.gain < area.high


def test_groups_of_one_row_change_nothing() -> None:
    y, old, new = world(better=0.5)
    singly = np.random.default_rng(0).permutation(len(y))
    assert judge(old, new, y, RULE, groups=singly) == judge(old, new, y, RULE)


def test_one_group_bounds_nothing() -> None:
    y, old, new = world(better=1.5)
    verdict = judge(old, new, y, RULE, groups=np.zeros(len(y), dtype=int))
    assert not verdict.passed
    assert verdict.gain is None
    assert "in one group, so the gain cannot be bounded" in verdict.reason
    assert "groups have one id for each" in judge(old, new, y, RULE, groups=[1, 2]).reason


def test_slices_have_their_groups_and_one_of_a_single_group_is_not_reported() -> None:
    old, new, y, groups = days(6, 200)
    where = np.where(groups == 0, "first day", np.where(groups % 2, "odd", "even"))
    found = {
        part["value"]: part
        for part in judge(old, new, y, RULE, groups=groups, slices={"when": where}).slices
    }
    assert set(found) == {"odd", "even"}
    alone = judge(old, new, y, RULE, slices={"when": where}).slices
    for part in alone:
        if part["value"] in found:
            held = found[part["value"]]
            assert held["high"] - held["low"] > part["high"] - part["low"]


def test_the_quantile_is_students_for_groups_of_one_size() -> None:
    groups = grouped(np.repeat(np.arange(5), 7), 35)
    assert groups is not None
    assert groups.widened(0.95) == pytest.approx(2.1318 * math.sqrt(5 / 4), rel=1e-4)
    part = groups.among(np.arange(35) < 14)
    assert part is not None
    assert part.widened(0.95) == pytest.approx(6.3138 * math.sqrt(2), rel=1e-4)
