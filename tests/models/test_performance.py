"""The performance predictor on trials whose truth is known; screening and the front by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models import families
from models.performance import Performance, Seen, seen
from models.performance.screen import Screen
from models.performance.seen import ROWS, SERVED
from models.performance.shapes import PROCESS, RIDGE
from models.records import Trial
from models.search.frontier import Frontier
from models.search.objectives import Limit, Objective
from models.search.pareto import hypervolume, points

SPACE = families.space(["hgb", "logistic", "mlp"])
TREES, WIDE = 0.0002, 4e-6  # ms of a tree, and of a weight


def latency(params) -> float:
    """A fixed part and one that grows, as real ones do: no power of the parameters."""
    if params["family"] == "hgb":
        return 0.01 + TREES * params["hgb.max_iter"] * np.log2(params["hgb.max_leaf_nodes"])
    if params["family"] == "mlp":
        return 0.01 + WIDE * params["mlp.width"] ** 2 * params["mlp.depth"]
    return 0.006


def loss(params) -> float:
    """The larger models are the better ones, up to a point."""
    best = {"hgb": 0.30, "mlp": 0.33, "logistic": 0.4}[params["family"]]
    return best + 0.1 / (1 + 40 * latency(params))


def trials(count: int, *, seed: int = 0, noise: float = 0.03, rows: int = 2_000) -> list[Trial]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        params = SPACE.decode(rng.random(len(SPACE)))
        slow = float(np.exp(noise * rng.normal()))
        metrics = {"latency_ms": latency(params) * slow, "log_loss": loss(params)}
        metrics |= {"fit_cpu_s": 1e-4 * rows * slow, ROWS: float(rows), SERVED: 1.0}
        found.append(Trial(number, params, "complete", metrics["log_loss"], 1.0, 0, metrics))
    return found


def past(searches: int, count: int, **given) -> list[Seen]:
    return [one for s in range(searches) for one in seen(trials(count, seed=s, **given), f"s{s}")]


@pytest.mark.parametrize("kinds", [(RIDGE,), (PROCESS,), (RIDGE, PROCESS)])
def test_latency_of_unseen_configurations_is_foretold_and_the_error_is_told_beforehand(kinds):
    model = Performance(past(6, 20), ["latency_ms"], kinds=kinds)
    (told,) = model.reports()
    real = model.report_on(seen(trials(200, seed=99), "new"), "latency_ms")
    assert told.trials == 120
    assert real is not None
    assert real.error < 0.1
    assert real.r2 > 0.9
    assert told.error == pytest.approx(real.error, abs=0.04)  # its own estimate is honest
    assert 0.8 <= real.held <= 1.0  # and so are its intervals
    assert set(real.shapes) == {"hgb", "logistic", "mlp"}


def test_a_process_takes_ridges_place_only_where_it_is_better():
    bent = Performance(past(8, 30), ["latency_ms"]).reports()[0].shapes
    assert PROCESS in bent.values()
    learnt, shapes = past(4, 30), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noise = [replace(one, figures={"latency_ms": float(rng.lognormal())}) for one in learnt]
        (told,) = Performance(noise, ["latency_ms"]).reports()
        shapes += told.shapes.values()
        assert told.r2 < 0.25  # nothing can be said, and it says so
    assert shapes.count(RIDGE) >= 7


def test_a_measurement_while_the_machine_was_busy_does_no_harm():
    learnt = past(4, 20)
    for i in range(0, len(learnt), 23):
        late = {**learnt[i].figures, "latency_ms": 300.0}
        learnt[i] = replace(learnt[i], figures=late)
    told = Performance(learnt, ["latency_ms"]).report_on(
        seen(trials(150, seed=9), "n"), "latency_ms"
    )
    assert told.error < 0.15


def test_the_same_configuration_in_many_searches_does_not_flatter():
    """What is tried again in each retrain is left out of its own prediction everywhere."""
    rng = np.random.default_rng(1)
    lucky = {}
    same = []
    for search in range(10):
        for one in past(1, 12):
            own = lucky.setdefault(one.configuration, float(rng.lognormal()))
            same.append(replace(one, search=f"s{search}", figures={"latency_ms": own}))
    (told,) = Performance(same, ["latency_ms"]).reports()
    assert told.r2 < 0.5


def test_seconds_grow_with_the_rows_before_any_trial_has_shown_it():
    model = Performance(past(3, 15), ["fit_cpu_s", "latency_ms"])
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    small, large = (model.foretell(params, "fit_cpu_s", rows=n).value for n in (2_000, 200_000))
    assert small == pytest.approx(0.2, rel=0.2)
    assert large == pytest.approx(100 * small, rel=0.3)
    near = (model.foretell(params, "latency_ms", rows=n).value for n in (2_000, 200_000))
    assert next(near) == pytest.approx(next(near), rel=0.3)


def test_what_is_not_known_is_not_foretold():
    few = Performance(past(1, 3), ["latency_ms"])
    assert few.foretell({"family": "hgb"}, "latency_ms") is None
    assert few.reports() == []
    model = Performance(past(4, 20), ["latency_ms", "size_mb"])
    assert model.foretell({"family": "forest"}, "latency_ms") is None
    assert np.isnan(model.keeps([{"family": "forest"}], Limit("latency_ms", 1.0))[0])
    assert model.foretell({"family": "logistic"}, "size_mb") is None
    other = [replace(one, served=False) for one in past(1, 20)]
    (told,) = Performance([*past(4, 20), *other], ["latency_ms"]).reports()
    assert told.trials <= 20  # the others were measured in another form
    failed = [replace(t, status="failed", loss=None) for t in trials(9)]
    assert seen(failed, "s") == []


def test_what_cannot_keep_a_limit_is_passed_over_and_only_that():
    goal = Objective("log_loss", limits=(Limit("latency_ms", 0.05),))
    screen = Screen(goal, past(5, 24), rows=2_000)
    fresh = [t.params for t in trials(150, seed=77)]
    passed = {i for i, params in enumerate(fresh) if screen(params, ()) is not None}
    slow = {i for i, params in enumerate(fresh) if latency(params) > 0.05}
    assert len(passed & slow) > 0.7 * len(slow)
    assert len(passed - slow) <= 0.02 * len(fresh)
    said = screen(fresh[min(passed)], ())
    assert said.startswith("latency_ms <= 0.05 is kept with 0")
    free = Screen(Objective("log_loss"), past(5, 24))
    assert all(free(params, ()) is None for params in fresh)
    # a predictor that has shown nothing on configurations that were left out screens nothing
    rng = np.random.default_rng(0)
    noise = [replace(o, figures={"latency_ms": float(rng.lognormal(5))}) for o in past(4, 24)]
    ignorant = Screen(goal, noise)
    assert all(ignorant(params, ()) is None for params in fresh)


def test_proposals_for_the_front_widen_it_beyond_what_chance_does():
    goal = Objective("log_loss", limits=(Limit("latency_ms", 5.0),))
    volumes: dict[str, list[float]] = {"chance": [], "front": []}
    for seed in range(3):
        known = trials(14, seed=seed)
        for number in range(14, 26):
            frontier = Frontier(SPACE, goal, seed=seed, rows=2_000)
            params = frontier.propose(known, [known[0].params])
            if number == 14:
                assert params == frontier.propose(known, [known[0].params])
            metrics = {"latency_ms": latency(params), "log_loss": loss(params)}
            metrics |= {ROWS: 2_000.0, SERVED: 1.0}
            known.append(Trial(number, params, "complete", 0.0, 1.0, 0, metrics))
        for name, found in (("front", known), ("chance", trials(26, seed=seed))):
            losses = points(found, goal.named)
            losses[:, 1] = np.log(losses[:, 1])
            volumes[name].append(hypervolume(losses, np.array([0.5, np.log(0.3)])))
    assert np.mean(volumes["front"]) > np.mean(volumes["chance"])
    assert Frontier(SPACE, goal, seed=0).propose(trials(1)) is None
    assert Frontier(SPACE, Objective("log_loss"), seed=0).propose(trials(20)) is None
