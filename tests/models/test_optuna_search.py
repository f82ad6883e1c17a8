"""The baselines behind one word: what they find, what they cost, and what they leave alone."""

from __future__ import annotations

import json
import math
from typing import get_args

import numpy as np
import optuna
import pytest

from models.errors import SpaceFault
from models.search import Searcher
from models.search.catalog import WORDS, searcher
from models.search.grid import POINTS, GridSearch
from models.search.optuna_search import CMAESSearch, NSGA2Search, OptunaSearch, TPESearch
from models.search.quasi_random import QuasiRandomSearch
from models.space import Categorical, Float, Int, Ordinal, Space, join
from tasks.config import Train
from tests.searcher_parts import MIXED, advance, complete

BOWL = Space(tuple(Float(f"x{i}", -1.0, 1.0) for i in range(4)))


def bowl(params) -> float:
    return sum((float(v) - 0.3) ** 2 for v in params.values())


def found(one: Searcher, trials: int) -> float:
    best = math.inf
    for number in range(trials):
        params = one.ask()
        best = min(best, bowl(params))
        one.tell(complete(number, params, bowl(params)))
    return best


def test_the_words_of_the_config_are_those_of_the_catalog() -> None:
    assert get_args(Train.model_fields["tuner"].annotation) == WORDS
    assert [searcher(word, MIXED, seed=0).kind for word in WORDS] == list(WORDS)


def test_another_word_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SpaceFault, match=r"one of controller, grid, .* got 'bayes': use one"):
        searcher("bayes", MIXED, seed=0)


def test_a_memory_is_the_controllers() -> None:
    before = searcher("controller", MIXED, seed=0)
    advance(before, 10)
    warm = searcher("controller", MIXED, seed=1, memory=before.state_dict())
    assert warm.ask() == min(before.history, key=lambda t: t.loss or 0).params
    with pytest.raises(SpaceFault, match="a state of 'tpe'"):
        searcher("tpe", MIXED, seed=1, memory=before.state_dict())


@pytest.mark.parametrize(("word", "trials"), [("tpe", 45), ("gp", 20), ("cma-es", 80)])
def test_what_learns_beats_what_does_not(word: str, trials: int) -> None:
    ours = [found(searcher(word, BOWL, seed=s), trials) for s in range(2)]
    blind = [found(searcher("random", BOWL, seed=s), trials) for s in range(8)]
    assert np.mean(ours) < 0.6 * np.mean(blind)


@pytest.mark.parametrize(
    ("cls", "after"), [(CMAESSearch, (8, 9, 10, 25)), (NSGA2Search, (49, 50, 51, 100, 101))]
)
def test_generations_go_on_from_a_saved_state(
    cls: type[OptunaSearch], after: tuple[int, ...]
) -> None:
    """Before, at and after the change of a generation, and in the middle of the next."""
    one = cls(MIXED, seed=0)
    for trials in after:
        advance(one, trials - len(one.history))
        resumed = cls(BOWL, seed=9)
        resumed.load_state_dict(json.loads(json.dumps(one.state_dict())))
        assert resumed.ask() == one.ask()


def test_children_inherit() -> None:
    """The first generation of NSGA-II is random, the second mixes the values of the first."""
    asked = advance(NSGA2Search(MIXED, seed=0), 60)
    rates = [round(float(params["rate"]), 9) for params in asked]
    assert len(set(rates[:50])) == 50
    assert np.mean([rate in rates[:50] for rate in rates[50:]]) > 0.5


def test_each_trial_is_learnt_once_and_again_only_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learnt: list[int] = []
    told = OptunaSearch._learn
    monkeypatch.setattr(
        OptunaSearch, "_learn", lambda s, st, t, v: (learnt.append(t.number), told(s, st, t, v))[1]
    )
    one = TPESearch(MIXED, seed=0)
    asked = advance(one, 14)
    one.ask(pending=asked[-2:])
    one.tell(one.history[3])
    one.ask()
    assert learnt == list(range(14))
    late = one.ask()
    one.tell(complete(15, late, 1.0))
    one.ask()
    assert learnt == [*range(14), 15]
    one.tell(complete(14, one.ask(), 2.0))
    one.ask()
    assert learnt == [*range(14), 15, *range(16)]


def test_what_runs_keeps_tpe_away() -> None:
    """Under the constant liar a trial under way counts as bad, so the next goes elsewhere."""
    space = Space((Float("x", 0.0, 1.0),))
    moved = []
    for seed in range(12):
        one = TPESearch(space, seed=seed)
        for number in range(14):
            x = number / 14
            one.tell(complete(number, {"x": x}, abs(x - 0.5)))
        free = float(one.ask()["x"])
        beside = float(one.ask(pending=[{"x": free + d} for d in (-0.01, 0.0, 0.01)])["x"])
        moved.append(abs(beside - free))
    assert np.mean(moved) > 0.05


def test_optunas_voice_is_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        for word in ("tpe", "cma-es", "nsga-ii"):
            advance(searcher(word, MIXED, seed=0), 12)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("word", ["gp", "cma-es", "tpe"])
def test_numbers_with_steps_and_with_billions_of_values(word: str) -> None:
    space = Space(
        (
            Int("leaves", 8, 64, step=8),
            Float("share", 0.1, 0.9, step=0.1),
            Int("wide", 1, 2**40, log=True),
            Float("fine", 0.0, 1.0, step=1e-6),
            Ordinal("width", (16, 32, 64)),
        )
    )
    one = searcher(word, space, seed=0)
    for number in range(12):
        params = one.ask()
        space.validate(params)
        one.tell(complete(number, params, math.log(params["wide"]) + params["fine"]))


def test_a_grid_is_evenly_spaced_whole_and_then_finer() -> None:
    space = Space(
        (Float("x", 0.0, 1.0), Int("n", 1, 10_000, log=True), Categorical("c", ("a", "b")))
    )
    one = GridSearch(space, seed=0)
    first = advance_quietly(one, 2 * POINTS**2)
    assert {p["x"] for p in first} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert sorted({p["n"] for p in first}) == [1, 6, 71, 841, 10_000]  # bins grow on a log scale
    assert len({tuple(p.values()) for p in first}) == 50
    finer = advance_quietly(one, 60)
    assert {p["x"] for p in finer} == {i / 8 for i in range(9)}
    other = advance_quietly(GridSearch(space, seed=1), 50)
    assert first != other
    assert {tuple(p.values()) for p in first} == {tuple(p.values()) for p in other}


def test_a_grid_of_many_dimensions_is_not_written_out() -> None:
    space = join({"a": Space(()), "b": Space(tuple(Float(f"x{i}", 0, 1) for i in range(300)))})
    asked = advance_quietly(GridSearch(space, seed=0), 20)
    assert sum(p["family"] == "a" for p in asked) == 1  # one cell, however often it comes
    assert {v for p in asked for v in p.values()} - {"a", "b"} == {0.0, 0.25, 0.5, 0.75, 1.0}


def advance_quietly(one: Searcher, trials: int) -> list:
    asked = []
    for _ in range(trials):
        number, params = len(one.history), one.ask()
        asked.append(params)
        one.tell(complete(number, params, 0.0))
    return asked


def test_quasi_random_fills_every_cell_before_any_twice() -> None:
    space = Space((Float("x", 0, 1), Float("y", 0, 1), Categorical("c", ("p", "q"))))
    points = advance_quietly(QuasiRandomSearch(space, seed=3), 32)
    for axis in ("x", "y"):
        assert sorted(int(p[axis] * 32) for p in points) == list(range(32))
    assert sum(p["c"] == "p" for p in points) == 16
