"""The shift test rejects as often as its level says where nothing moved, whatever the rows."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from monitoring.shift import shift_test
from monitoring.units import of_rows

TIMES = 240  # repetitions; bounds are 4 standard errors


def gaussian(rng, rows):
    return rng.normal(size=(rows, 3))


def tied(rng, rows):
    """Two values, three values, and many rare ones."""
    return np.stack(
        [rng.integers(0, 2, rows), rng.integers(0, 3, rows), rng.random(rows) < 0.05], axis=1
    )


def many_levels(rng, rows):
    """A category with more levels than rows."""
    return pd.DataFrame(
        {"city": rng.integers(0, 300, rows).astype(str), "size": rng.normal(size=rows)}
    )


def few_levels(rng, rows):
    return pd.DataFrame(
        {"carrier": rng.choice(["AA", "B6", "UA"], rows, p=[0.7, 0.27, 0.03]), "delay": 0.0}
    )


def incomplete(rng, rows):
    x = rng.normal(size=(rows, 3))
    x[rng.random((rows, 3)) < [0.3, 0.02, 0.0]] = np.nan
    return x


def heavy(rng, rows):
    return rng.standard_cauchy((rows, 2))


def rejections(make, m, n, seeds=TIMES, **options):
    """p-values of tests without drift."""
    options = {"permutations": 99, "explain": False, **options}
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        found.append(shift_test(make(rng, m), make(rng, n), **options).p_value)
    return np.array(found)


def assert_level(p_values, *, least=0.0):
    """Within 4 standard errors of 0.05 and 0.01; below by any amount where ties are frequent."""
    for level in (0.05, 0.01):
        error = 4 * np.sqrt(level * (1 - level) / len(p_values))
        rejected = (p_values <= level + 1e-12).mean()
        assert rejected <= level + error
        assert rejected >= least * (level - error)


@pytest.mark.parametrize(("m", "n"), [(30, 30), (20, 60), (60, 20)])
def test_gaussian_rows(m, n):
    assert_level(rejections(gaussian, m, n), least=1.0)


@pytest.mark.parametrize("make", [tied, incomplete, heavy])
def test_rows_of_every_kind(make):
    assert_level(rejections(make, 20, 40))


@pytest.mark.parametrize("make", [many_levels, few_levels])
def test_categories(make):
    assert_level(rejections(make, 20, 40, seeds=150))


def test_a_small_side_beside_a_large_one():
    assert_level(rejections(gaussian, 20, 200), least=1.0)


def test_two_rows_beside_thirty():
    assert_level(rejections(gaussian, 2, 30))


@pytest.mark.parametrize(("m", "n"), [(60, 60), (60, 100)])
@pytest.mark.parametrize("make", [gaussian, tied])
def test_bins_of_rows(monkeypatch, make, m, n):
    """The seed stays the same throughout, as it may from check to check."""
    monkeypatch.setattr(
        "monitoring.shift.of_rows", lambda *a, **_: of_rows(*a, most=24, least=8, cap=10_000)
    )
    found = rejections(lambda rng, rows: make(rng, rows)[:, :1], m, n)
    assert_level(found, least=1.0 if make is gaussian else 0.0)


def test_a_larger_side_of_which_only_some_rows_enter(monkeypatch):
    monkeypatch.setattr("monitoring.units._LEAST_LARGER", 16)
    monkeypatch.setattr("monitoring.units._LARGER", 2)
    for n in (44, 90):
        assert_level(rejections(lambda rng, rows: rng.normal(size=(rows, 1)), 20, n, seeds=200))


@pytest.mark.parametrize("route", ["kernel", "features"])
def test_blocks_of_rows_that_resemble_their_neighbours(route):
    def weather(rng, rows):
        steps = rng.normal(size=(rows + 20, 2)) * np.sqrt(0.75)
        return lfilter([1], [1, -0.5], steps, axis=0)[20:]  # blocks are far longer than its memory

    ids = np.arange(300) // 30
    found = rejections(weather, 300, 300, seeds=150, blocks=(ids, ids), route=route)
    assert_level(found)
    naive = rejections(weather, 300, 300, seeds=40)
    assert (naive <= 0.05).mean() > 0.1  # what blocks are for


@pytest.mark.parametrize("make", [gaussian, many_levels])
def test_the_linear_route(make):
    assert_level(rejections(make, 40, 40, seeds=150, route="features"))


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_p_values_that_stop_early(level):
    """P(p <= a) <= a at the level, and above it."""
    p_values = rejections(gaussian, 20, 25, seeds=500, permutations=19, level=level)
    for a in (level, 2 * level, 0.3, 0.5):
        assert (p_values <= a + 1e-12).mean() <= a + 4 * np.sqrt(a * (1 - a) / 500)
    assert (p_values <= level).mean() >= level / 3


def test_types_that_differ_by_side_are_no_drift():
    """Values with few digits, as float32 on one side: rounding tells the sides apart."""

    def rounded(rng, rows):
        return np.round(rng.normal(size=(rows, 2)), 1)

    p_values = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x, y = rounded(rng, 40).astype(np.float32), rounded(rng, 40)
        p_values.append(shift_test(x, y, permutations=99, explain=False).p_value)
    assert_level(np.array(p_values))
