"""What a trial is predicted to cost, and when that counts."""

from __future__ import annotations

import numpy as np
import pytest

from models import families
from models.records import Trial
from models.search.cost import CostModel, full_seconds, weigh
from models.search.regression import Regression
from models.space import Categorical, Float, Int, Space

SPACE = Space(
    (
        Categorical("family", ("trees", "line")),
        Int("trees", 10, 1_000, log=True, when=("family", ("trees",))),
        Float("C", 0.01, 1.0, log=True, when=("family", ("line",))),
    )
)


def took(params) -> float:
    return 0.02 * params["trees"] if params["family"] == "trees" else 0.05


def trials(count: int, seed: int = 0, noise: float = 0.1) -> list[Trial]:
    rng = np.random.default_rng(seed)
    drawn = [SPACE.decode(rng.random(3)) for _ in range(count)]
    seconds = [took(p) * float(np.exp(noise * rng.normal())) for p in drawn]
    return [
        Trial(i, p, "complete", 0.1, s, 0)
        for i, (p, s) in enumerate(zip(drawn, seconds, strict=True))
    ]


def test_seconds_are_foretold_over_orders_of_magnitude() -> None:
    model = CostModel(SPACE, trials(20))
    points = np.random.default_rng(9).random((50, 3))
    found = model.seconds(points)
    real = np.array([took(p) for p in SPACE.decode_many(points)])
    assert np.abs(np.log(found / real)).max() < 0.7
    assert np.median(np.abs(np.log(found / real))) < 0.2


def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    held = []
    for seed in range(30):
        told = trials(11, seed, noise=0.3)
        model = CostModel(SPACE, told[:10])
        held.append(told[10].seconds <= model.at_most(told[10].params))
    assert 0.75 <= np.mean(held) <= 1.0
    assert CostModel(SPACE, []).at_most({"family": "line", "C": 0.1}) > 0  # a guess, and wide


def test_a_stopped_trial_tells_what_the_whole_takes() -> None:
    stopped = Trial(0, {}, "stopped", 0.4, 2.0, 0, fidelity=0.25)
    assert full_seconds(stopped) == 8.0
    assert full_seconds(Trial(0, {}, "failed", None, 2.0, 0, error="FitTimeout: so")) == 2.0
    assert full_seconds(Trial(0, {}, "failed", None, 2.0, 0, error="MemoryError")) is None
    assert full_seconds(Trial(0, {}, "complete", 0.1, 0.0, 0)) is None


def test_cost_counts_only_where_the_seconds_bind() -> None:
    promise, seconds = np.array([-1.0, -1.2, -3.0]), np.array([10.0, 1.0, 0.5])
    assert weigh(promise, seconds, 1_000.0, 10) is promise
    bound = weigh(promise, seconds, 8.0, 20)
    assert bound.argmax() == 1
    # a late search weighs the seconds less; what would end too late is last all the same
    late = weigh(promise, np.array([4.0, 1.0, 0.5]), 8.0, 20, share=0.1)
    assert late.argmax() == 0
    assert weigh(promise, seconds, 8.0, 20, share=0.0).argmin() == 0
    for left in ((0.0, 5), (5.0, 0)):
        assert weigh(promise, seconds, *left) is promise
    assert len(weigh(promise[:0], seconds[:0], 5.0, 5)) == 0


def test_a_regression_without_points_is_its_prior() -> None:
    model = Regression.fit(
        np.zeros((0, 2)), np.zeros(0), start=np.array([1.0, 2.0]), spreads=np.ones(2),
        noise=0.5, strength=4.0,
    )  # fmt: skip
    location, scale = model.predict(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert location == pytest.approx([1.0, 0.0])
    assert scale == pytest.approx([np.sqrt(1.25), 0.5])
    assert model.freedom == 4.0


def test_every_family_of_the_joined_space_has_a_cost() -> None:
    space = families.space(["hgb", "forest", "mlp", "logistic"])
    rng = np.random.default_rng(0)
    drawn = [space.decode(rng.random(len(space))) for _ in range(12)]
    model = CostModel(space, [Trial(i, p, "complete", 0.1, 1.0, 0) for i, p in enumerate(drawn)])
    assert model.seconds(rng.random((20, len(space)))) == pytest.approx(np.ones(20), rel=0.3)
