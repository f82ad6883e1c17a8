"""Distances of columns, with what chance brings taken off."""

import numpy as np
import pandas as pd
import pytest

from monitoring.effects import distances

COLUMNS = {"n": "number", "c": "category"}


def frame(rows, seed, *, shift=0.0, first=0.1, gaps=0.0):
    rng = np.random.default_rng(seed)
    rest = (1 - first) / 9
    n = rng.normal(shift, size=rows)
    n[rng.random(rows) < gaps] = np.nan
    return pd.DataFrame({"n": n, "c": rng.choice(list("abcdefghij"), rows, p=[first] + [rest] * 9)})


@pytest.mark.parametrize("rows", [100, 1_000, 30_000])
def test_without_change_the_distance_is_near_zero_for_any_number_of_rows(rows):
    found = [distances(frame(2_000, i), frame(rows, 100 + i), COLUMNS) for i in range(20)]
    for name in COLUMNS:
        assert np.mean([d[name] for d in found]) < 0.03


def test_a_shift_has_the_distance_of_the_two_distributions():
    found = distances(frame(20_000, 1), frame(20_000, 2, shift=0.5), COLUMNS)
    assert found["n"] == pytest.approx(0.1974, abs=0.02)  # 2 Phi(0.25) - 1
    assert list(found) == ["n", "c"]
    found = distances(frame(20_000, 1), frame(20_000, 2, first=0.4), COLUMNS)
    assert found["c"] == pytest.approx(0.3, abs=0.02)


def test_missing_values_count_by_their_share():
    found = distances(frame(4_000, 1), frame(4_000, 2, gaps=0.6), COLUMNS)
    assert found["n"] == pytest.approx(0.6, abs=0.03)


def test_columns_and_rows_that_are_not_there():
    whole = frame(500, 1)
    assert distances(whole, whole[["n"]], COLUMNS)["c"] == 1.0
    assert distances(whole, whole.iloc[:0], COLUMNS) == {}
    empty = whole.assign(n=np.nan)
    assert "n" not in distances(empty, empty, COLUMNS)
    assert distances(whole, empty, COLUMNS)["n"] == 1.0


def test_the_order_of_rows_does_not_matter():
    old, new = frame(500, 1), frame(400, 2, shift=0.3)
    shuffled = new.sample(frac=1, random_state=0)
    assert distances(old, new, COLUMNS) == distances(old, shuffled, COLUMNS)
