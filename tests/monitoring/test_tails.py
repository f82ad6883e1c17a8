"""Closed-form tails against what they stand for."""

import numpy as np
import pytest
from scipy.stats import chi2, hypergeom, norm

from monitoring import tails
from monitoring.labelings import Labelings


@pytest.mark.parametrize(("smaller", "total"), [(20, 220), (100, 200), (7, 9), (300, 4_000)])
def test_counts_are_hypergeometric(smaller, total):
    ones = np.array([0, 1, 3, total - 2, total // 2, total])
    counts = tails.Counts(ones, smaller, total, np.array([True] * 4 + [False] * 2))
    assert counts.rare.tolist() == [0, 1, 2, 3]
    assert counts.zeros.tolist() == [False, False, False, True]
    for k in range(3):
        found = counts.log_p(np.full((1, 4), float(k)))[0]
        for p, marked in zip(np.exp(found), (0, 1, 3, 2), strict=True):
            of = hypergeom(total, marked, smaller)
            both = min(2 * min(of.sf(k - 1), of.cdf(k)), 1.0)
            if k <= marked:
                assert p == pytest.approx(both, rel=1e-6)


def test_common_indicators_and_numbers_have_no_counts():
    counts = tails.Counts(np.array([500, 2, 900]), 300, 1_000, np.array([True, False, True]))
    assert len(counts.rare) == 0
    assert counts.log_p(np.zeros((5, 0))).shape == (5, 0)


def test_counts_of_many_columns_are_quick_and_small():
    ones = np.random.default_rng(0).integers(0, 30, 10_000)
    counts = tails.Counts(ones, 50, 4_000, np.ones(10_000, bool))
    assert counts._table.size < 2_000
    assert counts.log_p(np.zeros((3, 10_000))).shape == (3, 10_000)


def test_normal_tails_are_two_sided_and_reach_far():
    z = np.array([0.0, -1.96, 5.0, 40.0], np.float32)
    assert np.exp(tails.normal(z[:3])) == pytest.approx(2 * norm.sf(np.abs(z[:3])), rel=1e-5)
    assert np.isfinite(tails.normal(z)).all()


def test_the_largest_of_independent_features():
    assert tails.largest(np.log([0.01]), 10)[0] == pytest.approx(1 - 0.99**10)
    assert tails.largest(np.array([-800.0, 0.0]), 10) == pytest.approx([1e-300, 1.0])


def test_effective_numbers():
    assert tails.effective(np.eye(7)) == pytest.approx(7)
    assert tails.effective(np.ones((7, 7))) == pytest.approx(1)
    assert tails.effective(np.zeros((7, 7))) == 1


def test_equal_eigenvalues_are_a_chi_squared():
    form = tails.Quadratic.of(6.0, 6.0, 6.0)
    values = np.array([2.0, 6.0, 15.0])
    assert form.tail(values) == pytest.approx(chi2(6).sf(values), rel=1e-6)


@pytest.mark.parametrize("columns", [3, 200])
def test_forms_have_the_moments_that_they_have_under_permutation(columns):
    """Of both makers: the mean, deviation and upper tail over many labelings."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, columns)) @ np.diag(np.linspace(0.2, 2, columns))
    rows = (rows - rows.mean(axis=0)).astype(np.float32)
    m, n = 40, 80
    labelings = Labelings(120, m, 0).draw(4_000)
    coefficients = labelings * (1 / m + 1 / n) - 1 / n
    per = 120 / (m * n) / 119
    values = ((coefficients @ rows) ** 2).sum(axis=1)
    of_features = tails.Quadratic.of_features(rows)
    of_matrix = tails.Quadratic.of_matrix(rows @ rows.T, per)
    for form, found in ((of_features, values / (per * 120)), (of_matrix, values)):
        assert form.mean == pytest.approx(found.mean(), rel=0.05)
        assert form.deviation == pytest.approx(found.std(), rel=0.15)
        for share in (0.5, 0.1, 0.01):
            reached = form.tail(np.quantile(found, [1 - share]))[0]
            assert share / 2 < reached < share * 2


def test_tails_fall_as_the_form_grows_and_never_reach_0():
    form = tails.Quadratic.of_features(np.random.default_rng(0).normal(size=(50, 4)))
    p = form.tail(np.linspace(0, 1e6, 50))
    assert (np.diff(p) <= 0).all()
    assert p[0] == pytest.approx(1, abs=0.02)
    assert (p > 0).all()
