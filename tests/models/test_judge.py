"""The learnt choice among promising points, and the outcomes it was taught on."""

from __future__ import annotations

import numpy as np
import pytest

from models.records import Trial
from models.search.acquisition import log_expected_improvement
from models.search.base import generator
from models.search.controller import Controller
from models.search.judge import WEIGHTS, distance, features, judged
from models.search.policy_net import Layout, Policy
from models.search.predictor import Pool, Predictor
from models.search.proposing import Settings
from models.search.surrogate import Surrogate
from models.space import Categorical, Float, Space

SPACE = Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0), Categorical("c", ("a", "b", "d"))))


def _history(many: int) -> list[Trial]:
    rng = np.random.default_rng(3)
    every = SPACE.decode_many(rng.random((many, 3)))
    losses = [
        (p["x"] - 0.3) ** 2 + 0.5 * (p["y"] - 0.8) ** 2 + 0.2 * (p["c"] == "a") for p in every
    ]
    pairs = zip(every, losses, strict=True)
    return [Trial(i, p, "complete", loss, 0.0, 0) for i, (p, loss) in enumerate(pairs)]


def _views(many: int) -> list[Predictor]:
    layout = Layout(SPACE)
    return [Predictor(layout, _history(many), values=values) for values in (False, True)]


def test_the_distance_is_to_the_nearest_trial_and_a_choice_is_one_apart():
    views = _views(10)
    near = views[0].points[[4]]
    assert distance(near, views[0])[0] == pytest.approx(np.log(0.003))
    other = near.copy()
    other[0, 2] = (np.floor(near[0, 2] * 3 + 1) % 3 + 0.5) / 3
    gap = np.abs(views[0].points - other)
    gap[:, 2] = gap[:, 2] > 1e-9
    wanted = np.sqrt((gap**2).mean(axis=1)).min()
    assert distance(other, views[0])[0] == pytest.approx(np.log(wanted + 0.003))


def test_what_is_tried_is_never_nearer_than_the_largest_improvement():
    for many in (9, 14, 20):
        views = _views(many)
        points, worth = judged(views, Policy.uniform(views[0].layout), Pool(), generator(1, many))
        assert (np.diff(worth) <= 0).all()
        seen = features(views, points[:64])
        np.testing.assert_allclose(
            np.diff(np.array(list(WEIGHTS.values())) @ seen), np.diff(worth[:64]), atol=1e-6
        )
        greedy = int(np.argmax(seen[0] + seen[1]))
        assert seen[2][0] >= seen[2][greedy]


def test_only_a_cold_search_asks_it_and_a_setting_turns_it_off():
    asked = []
    for judge in (True, False):
        search = Controller(SPACE, seed=5, settings=Settings(judge=judge))
        for trial in _history(12):
            search.tell(trial)
        asked.append(search.ask())
    assert asked[0] != asked[1]


def test_outcomes_are_those_of_a_process_told_of_the_first_choice():
    from tests.benchmarks.tuner.outcomes import AHEAD, _Belief, outcomes

    views = _views(10)
    points = SPACE.canonical_many(np.random.default_rng(0).random((30, 3)))[0]
    true = (points[:, 0] - 0.3) ** 2 + 0.5 * (points[:, 1] - 0.8) ** 2
    low, none = 0.05, np.zeros(30, dtype=bool)
    after = outcomes(views, points, true, true, low, low, none)
    np.testing.assert_array_equal(after[:, AHEAD.index(1)], np.minimum(true, low))
    assert (np.diff(after, axis=1) <= 0).all()  # without noise a regret never rises

    view, told = views[1], 7
    belief = _Belief(view, points, true)
    value = belief.told(np.full(30, told))[0]
    process = view._process
    assert isinstance(process, Surrogate)
    tried = np.vstack([process.points, points[told]])
    inner = process.covariance(tried, tried) + (process.noise + 1e-8) * np.eye(len(tried))
    across = process.covariance(points, tried)
    scores = np.append(view.scores, belief.scores[told])
    mean = across @ np.linalg.solve(inner, scores)
    left = 1 - np.einsum("ij,ji->i", across, np.linalg.solve(inner, across.T))
    deviation = np.sqrt(process.variance * np.maximum(left, 1e-12))
    best = min(float(view.told().min()), float(mean[told]))
    rest = deviation > 1e-2
    wanted = log_expected_improvement(mean, deviation, best)
    np.testing.assert_allclose(value[rest], wanted[rest], atol=2e-3)
