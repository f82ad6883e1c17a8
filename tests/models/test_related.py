"""Earlier searches beside today's: the shortcuts against the whole matrix, and what is learnt."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_t

from models.records import Trial
from models.search import surrogate
from models.search.base import generator
from models.search.controller import Controller
from models.search.memory import recall
from models.search.past import Past
from models.search.policy_net import Layout
from models.search.proposing import _RETRAIN
from models.search.related import AKIN, Related
from models.search.surrogate import OFFSET, Surrogate
from models.space import Float, Space

SPACE = Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)))
NUMBERS = np.zeros(2, dtype=bool)


def bowl(points, x=0.3):
    return (points[:, 0] - x) ** 2 + 0.5 * (points[:, 1] - 0.7) ** 2


def run(searcher, trials, x=0.3, sign=1):
    for number in range(trials):
        params = searcher.ask()
        loss = sign * float(bowl(np.array([[params["x"], params["y"]]]), x)[0])
        searcher.tell(Trial(number, params, "complete", loss, 0.0, 0))
    return searcher


@pytest.fixture(scope="module")
def past():
    """Of three searches on bowls whose bottom moves a little."""
    state = None
    for seed, x in enumerate((0.28, 0.32, 0.3)):
        state = run(Controller(SPACE, seed=seed, memory=state), 14, x).memory
    layout = Layout(SPACE)
    return Past(recall(state, layout), layout)


def test_the_parts_are_those_of_one_process_over_all_trials(past):
    rng = np.random.default_rng(0)
    points, asked = rng.random((6, 2)), rng.random((5, 2))
    scores = rng.normal(size=6)
    found = Related(past, points, scores, np.eye(len(AKIN))[2])
    process, r = past.process, np.sqrt(past.process.agreement) * AKIN[2]
    every = np.vstack([process.points, points, asked])
    n, m = len(process.points), len(points)
    search = np.r_[past.searches, np.full(m + len(asked), -1)]
    new = search < 0
    smooth, rough = process.covariance(every, every), process.own_covariance(every, every)
    other = np.not_equal.outer(search, search)
    today = new[:, None] & new
    common = np.where(today, max(process.agreement, AKIN[2] ** 2), process.agreement)
    kernel = np.where(other & (new[:, None] | new), r, common) * smooth
    kernel += ~other * ((1 - common) * rough + OFFSET**2)
    told = np.arange(n + m)
    noisy = kernel[np.ix_(told, told)] + (process.noise + 1e-8) * np.eye(n + m)
    across = kernel[n + m :, : n + m]
    y = np.r_[process._y, scores - past.mean]
    mean = past.mean + across @ np.linalg.solve(noisy, y)
    left = np.diag(kernel)[n + m :] - np.einsum(
        "ij,ji->i", across, np.linalg.solve(noisy, across.T)
    )
    assert found.predict(asked)[0] == pytest.approx(mean, abs=1e-6)
    assert found.predict(asked)[1] == pytest.approx(np.sqrt(process.variance * left), abs=1e-6)
    # The evidence: Student's t of today's scores, given the past.
    back = np.linalg.solve(noisy[:n, :n], noisy[:n, n:])
    shape = noisy[n:, n:] - noisy[n:, :n] @ back
    freedom = n + process.prior.strength
    t = multivariate_t(past.mean + back.T @ y[:n], process.variance * shape, df=freedom)
    constant = 0.5 * m * np.log(np.pi)  # the same for every process over the same trials
    assert found._parts[2].evidence == pytest.approx(t.logpdf(scores) + constant, abs=1e-5)


def test_the_gradient_of_the_agreement_is_the_slope(monkeypatch):
    rng = np.random.default_rng(1)
    points, searches = rng.random((20, 2)), np.repeat([0, 1], 10)
    caught = []
    minimize = surrogate.minimize

    def watched(objective, theta, **words):
        caught.append((objective, theta))
        return minimize(objective, theta, **words)

    monkeypatch.setattr(surrogate, "minimize", watched)
    Surrogate(points, bowl(points) + 0.1 * searches, NUMBERS, searches=searches)
    objective, theta = caught[0]
    slope = approx_fprime(theta, lambda t: objective(t)[0], 1e-6)
    assert objective(theta)[1] == pytest.approx(slope, abs=1e-3)


def test_what_is_rougher_than_what_searches_have_in_common_is_found():
    rng = np.random.default_rng(4)
    points, searches = rng.random((120, 2)), np.repeat([0, 1, 2], 40)

    def rougher(scale):
        own = np.empty(120)
        for k in range(3):
            waves, phases = rng.normal(size=(16, 2)) / scale, rng.uniform(0, 2 * np.pi, 16)
            own[searches == k] = np.cos(points[searches == k] @ waves.T + phases).mean(axis=1)
        values = bowl(points) + 0.5 * own
        scores = (values - values.mean()) / values.std()
        return Surrogate(points, scores, NUMBERS, searches=searches).rougher

    assert rougher(0.2) > 1.5
    assert rougher(1.0) < 0.9


def test_searches_on_one_function_agree_and_others_do_not():
    rng = np.random.default_rng(2)
    points, searches = rng.random((40, 2)), np.repeat([0, 1], 20)

    def agreement(values):
        scores = (values - values.mean()) / values.std()
        return Surrogate(points, scores, NUMBERS, searches=searches).agreement

    assert agreement(bowl(points)) > 0.9
    assert agreement(bowl(points) * (1 - 2 * searches)) < 0.6


def test_what_is_akin_is_told_from_what_is_not(past):
    points = np.random.default_rng(3).random((10, 2))
    akin = Related(past, points, past.scores(points, bowl(points, 0.31)))
    turned = Related(past, points, past.scores(points, -bowl(points, 0.31)))
    assert akin.weights[-1] > 0.3
    assert turned.weights[0] > 0.5
    assert akin.evidence > turned.evidence + 5
    assert akin.evidence > akin.apart + 1
    assert turned.evidence < turned.apart


def test_a_search_whose_memory_is_dropped_goes_on_with_the_cold_design():
    """The first trials refute the memory: what is asked next is what a cold search asks."""
    state = None
    for seed in (0, 1):
        state = run(Controller(SPACE, seed=seed, memory=state), 16).memory
    refuted = run(Controller(SPACE, seed=5, memory=state), 8, sign=-1)
    seed = int(generator(5, state["searches"], _RETRAIN).integers(2**31))
    cold = run(Controller(SPACE, seed=seed), 8, sign=-1)
    same = [a.params == b.params for a, b in zip(refuted.history, cold.history, strict=True)]
    confirmed = run(Controller(SPACE, seed=5, memory=state), 8)
    assert sum(same[4:]) >= 3
    assert min(trial.loss for trial in confirmed.history[:4]) < 0.01
