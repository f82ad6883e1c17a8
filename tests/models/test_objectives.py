"""Directions, units, limits, fronts, and the rule that picks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SpaceFault
from models.records import Trial
from models.search.objectives import BEHIND, METRICS, Limit, Objective
from models.search.pareto import Pick, front, hypervolume, non_dominated

REFERENCE = {"log_loss": 0.4, "accuracy": 0.8, "latency_ms": 2.0, "throughput_rows_s": 1e4}
REFERENCE |= {"size_mb": 1.0, "fit_cpu_s": 0.5, "predict_cpu_ms": 1.0, "latency_p95_ms": 3.0}


def trial(number: int, **metrics: float) -> Trial:
    return Trial(number, {}, "complete", 0.0, 0.1, 0, metrics)


@pytest.mark.parametrize("name", [name for name in METRICS if name in REFERENCE])
@pytest.mark.parametrize("weighed", [False, True])
def test_the_better_figure_has_the_smaller_loss(name, weighed):
    objective = Objective("log_loss", {name: 0.5}) if weighed else Objective(name)
    better = REFERENCE[name] * (1.1 if METRICS[name].larger_is_better else 0.9)
    losses = [objective.told({**REFERENCE, name: v}, REFERENCE) for v in (better, REFERENCE[name])]
    assert losses[0] < losses[1]


def test_a_single_metric_is_told_as_it_is():
    assert Objective("log_loss").told({"log_loss": 0.37}, {}) == 0.37
    assert Objective("one_minus_auc").told({"roc_auc": 0.9}, {}) == pytest.approx(0.1)
    assert math.isnan(Objective("roc_auc").told({"log_loss": 0.3}, {}))


def test_a_weight_is_the_price_of_a_doubling_whatever_the_unit():
    objective = Objective("log_loss", {"latency_ms": 0.02})
    base = objective.told(REFERENCE, REFERENCE)
    for factor in (1.0, 1_000.0):  # ms or microseconds
        scaled = {**REFERENCE, "latency_ms": REFERENCE["latency_ms"] * factor}
        slow = {**scaled, "latency_ms": 2 * scaled["latency_ms"], "log_loss": 0.4 * 0.98}
        assert objective.told(slow, scaled) == pytest.approx(base)


def test_a_granularity_shares_its_weight():
    shares = Objective("accuracy", {"macro": 0.1, "meso": 0.3, "micro": 0.2}).shares
    assert sum(shares.values()) == pytest.approx(1.6)
    assert shares["throughput_rows_s"] == pytest.approx(0.1)
    assert shares["size_mb"] == shares["fit_cpu_s"] == pytest.approx(0.1)
    assert shares["latency_ms"] == pytest.approx(0.2)


positive = st.floats(1e-6, 1e6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=12))
def test_trials_beyond_a_limit_are_behind_all_that_keep_it(figures):
    objective = Objective("log_loss", {"size_mb": 0.1}, (Limit("latency_p95_ms", 20.0),))
    rows = [{"log_loss": a, "size_mb": 1.0, "latency_p95_ms": b} for a, b in figures]
    told = [objective.told(row, REFERENCE) for row in rows]
    for row, loss in zip(rows, told, strict=True):
        assert (loss < BEHIND) is objective.feasible(row) is (row["latency_p95_ms"] <= 20.0)
    kept = [(r["log_loss"], t) for r, t in zip(rows, told, strict=True) if t < BEHIND]
    for (a, t), (b, u) in itertools.combinations(kept, 2):
        assert (a - b) * (t - u) >= 0  # the order of the sum stays


def test_a_smaller_excess_is_ahead_and_a_missing_figure_last():
    objective = Objective("accuracy", limits=(Limit("accuracy", 0.9), Limit("latency_ms", 5.0)))
    at = [(0.85, 4.0), (0.8, 4.0), (0.95, 40.0)]
    told = [objective.told({"accuracy": a, "latency_ms": ms}, REFERENCE) for a, ms in at]
    assert told == sorted(told)
    assert told[0] > objective.told({"accuracy": 0.91, "latency_ms": 4.9}, REFERENCE)
    assert objective.told({"accuracy": 0.95}, REFERENCE) > told[-1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Objective("acuracy"), "got 'acuracy'"),
        (lambda: Objective("log_loss", {"speed": 1.0}), "got 'speed'"),
        (lambda: Objective("log_loss", {"micro": -1.0}), "above 0, got micro: -1.0"),
        (lambda: Limit("latency_ms", 0.0), "latency_ms: 0.0"),
        (lambda: Pick.read("the fastest"), "got 'the fastest'"),
        (lambda: Pick.read("best accuracy with latency_ms >= 20"), "turn it"),
        (lambda: Pick.read("best accuracy with latency_ms <= e"), "got 'latency_ms <= e'"),
        (lambda: Pick.read("best speed"), "got 'speed'"),
    ],
)
def test_a_fault_names_the_rule_and_the_value(make, says):
    with pytest.raises(SpaceFault) as fault:
        make()
    assert says in str(fault.value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25))
def test_the_front_is_what_nothing_dominates_and_covers_the_rest(rows):
    losses = np.array(rows, dtype=float)
    ahead = non_dominated(losses)
    for row, here in zip(losses, ahead, strict=True):
        beaten = ((losses <= row).all(1) & (losses < row).any(1)).any()
        if here:
            assert not beaten
        else:
            assert ((losses[ahead] <= row).all(1)).any()
    assert len({tuple(r) for r in losses[ahead]}) == ahead.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), max_size=7))
def test_the_hypervolume_counts_the_cells_that_are_covered(m, rows):
    losses = np.array([row[:m] for row in rows], dtype=float).reshape(-1, m)
    corners = itertools.product(range(6), repeat=m)
    cells = sum(bool((losses <= c).all(1).any()) for c in map(np.array, corners))
    assert hypervolume(losses, np.full(m, 6.0)) == pytest.approx(cells)


TRIALS = [
    trial(0, accuracy=0.95, latency_ms=60.0),
    trial(1, accuracy=0.90, latency_ms=18.0),
    trial(2, accuracy=0.89, latency_ms=19.0),  # dominated
    trial(3, accuracy=0.80, latency_ms=1.0),
    Trial(4, {}, "failed", None, 0.1, 0),
]


def test_the_rule_picks_the_best_within_its_limits():
    rule = Pick.read("best accuracy with latency_ms <= 20")
    assert str(rule) == "best accuracy with latency_ms <= 20"
    assert [t.number for t in front(TRIALS, rule.metrics)] == [0, 1, 3]
    chosen, why = rule.choose(TRIALS)
    assert chosen.number == 1
    assert "2 of 3" in why
    assert Pick.read("best accuracy").choose(TRIALS)[0].number == 0
    assert Pick.read("best latency_ms with accuracy >= 0.9").choose(TRIALS)[0].number == 1


def test_when_nothing_keeps_the_limits_the_nearest_is_taken_and_said():
    chosen, why = Pick.read("best accuracy with latency_ms <= 0.5").choose(TRIALS)
    assert chosen.number == 3
    assert "none of 3" in why
    with pytest.raises(SpaceFault, match="got none of 1"):
        Pick.read("best accuracy").choose(TRIALS[-1:])
