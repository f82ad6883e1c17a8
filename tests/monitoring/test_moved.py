"""Which columns and pairs moved: step-down p-values, and what is said of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from monitoring.moved import step_down
from monitoring.shift import shift_test


def by_hand(scores):
    """Westfall and Young 1993, algorithm 2.8, as a loop."""
    order = sorted(range(scores.shape[1]), key=lambda c: scores[0, c])
    adjusted, last = np.empty(scores.shape[1]), 0.0
    for place, column in enumerate(order):
        beyond = sum(min(row[order[place:]]) <= scores[0, column] for row in scores)
        last = max(last, beyond / len(scores))
        adjusted[column] = last
    return adjusted


@given(
    hn.arrays(
        np.float64,
        st.tuples(st.integers(1, 20), st.integers(1, 6)),
        elements=st.integers(-5, 0).map(float),
    )
)
@settings(deadline=None, max_examples=60)
def test_step_down_is_the_loops(scores):
    found = step_down(scores)
    assert found == pytest.approx(by_hand(scores))
    assert (found >= (scores <= scores[0]).mean(axis=0) - 1e-12).all()
    assert (found >= 1 / len(scores) - 1e-12).all()


def gaussian(rng, rows, d=5):
    return rng.normal(size=(rows, d))


def correlated(rng, rows):
    x = rng.normal(size=(rows, 5))
    x[:, 1] = 0.9 * x[:, 0] + np.sqrt(0.19) * x[:, 1]
    return x


@pytest.mark.parametrize("make", [gaussian, correlated])
def test_the_family_wise_error_holds_where_one_column_moved(make):
    """The chance that any other column is named at 0.05, with the last one far away."""
    wrong = named = 0
    for seed in range(250):
        rng = np.random.default_rng(seed)
        x, y = make(rng, 25), make(rng, 25)
        y[:, 4] += 3
        found = shift_test(x, y, permutations=99)
        low = {c.names[0] for c in found.columns if c.p_adjusted <= 0.05}
        named += "4" in low
        wrong += bool(low - {"4"})
    assert named == 250
    assert wrong / 250 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 250)


def test_the_family_wise_error_of_pairs_holds():
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = shift_test(gaussian(rng, 25), gaussian(rng, 25), permutations=99)
        wrong += found.pairs[0].p_adjusted <= 0.05
    assert wrong / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def frame(rows, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": rng.normal(size=rows),
            "wind": rng.gamma(2, size=rows),
            "late": rng.random(rows) < 0.4,
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
        }
    )


CHANGES = {
    "up": (lambda f: f.assign(wind=f["wind"] + 1), "wind", "location", 1),
    "down": (lambda f: f.assign(temp=f["temp"] - 1), "temp", "location", -1),
    "wider": (lambda f: f.assign(temp=f["temp"] * 3), "temp", "spread", 1),
    "narrower": (lambda f: f.assign(temp=f["temp"] / 3), "temp", "spread", -1),
    "gaps": (lambda f: f.assign(wind=f["wind"].where(f.index % 3 > 0)), "wind", "wind missing", 1),
    "flag": (lambda f: f.assign(late=True), "late", "location", 1),
    "level": (
        lambda f: f.assign(carrier=f["carrier"].where(f.index % 2 > 0, "UA")),
        "carrier", "carrier = 'UA'", 1,
    ),
    "level gone": (
        lambda f: f.assign(carrier=f["carrier"].where(f["carrier"] != "B6", "UA")),
        "carrier", "carrier = 'B6'", -1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("m", "n"), [(200, 200), (150, 300), (300, 150)])
def test_the_column_that_moved_comes_first_with_what_and_where_to(change, m, n):
    make, column, what, sign = CHANGES[change]
    found = shift_test(frame(m, 1), make(frame(n, 2)))
    first = found.columns[0]
    assert (first.names, first.what) == ((column,), what)
    assert first.z * sign > 3
    assert first.p_adjusted <= 0.01
    assert len(found.columns) == 4
    assert [c.p_adjusted for c in found.columns] == sorted(c.p_adjusted for c in found.columns)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("m", "n"), [(200, 200), (150, 300), (300, 150)])
def test_the_pair_that_moved_comes_first_with_its_sign(sign, m, n):
    x, y = gaussian(np.random.default_rng(1), m), gaussian(np.random.default_rng(2), n)
    y[:, 3] = sign * 0.8 * y[:, 1] + 0.6 * y[:, 3]
    found = shift_test(x, y)
    first = found.pairs[0]
    assert (first.names, first.what) == (("1", "3"), "correlation")
    assert first.z * sign > 3
    assert first.p_adjusted == 0.001
    assert all(c.p_adjusted > 0.01 for c in found.columns)


def test_z_is_in_deviations_under_permutation():
    rng = np.random.default_rng(0)
    z = [
        c.z
        for _ in range(60)
        for c in shift_test(gaussian(rng, 30), gaussian(rng, 50), permutations=99).columns
        if c.what == "location"
    ]
    assert 0.85 < np.std(z) < 1.6  # the larger of location and spread is the one that is told


def test_each_statistic_has_a_p_value_of_its_own():
    rng = np.random.default_rng(0)
    x, y = gaussian(rng, 150), gaussian(rng, 150)
    y[:, 3] = 0.8 * y[:, 1] + 0.6 * y[:, 3]
    parts = shift_test(x, y).parts
    assert parts["pairs, largest"] == 0.001
    assert parts["location, all"] > 0.01
    assert all(0 < p <= 1 for p in parts.values())
    assert set(shift_test(x[:, :1], y[:, :1]).parts) == {
        "location, largest", "spread, largest", "mmd",
    }  # fmt: skip


def test_what_is_not_asked_for_is_left_out():
    found = shift_test(frame(60, 1), frame(60, 2), explain=False)
    assert (found.columns, found.pairs, dict(found.parts)) == ((), (), {})
