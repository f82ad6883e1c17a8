"""Distances of domains, what a model is worth elsewhere, and what is advised."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.errors import WindowFault
from monitoring.estimates import Interval
from monitoring.transfer import worth
from monitoring.transfer.advice import advise
from monitoring.transfer.distances import Distances, distances


def test_distances_are_small_without_a_shift_and_grow_with_it() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4))
    same = distances(rows[:150], rows[150:], permutations=99)
    near = distances(rows[:150], rows[150:] + 0.5, permutations=99)
    far = distances(rows[:150], rows[150:] + 2.0, permutations=99)
    assert min(same.mmd_p, same.domain_p) > 0.05
    assert near.mmd_p == far.mmd_p == pytest.approx(1 / 100)
    assert same.effect < near.effect < far.effect
    assert same.a_distance < near.a_distance < far.a_distance <= 2
    assert same.effect < 0.02
    assert far.accuracy > 0.95
    assert distances(rows[:150], rows[150:] + 0.5, permutations=99) == near  # by its seed
    with pytest.raises(WindowFault, match="at least 4 rows on each side, got 3 target rows"):
        distances(rows, rows[:3])


def test_the_effect_is_of_the_shift_and_not_of_how_many_rows_there_are() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1_200, 3)), rng.normal(size=(1_200, 3)) + 0.7
    few = [distances(x[i : i + 100], y[i : i + 100], permutations=19).effect for i in (0, 100, 200)]
    assert np.mean(few) == pytest.approx(distances(x, y, permutations=19).effect, rel=0.25)


def classified(n: int, gap: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, honest probabilities of two classes whose points are `gap` apart, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 1)) + gap * (y[:, None] - 0.5)
    late = 1 / (1 + np.exp(-gap * x[:, 0]))
    return x, np.column_stack([1 - late, late]), y


def test_the_foretold_accuracy_is_that_of_harder_rows() -> None:
    _, held, y = classified(1_500, 2.0, 0)
    _, asked, labels = classified(1_500, 1.0, 1)  # of harder rows, and the model knows it
    measured = worth.measured(asked, labels)
    found = worth.foretold(held, y, asked)
    assert measured is not None
    assert found.accuracy.low <= measured.value <= found.accuracy.high
    assert found.agreement is None


def test_where_domains_hardly_overlap_more_may_be_lost_than_is_foretold() -> None:
    _, held, y = classified(1_000, 2.5, 0)
    _, asked, _ = classified(1_000, 1.0, 1)
    near, far = (worth.foretold(held, y, asked, apart=apart).accuracy for apart in (0.0, 1.0))
    assert far.value == near.value
    assert far.high == near.high
    lost = worth.measured(held, y).value - near.value
    assert lost > 0.1
    assert near.low - far.low == pytest.approx(lost / 2)


def test_models_that_agree_less_lower_the_estimate_and_widen_it() -> None:
    _, held, y = classified(1_000, 2.5, 0)
    _, asked, _ = classified(1_000, 2.5, 1)
    rng = np.random.default_rng(2)

    def flipped(proba: np.ndarray, share: float) -> np.ndarray:
        turned = proba.copy()
        rows = rng.random(len(proba)) < share
        turned[rows] = turned[rows, ::-1]
        return turned

    steady = worth.foretold(held, y, asked, others=[(flipped(held, 0.05), flipped(asked, 0.05))])
    shaky = worth.foretold(held, y, asked, others=[(flipped(held, 0.05), flipped(asked, 0.25))])
    assert steady.agreement == pytest.approx(worth.measured(held, y).value, abs=0.04)
    assert shaky.agreement < steady.agreement - 0.1
    assert shaky.accuracy.value < steady.accuracy.value - 0.05
    width = [one.accuracy.high - one.accuracy.low for one in (steady, shaky)]
    assert width[1] > width[0]


def test_a_gain_is_paired_and_never_surer_than_its_rows() -> None:
    right = np.arange(400) < 300
    better = right | (np.arange(400) < 340)
    found = worth.gain(right, better)
    assert found.value == pytest.approx(0.1)
    assert 0.05 < found.low < found.high < 0.15
    same = worth.gain(right, right)
    assert same.low < 0 == same.value < same.high
    assert worth.measured(np.ones((9, 2)), np.zeros(9, dtype=int)) is None


APART = Distances(0.3, 0.2, 0.001, 0.9, 0.95, 1.6, 0.001, (500, 500), ())
HOME = Interval(0.85, 0.82, 0.88)


@pytest.mark.parametrize(
    ("apart", "estimated", "actual", "gains", "own", "action", "reason"),
    [
        (APART, (0.85, 0.84, 0.86), None, {}, None, "serve", "within it, interval included"),
        (APART, (0.85, 0.80, 0.90), None, {}, None, "collect labels", "by reverse validation"),
        (APART, (0.70, 0.60, 0.80), (0.84, 0.80, 0.88), {}, None, "serve", "that is within it"),
        (APART, (0.84, 0.82, 0.86), (0.70, 0.66, 0.74), {"self": (0.05, 0.01, 0.09)}, None,
         "adapt", "adapting by self gains 0.050 (0.010 to 0.090) on labelled target rows"),
        (APART, (0.84, 0.82, 0.86), (0.70, 0.66, 0.74), {"self": (0.05, -0.01, 0.11)}, None,
         "collect labels", "no way to adapt is proven better"),
        (APART, (0.84, 0.82, 0.86), (0.70, 0.66, 0.74), {"self": (0.03, 0.01, 0.05)},
         (0.84, 0.80, 0.88), "collect labels", "a model of the target's labels reaches 0.840"),
        (APART, (0.75, 0.65, 0.85), None, {"mmd": (0.04, 0.01, 0.07)}, None, "adapt",
         "would prove it"),
    ],
)  # fmt: skip
def test_the_advice_follows_from_the_figures(
    apart, estimated, actual, gains, own, action, reason
) -> None:
    found = advise(
        apart,
        HOME,
        Interval(*estimated),
        None if actual is None else Interval(*actual),
        {way: Interval(*gain) for way, gain in gains.items()},
        own=None if own is None else Interval(*own),
    )
    assert found.action == action
    assert any(reason in line for line in found.reasons), found.reasons
    assert found.labels > 500  # for 2 points of accuracy
    assert found.way == (next(iter(gains)) if action == "adapt" else "")
    assert (f"about {found.labels:,} of them" in str(found)) == (action == "collect labels")


def test_domains_that_no_test_tells_apart_are_served() -> None:
    alike = Distances(0.0, 0.0, 0.6, 0.5, 0.5, 0.0, 0.4, (500, 500), ())
    found = advise(alike, HOME, Interval(0.83, 0.75, 0.90), None, {})
    assert str(found) == "serve the model as it is"
    assert "no test tells the domains apart (p 0.6 and 0.4)" in found.reasons
