"""The domain classifier: an exact level, power where it matters, and honest held-out figures."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from monitoring.crossfit import Expansion, Refits
from monitoring.domain import domain_signal, domain_test
from monitoring.errors import WindowFault
from monitoring.records import Kind, to_dict

COLUMNS = {"temp": "number", "wind": "number", "carrier": "category"}


def rows(seed, count=200, width=10):
    return np.random.default_rng(seed).normal(size=(count, width))


def frame(count=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": rng.normal(50, 20, count),
            "wind": rng.gamma(2, 5, count),
            "carrier": rng.choice(["AA", "B6", "UA"], count),
        }
    )


def quick(x, y, **options):
    return domain_test(x, y, repeats=0, **options)


def within_monte_carlo_error(rejected, level):
    """A two-sided 99.9 % interval of the binomial: one false failure in a thousand settings."""
    low, high = binom.interval(0.999, len(rejected), level)
    return low <= np.sum(rejected) <= high


def test_rejects_as_often_as_its_level_says_without_drift():
    found = [
        quick(rows([1, r], 50, 3), rows([2, r], 30, 3), permutations=99, folds=5, seed=r).p_value
        for r in range(400)
    ]
    for level in (0.01, 0.05, 0.2, 0.5):
        assert within_monte_carlo_error(np.array(found) <= level, level), level


def test_stopping_early_keeps_the_level():
    found = [
        quick(rows([3, r], 40, 2), rows([4, r], 40, 2), level=0.05, permutations=19, folds=4)
        for r in range(300)
    ]
    p = np.array([f.p_value for f in found])
    assert within_monte_carlo_error(p <= 0.05, 0.05)
    assert np.median([f.permutations for f in found]) < 59  # 59 settle p <= 0.05


def _correlated(x):
    x[:, 1] = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
    return x


CHANGES = {  # name: (change, power it must have at 5 % with 200 + 200 rows of 10 columns)
    "every mean": (lambda x: x + 0.15, 0.6),
    "one mean": (lambda x: x + 0.45 * (np.arange(10) == 0), 0.6),
    "one pair correlated": (_correlated, 0.6),
    "scale": (lambda x: 1.15 * x, 0.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_sees_changes_of_every_kind(name):
    change, power = CHANGES[name]
    found = [
        quick(rows([5, r]), change(rows([6, r])), permutations=99, seed=r).p_value <= 0.05
        for r in range(25)
    ]
    assert np.mean(found) >= power


def test_figures_are_those_of_held_out_rows():
    """Nothing moved and 40 columns to overfit on: held-out figures stay at chance."""
    found = [
        quick(rows([7, r], 60, 40), rows([8, r], 60, 40), permutations=9, seed=r) for r in range(10)
    ]
    assert abs(np.mean([f.auc for f in found]) - 0.5) < 0.05
    assert abs(np.mean([f.accuracy for f in found]) - 0.5) < 0.05


def test_known_distributions_give_their_best_accuracy():
    """Means 2 apart: the best accuracy is Phi(1) = 0.841, the area Phi(sqrt 2) = 0.921."""
    found = domain_test(rows(1, 2000, 3), rows(2, 1000, 3) + np.array([2, 0, 0]), permutations=99)
    assert found.accuracy == pytest.approx(0.841, abs=0.025)
    assert found.auc == pytest.approx(0.921, abs=0.02)
    assert found.a_distance == pytest.approx(2 * (2 * found.accuracy - 1))
    assert found.rows == (2000, 1000)


def test_importances_name_the_columns_that_moved():
    x, y = rows(1, 500), rows(2, 500)
    y[:, 4] += 1
    y[:, 7] *= 2
    importances = domain_test(x, y, permutations=99).importances
    assert list(importances)[:2] == ["column 4", "column 7"]
    assert importances["column 7"] > 5 * max(list(importances.values())[2:])


def test_sides_may_be_exchanged_and_units_changed():
    x, y = rows(1, 300, 4), rows(2, 300, 4) + 0.3
    found, scaled = domain_test(x, y), domain_test(np.exp(5 * x) * 1e6, np.exp(5 * y) * 1e6)
    assert scaled.auc == pytest.approx(found.auc, abs=1e-9)
    assert domain_test(y, x).auc == pytest.approx(found.auc, abs=0.03)
    assert domain_test(x, y) == found


def test_refits_are_those_of_one_labelling_at_a_time():
    """The matrix product over labellings equals training each classifier by itself."""
    rng = np.random.default_rng(0)
    x, fold = rows(3, 60, 3), np.arange(60) % 3
    expansion = Expansion.fit(x, rng)
    features = expansion(x)
    refits = Refits.prepare(features, 3, expansion.base, fold)
    labels = [rng.normal(size=(5, 20)) for _ in range(3)]
    found = refits.statistics(labels)
    for b in range(5):
        y = np.zeros(60)
        for k in range(3):
            y[fold == k] = labels[k][b]
        by_hand = 0.0
        for k in range(3):
            train, test = features[fold != k, :3], features[fold == k, :3]
            weights = np.linalg.solve(
                train.T @ train / len(train) + np.eye(3), train.T @ y[fold != k]
            )
            by_hand += y[fold == k] @ test @ weights
        assert found[0, b] == pytest.approx(by_hand)


@pytest.mark.parametrize("name", ["missing", "new category", "mix"])
def test_mixed_columns(name):
    current = frame(seed=1)
    if name == "missing":
        current.loc[::5, "wind"] = None
        culprit = "wind"
    elif name == "new category":
        current.loc[::10, "carrier"] = "ZZ"
        culprit = "carrier"
    else:
        culprit = "carrier"
        current.loc[current["carrier"] == "AA", "carrier"] = "UA"
    assert domain_test(frame(), frame(seed=2), COLUMNS).p_value > 0.01
    found = domain_test(frame(), current, COLUMNS)
    assert found.p_value == 0.001
    assert next(iter(found.importances)) == culprit


def test_odd_columns_are_no_obstacle():
    odd = {
        "text": ["1", "2", "x"] * 20,
        "flag": [True, False, None] * 20,
        "none": [None] * 60,
        "constant": [3.0] * 60,
        "huge": [1e308, -np.inf, np.inf] * 20,
    }
    kinds = dict.fromkeys(odd, "number")
    found = domain_test(pd.DataFrame(odd), pd.DataFrame(odd), kinds, permutations=99)
    assert found.p_value > 0.05
    still = pd.DataFrame({"a": [1.0] * 50})
    found = domain_test(still, still, {"a": "number"}, permutations=99)
    assert (found.p_value, found.auc, found.accuracy, found.a_distance) == (1.0, 0.5, 0.5, 0.0)


def test_ten_thousand_columns():
    x, y = rows(1, 60, 10_000), rows(2, 60, 10_000)
    y[:, 17] += 8
    found = domain_test(x, y, permutations=99, folds=2, repeats=1)
    assert found.p_value == 0.01
    assert next(iter(found.importances)) == "column 17"


def test_is_quick():
    x, y = rows(1, 1000), rows(2, 1000)
    started = time.process_time()
    domain_test(x, y)
    assert time.process_time() - started < 2  # about 0.2 s on a quiet core


def test_a_small_level_is_reached_only_where_something_moved():
    found = domain_signal(frame(), frame(seed=2), COLUMNS, p_value=1e-5)
    assert found.breached is False
    assert found.detail["permutations"] < 5_000
    moved = frame(seed=3).assign(temp=lambda f: f["temp"] + 30)
    found = domain_signal(frame(), moved, COLUMNS, p_value=1e-4)
    assert found.breached is True
    assert found.p_value <= 1e-4
    assert (found.name, found.kind, found.rows) == ("domain_classifier", Kind.DRIFT, 400)
    assert found.detail["importances"][0]["column"] == "temp"
    json.dumps(to_dict(found))


@pytest.mark.parametrize("count", [0, 1, 199])
def test_too_few_rows_cannot_say(count):
    found = domain_signal(frame(), frame(count), COLUMNS)
    assert found.breached is None
    assert found.reason == f"{count} current rows; at least 200 are needed"
    assert domain_signal(frame(count), frame(), COLUMNS).breached is None


def test_rows_that_cannot_be_read():
    found = domain_signal(frame(), frame().drop(columns="wind"), COLUMNS)
    assert found.breached is None
    assert "'wind'" in found.reason
    for bad in (
        lambda: domain_test(rows(1, 3), rows(2, 3)),
        lambda: domain_test(rows(1), rows(2, width=9)),
        lambda: domain_test(frame(), frame(), {}),
        lambda: domain_test(frame(), frame(), {"temp": "colour"}),
        lambda: domain_test(rows(1), rows(2), level=1.5),
    ):
        with pytest.raises(WindowFault):
            bad()
