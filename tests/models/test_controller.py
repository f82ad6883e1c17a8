"""The controller learns: better than random search, better still with a memory, and it stops."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from scipy.stats import wilcoxon

from models.errors import SpaceFault
from models.records import Params, Trial
from models.search import Budget, RandomSearch, Searcher, best, search
from models.search.controller import Controller
from models.search.memory import EVIDENCE, INCUMBENTS, repaired
from models.search.proposing import Settings, propose
from models.search.stopping import expected_improvement, nothing_to_expect
from models.space import Categorical, Float, Int, Ordinal, Space, join

Objective = Callable[[Params], float]

UNIT = Space(tuple(Float(f"x{i}", 0, 1) for i in range(4)))
PLANE = Space((Float("x0", 0, 1), Float("x1", 0, 1)))
SIX = Space(tuple(Float(f"x{i}", 0, 1) for i in range(6)))
_HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_P = np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
PIPELINE = join(
    {
        "boost": Space((Float("rate", 5e-3, 0.5, log=True), Int("leaves", 2, 256, log=True))),
        "linear": Space((Float("c", 1e-4, 100, log=True), Categorical("penalty", ("l1", "l2")))),
        "net": Space((Float("rate", 1e-5, 0.1, log=True), Ordinal("width", (16, 32, 64, 128)))),
    }
)


def bowl(centre: tuple[float, ...]) -> Objective:
    def loss(params: Params) -> float:
        return sum((float(params[f"x{i}"]) - c) ** 2 for i, c in enumerate(centre))

    return loss


def pipeline(shift: float = 0.0) -> Objective:
    def loss(params: Params) -> float:
        if params["family"] == "boost":
            rate, leaves = float(params["boost.rate"]), float(params["boost.leaves"])
            value = 0.45 + 0.03 * (math.log10(rate) + 1.2 - shift) ** 2
            return value + 0.01 * (math.log2(leaves) - 4.5 - shift) ** 2
        if params["family"] == "linear":
            return 0.52 + 0.005 * (math.log10(float(params["linear.c"])) - 0.5) ** 2
        value = 0.47 + 0.04 * (math.log10(float(params["net.rate"])) + 2.7 - shift) ** 2
        return value + 0.01 * abs(math.log2(float(params["net.width"])) - 6)

    return loss


def valley(params: Params) -> float:
    x = [4 * float(params[f"x{i}"]) - 2 for i in range(4)]
    pairs = zip(x[1:], x[:-1], strict=True)
    return math.log1p(sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for b, a in pairs))


def hartmann(params: Params) -> float:
    """The six-dimensional function of Hartmann; six local minima."""
    x = np.array([float(params[f"x{i}"]) for i in range(6)])
    inner = (_HARTMANN_A * (x - 1e-4 * _HARTMANN_P) ** 2).sum(axis=1)
    return -float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-inner))


def branin(params: Params) -> float:
    """The function of Branin; three global minima."""
    x, y = 15 * float(params["x0"]) - 5, 15 * float(params["x1"])
    bend = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return bend + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def run(searcher: Searcher, objective: Objective, trials: int) -> list[Trial]:
    for number in range(len(searcher.history), trials):
        params = searcher.ask()
        searcher.tell(Trial(number, params, "complete", objective(params), 0.0, 0))
    return searcher.history


def best_loss(searcher: Searcher, objective: Objective, trials: int) -> float:
    loss = best(run(searcher, objective, trials)).loss
    assert loss is not None
    return loss


def test_beats_random_search_at_50_trials() -> None:
    """Each run's share of 12 random searches that it beats; one half if it were one of them.

    A curved valley is among the functions, where a policy of independent units has little to gain.
    """
    cases: list[tuple[Space, Objective]] = [
        (UNIT, bowl((0.3, 0.7, 0.2, 0.8))),
        (UNIT, valley),
        (SIX, hartmann),
        (PLANE, branin),
        (PIPELINE, pipeline()),
    ]
    beaten = []
    for space, objective in cases:
        random = [best_loss(RandomSearch(space, seed=100 + s), objective, 50) for s in range(12)]
        for seed in range(2):
            ours = best_loss(Controller(space, seed=seed), objective, 50)
            beaten.append(np.mean([ours < theirs for theirs in random]))
    assert wilcoxon(np.array(beaten) - 0.5, alternative="greater").pvalue < 0.01


@pytest.mark.parametrize(
    ("space", "before", "after"),
    [
        (UNIT, bowl((0.3, 0.7, 0.2, 0.8)), bowl((0.35, 0.65, 0.25, 0.75))),
        (PIPELINE, pipeline(), pipeline(0.3)),
    ],
    ids=["bowl", "pipeline"],
)
def test_warm_beats_cold_at_6_trials_on_a_shifted_function(
    space: Space, before: Objective, after: Objective
) -> None:
    warm, cold = [], []
    for seed in range(9):
        first = Controller(space, seed=seed)
        run(first, before, 20)
        warm.append(best_loss(Controller.warm(space, first.state_dict(), seed=seed), after, 6))
        cold.append(best_loss(Controller(space, seed=seed), after, 6))
    assert wilcoxon(warm, cold, alternative="less").pvalue < 0.01


def test_a_changed_world_does_not_trap_a_warm_search() -> None:
    """Where the memory is wrong everywhere, 30 warm trials come as far as 30 cold ones, nearly."""
    before, after = bowl((0.05, 0.05, 0.05, 0.05)), bowl((0.9, 0.9, 0.9, 0.9))
    warm, cold = [], []
    for seed in range(6):
        first = Controller(UNIT, seed=seed)
        run(first, before, 24)
        warm.append(best_loss(Controller.warm(UNIT, first.state_dict(), seed=seed), after, 30))
        cold.append(best_loss(Controller(UNIT, seed=seed), after, 30))
    assert np.mean(warm) < 2 * np.mean(cold)


def test_known_configurations_are_tried_first_and_the_latest_best_is_the_first() -> None:
    first = Controller(UNIT, seed=0)
    top = best(run(first, bowl((0.5,) * 4), 16)).params
    second = Controller.warm(UNIT, first.state_dict(), seed=1)
    assert second.ask() == pytest.approx(top)
    run(second, bowl((0.5,) * 4), 8)
    champion = best(second.history).params
    third = Controller.warm(UNIT, second.state_dict(), seed=2)
    assert third.ask() == pytest.approx(champion)


def test_what_people_hold_good_is_tried_beside_what_was_best() -> None:
    first = Controller(PLANE, seed=0)
    run(first, bowl((0.3, 0.3)), 16)
    advised = {"x0": 0.9, "x1": 0.9}
    second = Controller.warm(PLANE, first.state_dict(), seed=1, advised=[advised])
    trials = run(second, bowl((0.9, 0.9)), 2)
    assert trials[1].params == advised
    again = Controller(PLANE, seed=1)
    again.load_state_dict(json.loads(json.dumps(second.state_dict())))
    assert again.ask() == second.ask()
    third = Controller.warm(PLANE, second.state_dict(), seed=2, advised=[advised])
    asked = [trial.params for trial in run(third, bowl((0.9, 0.9)), 4)]
    assert asked.count(advised) == 1  # by now it is what was best


def test_with_one_seed_each_retrain_draws_new_points() -> None:
    """Memories that know nothing but their age: what is drawn is the sequence itself."""
    draws = []
    for searches in (0, 1, 2):
        memory = {**Controller(UNIT, seed=0).memory, "searches": searches}
        draws.append(propose([], UNIT, 0, state=memory))
    assert len({json.dumps(d) for d in draws}) == 3


def test_memory_is_bounded_over_many_retrains_and_is_json() -> None:
    state = None
    for retrain in range(6):
        one = Controller.warm(UNIT, state, seed=retrain) if state else Controller(UNIT, seed=0)
        run(one, bowl((0.5,) * 4), 20)
        state = json.loads(json.dumps(one.state_dict(), allow_nan=False))
    learnt = state["learnt"]
    assert learnt["searches"] == 6
    assert len(learnt["incumbents"]) <= INCUMBENTS
    assert len(learnt["evidence"]) <= EVIDENCE
    assert [row["age"] for row in learnt["evidence"][:20]] == [0] * 20
    assert len(json.dumps(state)) < 60_000


def test_the_next_search_begins_with_what_the_last_one_ended_with() -> None:
    one = Controller(UNIT, seed=0)
    trials = run(one, bowl((0.5,) * 4), 20)
    luckiest = min(trials, key=lambda t: t.loss)
    chosen = next(t for t in trials if t.number == 2)
    assert Controller.warm(UNIT, one.state_dict(), seed=1).ask() == luckiest.params
    one.ended(chosen.params)
    then = Controller.warm(UNIT, one.state_dict(), seed=1)
    assert then.ask() == chosen.params
    assert then.standing == [chosen.params]
    assert luckiest.params in [row["params"] for row in one.memory["incumbents"]]
    one.ended(dict.fromkeys(chosen.params, 0.123))  # it was never tried: the best comes first
    assert Controller.warm(UNIT, one.state_dict(), seed=1).ask() == luckiest.params


def test_remembered_numbers_move_with_their_range() -> None:
    narrow = Space((Float("rate", 1e-4, 1e-2, log=True), Float("x", 0, 1)))
    first = Controller(narrow, seed=0)
    run(first, lambda p: abs(math.log10(float(p["rate"])) + 3), 30)
    wide = Space((Float("rate", 1e-8, 1e-1, log=True), Float("new", 0, 1), Float("x", 0, 1)))
    told = Controller.warm(wide, first.state_dict(), seed=1).distribution()
    assert 1e-4 < told["rate"]["median"] < 1e-2
    assert told["new"]["entropy"] > -0.05
    assert repaired({"rate": 1.0, "gone": 3}, wide) == {
        "rate": 1e-1,
        "new": 0.5,
        "x": 0.5,
    }
    assert repaired({"c": "gone"}, Space((Categorical("c", ("a", "b")),))) is None


@pytest.mark.parametrize(
    "learnt", [{"space": []}, {"space": 3}, {"space": [], "policy": 1}, "text", None]
)
def test_an_unreadable_memory_says_so(learnt: object) -> None:
    state = {**Controller(UNIT, seed=0).state_dict(), "learnt": learnt}
    with pytest.raises(SpaceFault, match="start cold"):
        Controller.warm(UNIT, state, seed=0)


def test_propose_is_what_the_controller_asks_in_any_order() -> None:
    one = Controller(PIPELINE, seed=3)
    run(one, pipeline(), 14)
    backwards = one.history[::-1]
    assert propose(backwards, PIPELINE, 3) == one.ask()
    assert propose(backwards, PIPELINE, 3, pending=2) == one.ask(pending=2)
    warm = Controller.warm(PIPELINE, one.state_dict(), seed=4)
    run(warm, pipeline(), 9)
    assert propose(warm.history, PIPELINE, 4, state=one.memory) == warm.ask()


def _ask_after(count: int) -> Params:
    one = Controller(PIPELINE, seed=3)
    run(one, pipeline(), count)
    return one.ask()


def test_another_process_proposes_the_same() -> None:
    import multiprocessing

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(propose, [], UNIT, 3).result() == propose([], UNIT, 3)
        one = Controller(PIPELINE, seed=3)
        history = run(one, pipeline(), 12)
        assert pool.submit(propose, history, PIPELINE, 3).result() == one.ask()


def test_stops_when_there_is_nothing_to_expect_with_the_reason() -> None:
    """A loss with a floor: once on it, more trials gain nothing."""

    def floored(params: Params) -> float:
        return max(bowl((0.4, 0.6))(params), 0.03)

    reasons, used = [], []
    for seed in range(5):
        trials, reason = search(
            Controller(PLANE, seed=seed),
            lambda p, s, n: Trial(n, p, "complete", floored(p), 0.0, s),
            Budget(trials=50),
        )
        reasons.append(reason)
        used.append(len(trials))
        assert best(trials).loss == 0.03
    assert all("no gain to expect" in r or "converged" in r for r in reasons)
    assert max(used) < 50
    assert min(used) >= Settings().start + Settings().patience


def test_does_not_stop_while_it_improves_or_before_it_has_looked() -> None:
    one = Controller(UNIT, seed=0)
    for number in range(40):
        one.tell(Trial(number, one.ask(), "complete", 100.0 - number, 0.0, 0))
        assert one.done() is None
    flat = Controller(UNIT, seed=0)
    run(flat, lambda p: 1.0, Settings().start + Settings().patience - 1)
    assert flat.done() is None
    run(flat, lambda p: 1.0, Settings().start + Settings().patience)
    assert "no gain to expect" in (flat.done() or "")


def test_expected_improvement_is_that_of_a_normal() -> None:
    recent = np.array([1.0, 2.0, 3.0, 4.0])
    draws = np.random.default_rng(0).normal(recent.mean(), recent.std(ddof=1), 400_000)
    assert expected_improvement(recent, 1.5) == pytest.approx(
        np.maximum(1.5 - draws, 0).mean(), rel=0.02
    )
    assert expected_improvement(np.ones(4), 1.0) == 0.0


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (np.linspace(1, 0, 40), None),  # improves all the time
        (np.r_[1.0, 0.5, np.full(9, 2.0)], None),  # not yet as long as the patience
        (np.r_[1.0, 0.0, np.full(10, 2.0)], "the last 10 of 12 trials did not improve"),
        (np.r_[1.0, 0.0, np.tile([0.01, 0.4], 8)], None),  # close by and spread: a gain may come
        (np.r_[1.0, 0.0, np.tile([0.01, 0.4], 12)], "the last 24 of 26 trials did not improve"),
        (np.r_[np.full(30, np.nan), 1.0], None),  # failures are no reason
        (np.r_[1.0, 0.0, np.full(24, np.nan), 1.0], None),
    ],
)
def test_when_there_is_nothing_to_expect(losses: np.ndarray, words: str | None) -> None:
    reason = nothing_to_expect(losses, patience=10, stale=24, tolerance=0.01)
    assert reason is None if words is None else words in (reason or "")


def test_distribution_speaks_of_values() -> None:
    one = Controller(PIPELINE, seed=0)
    cold = one.distribution()
    assert cold["family"]["probabilities"] == pytest.approx(
        {"boost": 1 / 3, "linear": 1 / 3, "net": 1 / 3}
    )
    run(one, pipeline(), 40)
    told = one.distribution()
    assert list(told) == [p.name for p in PIPELINE.parameters]
    assert told["family"]["probabilities"]["boost"] > 0.4
    rate = told["boost.rate"]
    assert 5e-3 <= rate["low"] < rate["median"] < rate["high"] <= 0.5
    assert 0.02 < rate["median"] < 0.2
    assert rate["entropy"] < cold["boost.rate"]["entropy"]
    json.dumps(told, allow_nan=False)


def test_a_trial_costs_under_50_ms() -> None:
    """CPU time of this thread, so that a busy machine does not decide."""
    space = Space(tuple(Float(f"x{i}", 0, 1) for i in range(20)))
    one = Controller(space, seed=0)
    before = time.thread_time()
    run(one, lambda p: sum(float(v) for v in p.values()), 50)
    assert (time.thread_time() - before) / 50 < 0.05


def test_a_family_that_lost_for_a_while_is_asked_again():
    space = join({"a": Space((Float("x", 0.0, 1.0),)), "b": Space((Float("y", 0.0, 1.0),))})
    memory = None
    for number in range(6):  # in each of six searches family a is far better
        searcher = Controller(space, seed=number, memory=memory)
        for trial in range(6):
            params = searcher.ask()
            loss = params["a.x"] if params["family"] == "a" else 5 + params["b.y"]
            searcher.tell(Trial(trial, params, "complete", loss, 0.1, 0))
        memory = searcher.memory
    first = Controller(space, seed=9, memory=memory)
    asked = []
    for trial in range(4):
        params = first.ask()
        asked.append(params["family"])
        first.tell(Trial(trial, params, "complete", 1.0, 0.1, 0))
    assert asked[:2] == ["a", "b"]  # since then there may be rows enough for b
