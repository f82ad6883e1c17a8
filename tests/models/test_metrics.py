from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from models import metrics
from models.errors import DataFault


def draw(seed: int, k: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.ones(k), n).round(2)  # rounding makes ties
    proba = (proba + 1e-9) / (proba + 1e-9).sum(1, keepdims=True)
    return np.r_[np.arange(k), rng.integers(0, k, n - k)], proba


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 4))
def test_they_are_scikit_learns(seed: int, k: int) -> None:
    y, proba = draw(seed, k)
    assert metrics.log_loss(y, proba) == pytest.approx(
        reference.log_loss(y, proba, labels=range(k))
    )
    assert metrics.accuracy(y, proba) == pytest.approx(reference.accuracy_score(y, proba.argmax(1)))
    assert metrics.error(y, proba) == pytest.approx(1 - metrics.accuracy(y, proba))
    score = proba[:, 1] if k == 2 else proba
    expected = reference.roc_auc_score(y, score, multi_class="ovr", average="macro")
    assert metrics.roc_auc(y, proba) == pytest.approx(expected)
    assert metrics.one_minus_auc(y, proba) == pytest.approx(1 - expected)


def test_a_sure_miss_costs_a_finite_loss() -> None:
    assert metrics.per_row_log_loss([0], [[0.0, 1.0]])[0] == pytest.approx(36.04, abs=0.01)


def test_the_weighted_area_is_that_of_repeated_rows() -> None:
    y, proba = draw(3, 2)
    counts = np.random.default_rng(0).integers(0, 4, (5, len(y)))
    areas = metrics.weighted_auc(y == 1, proba[:, 1], counts)
    for area, weight in zip(areas, counts, strict=True):
        rows = np.repeat(np.arange(len(y)), weight)
        assert area == pytest.approx(metrics.roc_auc(y[rows], proba[rows]))


def test_an_area_without_both_classes_is_no_number_but_a_fault() -> None:
    proba = np.full((3, 2), 0.5)
    with pytest.raises(DataFault, match="ROC AUC ranks two or more classes, got only class 0"):
        metrics.roc_auc([0, 0, 0], proba)
    assert set(metrics.measure([0, 0, 0], proba)) == {"log_loss", "error", "accuracy"}
    assert set(metrics.measure([0, 1, 0], proba)) == {"log_loss", "error", "accuracy", "roc_auc"}


def test_classes_that_are_not_there_are_left_out_of_the_mean() -> None:
    y, proba = draw(1, 3)
    two = y < 2
    area = metrics.roc_auc(y[two], proba[two])
    ones = [metrics.weighted_auc(y[two] == c, proba[two][:, c])[0] for c in (0, 1)]
    assert area == pytest.approx(np.mean(ones))


@pytest.mark.parametrize(
    ("y", "proba", "message"),
    [
        ([0], [0.5, 0.5], r"need y \(n,\) and proba \(n, k\)"),
        ([0, 1], [[0.5, 0.5]], "one row of probabilities per label"),
        ([], np.empty((0, 2)), "n > 0"),
        ([2], [[0.5, 0.5]], "labels are codes from 0 to 1"),
        ([-1], [[0.5, 0.5]], "labels are codes"),
        ([0.0], [[0.5, 0.5]], "labels are codes"),
        ([0, 0], [[0.5, 0.5], [np.nan, 0.5]], r"in row 1 \(1 such rows\)"),
        ([0], [[np.inf, 0.5]], "finite"),
        ([0], [[0.2, 0.2]], "sums to 1"),
        ([0], [[1.5, -0.5]], "not negative"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.log_loss, metrics.error, metrics.roc_auc])
def test_what_is_no_distribution_is_refused(metric, y: list, proba: list, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        metric(y, proba)


def test_an_objective_by_its_name() -> None:
    y, proba = draw(0, 2)
    assert metrics.objective("log_loss")(y, proba) == metrics.log_loss(y, proba)
    with pytest.raises(DataFault, match=r"one of log_loss, error, one_minus_auc, got 'rmse'"):
        metrics.objective("rmse")
