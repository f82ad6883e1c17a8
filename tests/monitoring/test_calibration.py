from __future__ import annotations

import numpy as np
import pytest

from monitoring.calibration import CURVES, calibrate, calibration_error, choose
from monitoring.errors import WindowFault


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def binary(rows: int, seed: int, *, slope: float = 1.0, shift: float = 0.0):
    """Probabilities that a model gives, the true ones, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.3, 1.5, rows)
    truth = sigmoid(odds * slope + shift)
    codes = (rng.random(rows) < truth).astype(np.int64)
    given = sigmoid(odds)
    return np.column_stack([1 - given, given]), truth, codes


def three(rows: int, seed: int, temperature: float):
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.5, (rows, 3))
    truth = np.exp(odds)
    truth /= truth.sum(axis=1, keepdims=True)
    codes = np.minimum((rng.random((rows, 1)) > truth.cumsum(axis=1)).sum(axis=1), 2)
    given = np.exp(odds * temperature)
    return given / given.sum(axis=1, keepdims=True), truth, codes


@pytest.mark.parametrize("curve", [*CURVES, "mean"])
def test_each_curve_recovers_the_true_probabilities(curve: str) -> None:
    proba, truth, codes = binary(20_000, 0, slope=0.4, shift=-0.7)
    found = calibrate(proba, codes, proba, curve=curve)[0]
    assert np.abs(found[:, 1] - truth).mean() < 0.02
    assert np.abs(proba[:, 1] - truth).mean() > 0.1
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_three_classes_are_calibrated_and_sum_to_one() -> None:
    proba, truth, codes = three(8_000, 1, 3.0)
    found = calibrate(proba, codes, proba)[0]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.abs(found - truth).mean() < 0.4 * np.abs(proba - truth).mean()


def test_calibrated_probabilities_keep_the_order_of_the_scores() -> None:
    proba, _, codes = binary(500, 2, slope=0.5)
    found = calibrate(proba, codes, proba)[0][:, 1]
    assert (np.diff(found[np.argsort(proba[:, 1])]) >= -1e-12).all()


def test_many_fits_at_once_equal_one_by_one() -> None:
    proba, _, codes = binary(600, 3, slope=0.5)
    weights = np.random.default_rng(0).standard_exponential((5, 600))
    together = calibrate(proba, codes, proba, weights=weights)
    alone = np.stack([calibrate(proba, codes, proba, weights=w)[0] for w in weights])
    np.testing.assert_allclose(together, alone, atol=2e-3)


def test_a_weight_of_two_is_the_row_twice() -> None:
    proba, _, codes = binary(300, 4, slope=0.5)
    weights = np.random.default_rng(1).integers(1, 3, 300)
    doubled = np.repeat(np.arange(300), weights)
    a = calibrate(proba, codes, proba, weights=weights.astype(float))
    b = calibrate(proba[doubled], codes[doubled], proba)
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_calibrating_what_is_right_costs_little_and_what_is_not_gains() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2.5, 4_000)
    codes = (rng.random(4_000) < sigmoid(odds)).astype(np.int64)
    proba = np.column_stack([1 - sigmoid(odds), sigmoid(odds)])
    found = choose(proba, codes)
    assert found.losses["mean"] - found.losses["none"] < 0.003
    broken = np.column_stack([1 - sigmoid(4 * odds), sigmoid(4 * odds)])
    worse = choose(broken, codes)
    assert worse.curve == "mean"
    assert worse.losses["mean"] < worse.losses["none"]
    assert worse.error > found.error


def test_the_error_of_calibration_is_known_where_the_truth_is() -> None:
    proba = np.tile([0.2, 0.8], (100, 1))
    codes = np.array([1] * 50 + [0] * 50)
    assert calibration_error(proba, codes, bins=1) == pytest.approx(0.3)


def test_a_class_that_the_reference_lacks_keeps_a_small_share() -> None:
    proba, _, codes = three(400, 5, 1.0)
    codes = np.where(codes == 2, 0, codes)
    found = calibrate(proba, codes, proba)[0]
    assert np.isfinite(found).all()
    assert found[:, 2].mean() < 0.01


@pytest.mark.parametrize("curve", ["mean", "isotonic", "platt"])
def test_separated_constant_and_certain_scores_stay_finite(curve: str) -> None:
    codes = np.array([0] * 50 + [1] * 50)
    for score in (np.repeat([0.0, 1.0], 50), np.full(100, 0.5), np.linspace(0, 1, 100)):
        proba = np.column_stack([1 - score, score])
        found = calibrate(proba, codes, proba, curve=curve)
        assert np.isfinite(found).all()
        assert found.min() >= 0


@pytest.mark.parametrize(
    ("proba", "codes", "options", "says"),
    [
        (np.full((4, 2), 0.5), np.zeros(3, int), {}, "one code a row"),
        (np.full((4, 2), 0.5), np.zeros(4, int), {}, "one class"),
        (np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), {"curve": "spline"}, "a curve is one of"),
        (np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), {"weights": np.ones((1, 3))}, "weights"),
    ],
)
def test_faults_state_the_rule(proba, codes, options, says: str) -> None:
    with pytest.raises(WindowFault, match=says):
        calibrate(proba, codes, proba, **options)
