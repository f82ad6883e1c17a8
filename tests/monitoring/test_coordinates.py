"""Coordinates of mixed columns: scores, indicators, and which columns are left out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from monitoring.coordinates import LEVELS, Coordinates
from monitoring.errors import WindowFault


def fit(columns, kinds=None):
    frame = pd.DataFrame(columns)
    coordinates = Coordinates.fit(frame, kinds)
    return coordinates, coordinates.transform(frame)


def test_numbers_become_normal_scores():
    values = np.random.default_rng(0).gamma(1, size=99)
    coordinates, points = fit({"a": values})
    ranks = np.argsort(np.argsort(values)) + 0.5
    assert points[:, 0] == pytest.approx(norm.ppf(ranks / 99), abs=1e-6)
    assert coordinates.names == ("a",)
    assert not coordinates.indicator.any()


@given(st.lists(st.sampled_from([-np.inf, -1e305, -1.0, 0.0, 2.0, 1e305, np.inf]), min_size=3))
@settings(deadline=None, max_examples=40)
def test_scores_keep_order_and_ties_share_them(values):
    _, points = fit({"a": values})
    if len(set(values)) < 2:
        assert points.shape == (len(values), 0)
        return
    assert np.isfinite(points).all()
    order = np.argsort(values, kind="stable")
    ordered, scores = np.array(values)[order], points[order, 0]
    capped = np.clip(ordered, -1e300, 1e300)
    assert (scores[1:] >= scores[:-1]).all()
    assert (scores[1:][capped[1:] == capped[:-1]] == scores[:-1][capped[1:] == capped[:-1]]).all()


def test_many_distinct_values_keep_their_scores_closely():
    values = np.random.default_rng(0).normal(size=20_000)
    _, points = fit({"a": values})
    scores = norm.ppf((np.argsort(np.argsort(values)) + 0.5) / 20_000)
    inner = np.abs(scores) < 3
    assert points[inner, 0] == pytest.approx(scores[inner], abs=2e-2)
    assert points[~inner, 0] == pytest.approx(scores[~inner], abs=0.5)


def test_gaps_have_an_indicator_and_stand_in_the_middle():
    coordinates, points = fit({"a": [1.0, np.nan, 3.0, 5.0]})
    assert coordinates.names == ("a", "a missing")
    assert coordinates.indicator.tolist() == [False, True]
    assert points[1].tolist() == [0.0, 1.0]
    assert points[:, 1].tolist() == [0, 1, 0, 0]


def test_two_values_are_an_indicator():
    for values in ([2, 7, 7, 2], [True, False, False, True]):
        coordinates, points = fit({"a": values})
        assert coordinates.indicator.all()
        assert set(points[:, 0]) == {0.0, 1.0}


def test_levels_have_indicators_and_rare_ones_share_one():
    values = ["a"] * 9 + ["b"] * 5 + ["c", "d", "d", None]
    coordinates, points = fit({"x": values})
    assert coordinates.names == ("x = 'a'", "x = 'b'", "x rare", "x missing")
    assert points.sum(axis=0).tolist() == [9, 5, 3, 1]
    assert (points.sum(axis=1) == 1).all()
    many = [str(i) for i in range(60) for _ in range(6)]
    coordinates, points = fit({"x": many})
    assert len(coordinates.names) == LEVELS + 1
    assert (points.sum(axis=1) == 1).all()


def test_levels_that_were_not_there_are_rare():
    coordinates, _ = fit({"x": ["a"] * 9 + ["b"] * 5 + ["c"]})
    assert coordinates.transform(pd.DataFrame({"x": ["zz", None]})).tolist() == [
        [0, 0, 1],
        [0, 0, 0],
    ]


@pytest.mark.parametrize(
    "column",
    [
        [1, 1, 1],
        [np.nan] * 3,
        ["a"] * 3,
        [None] * 3,
        [np.inf] * 3,
        pd.array([None] * 3, dtype="Int64"),
        pd.Categorical([None] * 3),
        list("abc"),  # all rare: one indicator that is always 1
    ],
)
def test_what_does_not_vary_is_left_out(column):
    coordinates, points = fit({"still": column, "a": [1, 2, 3]})
    assert coordinates.names == ("a",)
    assert coordinates.columns[0].name == "a"
    assert points.shape == (3, 1)


@pytest.mark.parametrize(
    ("column", "number"),
    [
        ([1, None, 3], True),
        (pd.Series([1, None, 3], dtype=object), True),
        (pd.array([1, None, 3], dtype="Int64"), True),
        (pd.array([1.5, None, 3], dtype="Float32"), True),
        (pd.array([True, None, False], dtype="boolean"), True),
        (["1", None, "3"], False),
        (pd.Categorical([1, 2, 3]), False),
        (pd.date_range("2026-01-01", periods=3), False),
    ],
)
def test_types_say_what_a_column_is(column, number):
    coordinates = Coordinates.fit(pd.DataFrame({"a": column}))
    if not coordinates.columns:
        assert not number
        return
    assert hasattr(coordinates.columns[0], "scores") == number


def test_kinds_overrule_types():
    columns = {"code": [1, 1, 1, 1, 1, 2, 2, 2, 2, 2], 3: ["1", "2", "x", "4", "5"] * 2}
    coordinates, points = fit(columns, {"code": "category", 3: "number"})
    assert coordinates.names == ("code = '1'", "code = '2'", "3", "3 missing")
    assert points[2, 3] == 1
    array = np.array(columns["code"], float)[:, None]
    coordinates = Coordinates.fit(array, {"0": "category"})
    assert coordinates.transform(array).sum(axis=0).tolist() == [5, 5]
    with pytest.raises(WindowFault, match="a 'number' or a 'category'"):
        fit(columns, {"code": "int"})


def test_names_are_told_apart():
    with pytest.raises(WindowFault, match=r"\['1'\] are there more than once"):
        Coordinates.fit(pd.DataFrame([[1, 2], [2, 3]], columns=[1, "1"]))
    coordinates, _ = fit({"days missing": [1.0, 2.0, 3.0]})
    assert not coordinates.indicator.any()


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=50), "b": rng.integers(0, 9, 50).astype(str)})
    order = rng.permutation(50)
    points = Coordinates.fit(frame).transform(frame)
    shuffled = frame.iloc[order]
    assert np.array_equal(Coordinates.fit(shuffled).transform(shuffled), points[order])


@pytest.mark.parametrize("how", ["untied", "float32", "tied", "gaps", "infinite", "two rows"])
def test_fitting_and_placing_at_once_changes_nothing(how):
    rows = np.random.default_rng(4).normal(size=(2 if how == "two rows" else 90, 4))
    if how == "float32":
        rows = rows.astype(np.float32).astype(np.float64)
    if how == "tied":
        rows[:, 1] = rows[:, 1].round()
    if how == "gaps":
        rows[5, 2] = np.nan
    if how == "infinite":
        rows[7, 0] = np.inf
    fitted = Coordinates.fit(rows)
    at_once, points = Coordinates.placed(rows)
    assert np.array_equal(points, fitted.transform(rows))
    assert at_once.names == fitted.names
    assert np.array_equal(at_once.indicator, fitted.indicator)
    new = np.random.default_rng(5).normal(size=(50, 4))
    assert np.array_equal(at_once.transform(new), fitted.transform(new))
