"""Labelings are uniform, and p-values that stop early are valid."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from monitoring.labelings import Labelings, exceedances, rank


@pytest.mark.parametrize(("units", "smaller"), [(6, 2), (5, 4), (6, 3)])
def test_every_labeling_is_as_likely(units, smaller):
    drawn = Labelings(units, smaller, 0).draw(6_000)
    assert (drawn.sum(axis=1) == smaller).all()
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == len(list(combinations(range(units), smaller)))
    assert chisquare(counts).pvalue > 0.001


def test_keys_that_tie_are_drawn_again():
    """With more units than keys, hardly a draw is without ties; all are whole all the same."""
    for units, smaller in ((4_095, 2_000), (9_000, 17)):
        drawn = Labelings(units, smaller, 0).draw(200)
        assert drawn.shape == (200, units)
        assert (drawn.sum(axis=1) == smaller).all()
        assert set(np.unique(drawn)) == {0, 1}


def test_portions_are_the_whole():
    whole = Labelings(50, 20, 3).draw(300)
    portions = Labelings(50, 20, 3)
    parts = [portions.draw(count) for count in (1, 0, 70, 129, 100)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(Labelings(50, 20, 3, key=1).draw(300), whole)
    assert not np.array_equal(Labelings(50, 20, 4).draw(300), whole)


@pytest.mark.parametrize("smaller", [0, 5])
def test_one_side_alone_has_one_labeling(smaller):
    assert (Labelings(5, smaller, 0).draw(70) == (smaller > 0)).all()


def by_hand(values, observed, *, permutations, level):
    """Besag and Clifford's p-value, one draw after the other."""
    enough = 5 if level >= 1e-3 else 2
    total = max(permutations, int(np.ceil(enough / level - 1e-9)) - 1)
    beyond = 0
    for drawn, value in enumerate(values[:total], 1):
        beyond += value >= observed
        if beyond == enough:
            return enough / drawn
    return (1 + beyond) / (1 + total)


@pytest.mark.parametrize("observed", [0.0, 1.5, 2.3, 9.0])
@pytest.mark.parametrize("most", [7, 1_000])
def test_the_sequential_p_value_is_the_loops(observed, most):
    values = np.random.default_rng(0).normal(size=10_000)
    stream = iter(values)

    def statistic(labelings):
        return np.array([next(stream) for _ in labelings])

    found = rank(observed, statistic, Labelings(4, 2, 0), permutations=99, level=0.01, most=most)
    assert found.p_value == by_hand(values, observed, permutations=99, level=0.01)
    assert found.stopped == (found.permutations < 499)


@pytest.mark.parametrize("level", [None, 0.01])
def test_a_labeling_that_was_seen_ranks_as_its_value_does(level):
    weights = np.random.default_rng(3).normal(size=40)

    def statistic(labelings):
        return np.abs(labelings @ weights)

    seen = np.r_[np.ones(15, np.int8), np.zeros(25, np.int8)]
    given = {"permutations": 99, "level": level, "most": 50}
    value = float(statistic(seen[None])[0])
    by_value = rank(value, statistic, Labelings(40, 15, 1), **given)
    by_labeling = rank(seen, statistic, Labelings(40, 15, 1), **given)
    assert by_labeling.p_value == by_value.p_value
    assert by_labeling.permutations == by_value.permutations
    assert by_labeling.observed == pytest.approx(value)


def test_the_sequential_p_value_is_valid_and_cheap_at_any_level():
    """Of a statistic whose rank is uniform: P(p <= a) <= a, and few draws in the usual case."""
    rng = np.random.default_rng(0)
    for level in (0.05, 0.01, 0.001):
        found = [
            rank(
                rng.normal(),
                lambda labelings: rng.normal(size=len(labelings)),
                Labelings(2, 1, 0),
                permutations=19,
                level=level,
                most=10_000,
            )
            for _ in range(1_500)
        ]
        p_values = np.array([each.p_value for each in found])
        for a in (level, 3 * level, 0.2, 0.5):
            assert (p_values <= a).mean() <= a + 4 * np.sqrt(a * (1 - a) / 1_500)
        assert np.median([each.permutations for each in found]) <= 2 * exceedances(level)


def test_all_that_is_asked_for_is_drawn_without_a_level():
    found = rank(
        0.0,
        lambda many: np.ones(len(many)),
        Labelings(4, 2, 0),
        permutations=99,
        level=None,
        most=8,
    )
    assert (found.p_value, found.permutations, found.stopped) == (1.0, 99, False)


@pytest.mark.parametrize("noise", [-1e-6, 0.0, 1e-6])
def test_rounding_errors_do_not_break_ties(noise):
    found = rank(
        3.0,
        lambda many: np.full(len(many), 3.0 + noise),
        Labelings(4, 2, 0),
        permutations=99,
        level=None,
        most=100,
    )
    assert found.p_value == 1.0
