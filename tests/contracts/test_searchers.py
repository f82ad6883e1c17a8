"""What every searcher promises. Subclasses under models/search/ are found, not listed."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

import models.search
from models.errors import SpaceFault
from models.records import Params, Trial
from models.search import Budget, Searcher, key, search, trial_from_json
from models.space import Categorical, Float, Int, Ordinal, Space, join


def discovered() -> list[type[Searcher]]:
    for path in sorted(Path(next(iter(models.search.__path__))).glob("*.py")):
        if "(Searcher)" in path.read_text(encoding="utf-8"):
            importlib.import_module(f"models.search.{path.stem}")
    return sorted(Searcher.__subclasses__(), key=lambda cls: cls.kind)


@pytest.fixture(params=discovered(), ids=lambda cls: cls.kind)
def searcher(request: pytest.FixtureRequest) -> type[Searcher]:
    return request.param


MIXED = Space(
    (
        Float("rate", 1e-4, 1.0, log=True),
        Int("leaves", 2, 128, log=True),
        Ordinal("width", (16, 32, 64, 128)),
        Categorical("kernel", ("linear", "rbf", "poly")),
        Float("gamma", 0.0, 2.0, when=("kernel", ("rbf", "poly"))),
        Int("degree", 2, 5, when=("kernel", "poly")),
    )
)


def loss(params: Params) -> float:
    """Smallest at rate 0.01, leaves 16, width 32, rbf, gamma 0.5."""
    value = (math.log10(float(params["rate"])) + 2) ** 2
    value += 0.3 * (math.log2(float(params["leaves"])) - 4) ** 2
    value += 0.2 * abs(math.log2(float(params["width"])) - 5)
    value += {"rbf": 0.0, "poly": 0.5}.get(str(params["kernel"]), 1.0)
    return value + abs(float(params.get("gamma", 0.5)) - 0.5)


def complete(number: int, params: Params, value: float) -> Trial:
    return Trial(number, params, "complete", value, 0.01, 0)


def advance(one: Searcher, trials: int) -> list[Params]:
    asked = []
    for _ in range(trials):
        number, params = len(one.history), one.ask()
        asked.append(params)
        one.tell(complete(number, params, loss(params)))
    return asked


def test_both_are_discovered() -> None:
    assert {cls.kind for cls in discovered()} >= {"controller", "random"}


def test_equal_seeds_give_equal_trials_and_other_seeds_others(searcher: type[Searcher]) -> None:
    first, again, other = (advance(searcher(MIXED, seed=s), 14) for s in (3, 3, 4))
    assert first == again
    assert sum(key(a) == key(b) for a, b in zip(first, other, strict=True)) < 3


def test_asking_changes_nothing(searcher: type[Searcher]) -> None:
    one, quiet = searcher(MIXED, seed=0), searcher(MIXED, seed=0)
    for _ in range(3):
        one.ask()
        one.ask(pending=2)
        one.done()
        np.random.seed(1)  # global randomness must not matter
        assert advance(one, 4) == advance(quiet, 4)


def test_ask_without_tell_gives_different_trials(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    assert one.ask() == one.ask()
    counted = [key(one.ask(pending=n)) for n in range(20)]
    assert len(set(counted)) == 20
    named: list[Params] = []
    for _ in range(20):
        named.append(one.ask(pending=named))
    assert len({key(p) for p in named}) == 20


def test_state_in_the_middle_continues_identically(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=5)
    advance(one, 11)
    one.tell(Trial(11, one.ask(), "failed", None, 0.1, 0, error="out of memory"))
    state = json.loads(json.dumps(one.state_dict(), allow_nan=False))
    resumed = searcher(Space((Float("other", 0, 1),)), seed=99)
    resumed.load_state_dict(state)
    assert resumed.history == one.history
    assert advance(resumed, 8) == advance(one, 8)
    assert resumed.state_dict() == one.state_dict()


def test_a_foreign_state_is_refused(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    for state in ({}, {**one.state_dict(), "version": 99}, {**one.state_dict(), "kind": "tarot"}):
        with pytest.raises(SpaceFault, match="start cold"):
            one.load_state_dict(state)


def test_telling_out_of_order_proposes_the_same(searcher: type[Searcher]) -> None:
    straight, shuffled = searcher(MIXED, seed=2), searcher(MIXED, seed=2)
    advance(straight, 12)
    for trial in (straight.history[i] for i in np.random.default_rng(0).permutation(12)):
        shuffled.tell(trial)
    assert shuffled.history == straight.history
    assert shuffled.ask() == straight.ask()


def test_a_number_is_told_once(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=2)
    params = one.ask()
    one.tell(complete(0, params, 1.0))
    one.tell(complete(0, params, 1.0))  # a message that came twice
    assert len(one.history) == 1
    with pytest.raises(SpaceFault, match="told once; 0 came twice"):
        one.tell(complete(0, params, 2.0))


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_failed_and_nan_trials_are_never_an_end(
    searcher: type[Searcher], bad: float | None
) -> None:
    one = searcher(MIXED, seed=1)
    seen = set()
    for number in range(30):
        params = one.ask()
        MIXED.validate(params)
        seen.add(key(params))
        status = "failed" if bad is None else "complete"
        one.tell(Trial(number, params, status, bad, 0.0, 0))  # type: ignore[arg-type]
        assert one.done() is None
    assert len(seen) == 30
    json.dumps(one.state_dict(), allow_nan=False)


def test_no_duplicates_while_something_is_new(searcher: type[Searcher]) -> None:
    space = Space((Categorical("a", ("x", "y", "z")), Int("b", 1, 4, when=("a", "x"))))
    assert space.size() == 6
    one, seen = searcher(space, seed=0), []
    for number in range(6):
        assert one.done() is None
        params = one.ask()
        seen.append(key(params))
        one.tell(complete(number, params, float(number)))
    assert len(set(seen)) == 6
    assert one.done() == "all 6 configurations of the space have been tried"
    space.validate(one.ask())  # asked nevertheless, it still answers


@pytest.mark.parametrize(
    "space",
    [
        Space((Float("x", 2.5, 2.5), Int("n", 3, 3), Categorical("c", ("only",)))),
        Space((Int("n", 7, 7, log=True), Ordinal("o", (1,)))),
        Space(()),
    ],
)
def test_a_one_point_space_is_one_trial(searcher: type[Searcher], space: Space) -> None:
    trials, reason = search(
        searcher(space, seed=0), lambda p, s, n: complete(n, p, 1.0), Budget(trials=10)
    )
    assert len(trials) == 1
    assert "all 1 configuration of the space" in reason


def test_200_dimensions(searcher: type[Searcher]) -> None:
    space = Space(tuple(Float(f"x{i}", -1, 1) for i in range(200)))
    one = searcher(space, seed=0)
    asked = []
    for number in range(14):
        params = one.ask()
        space.validate(params)
        asked.append(key(params))
        one.tell(complete(number, params, sum(float(v) ** 2 for v in params.values())))
    assert len(set(asked)) == 14


def test_1000_categories(searcher: type[Searcher]) -> None:
    space = Space((Categorical("c", tuple(range(1000))), Float("x", 0, 1)))
    one = searcher(space, seed=0)
    for number in range(24):
        params = one.ask()
        space.validate(params)
        one.tell(complete(number, params, abs(int(params["c"]) - 500) / 500))
    assert len({p.params["c"] for p in one.history}) > 12


def test_inactive_parameters_are_never_set(searcher: type[Searcher]) -> None:
    nested = Space(
        (
            Categorical("a", (True, False)),
            Int("b", 1, 3, when=("a", True)),
            Float("c", 0, 1, when=("b", (2, 3))),
        )
    )
    space = join({"one": nested, "two": MIXED})
    one = searcher(space, seed=0)
    families = set()
    for number in range(40):
        params = one.ask()
        assert tuple(params) == space.active(params)
        assert all(name == "family" or name.startswith(f"{params['family']}.") for name in params)
        families.add(params["family"])
        one.tell(complete(number, params, float(number % 7)))
    assert families == {"one", "two"}


def test_parameters_of_another_space_are_refused(searcher: type[Searcher]) -> None:
    with pytest.raises(SpaceFault, match="'lr' is not a parameter"):
        searcher(MIXED, seed=0).tell(complete(0, {"lr": 0.1}, 1.0))


def test_budgets_are_kept_and_raising_trials_recorded(searcher: type[Searcher]) -> None:
    now = iter(np.arange(0.0, 1000.0, 0.5))
    seen: list[Trial] = []

    def evaluate(params: Params, seed: int, number: int) -> Trial:
        if number % 3 == 1:
            raise MemoryError("too wide")
        return Trial(number, params, "complete", loss(params), 0.5, seed)

    trials, reason = search(
        searcher(MIXED, seed=0),
        evaluate,
        Budget(trials=5),
        clock=lambda: float(next(now)),
        on_trial=seen.append,
    )
    assert [t.number for t in trials] == [0, 1, 2, 3, 4]
    assert seen == trials
    assert reason == "the budget of 5 trials is spent"
    assert trials[1].status == "failed"
    assert trials[1].error == "MemoryError: too wide"
    assert len({t.seed for t in trials}) == 5

    now = iter(np.arange(0.0, 1000.0, 1.0))
    trials, reason = search(
        searcher(MIXED, seed=0),
        lambda p, s, n: complete(n, p, loss(p)),
        Budget(trials=100, seconds=6),
        clock=lambda: float(next(now)),
    )
    assert 1 <= len(trials) <= 6
    assert reason == "the budget of 6 s is spent"


def test_state_trials_survive_json(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    one.tell(Trial(0, one.ask(), "complete", 0.5, 1.5, 7, {"error": 0.2, "auc": math.nan}))
    row = json.loads(json.dumps(one.state_dict()["trials"][0], allow_nan=False))
    assert trial_from_json(row).metrics == {"error": 0.2}


CHANGED = Space(
    (
        Float("rate", 1e-6, 10.0, log=True),  # widened
        Int("leaves", 2, 64, log=True),  # narrowed
        Ordinal("width", (16, 64)),  # values gone
        Categorical("kernel", ("rbf", "sigmoid", "poly")),  # one gone, one new
        Float("gamma", 0.0, 2.0, log=False, when=("kernel", ("rbf", "sigmoid"))),
        Float("dropout", 0.0, 0.6),  # new; degree is gone
    )
)


def test_warm_start_in_a_changed_space(searcher: type[Searcher]) -> None:
    before = searcher(MIXED, seed=0)
    advance(before, 16)
    state = json.loads(json.dumps(before.state_dict()))
    one, again = (searcher.warm(CHANGED, state, seed=1) for _ in range(2))
    asked = []
    for number in range(12):
        params = one.ask()
        assert params == again.ask()
        CHANGED.validate(params)
        asked.append(key(params))
        for each in (one, again):
            each.tell(complete(number, params, loss(params)))
    assert len(set(asked)) == 12


def test_warm_start_of_a_state_that_it_cannot_read(searcher: type[Searcher]) -> None:
    with pytest.raises(SpaceFault, match="start cold"):
        searcher.warm(MIXED, {"version": 0}, seed=0)


def test_warm_start_after_a_search_that_never_ran(searcher: type[Searcher]) -> None:
    empty = json.loads(json.dumps(searcher(MIXED, seed=0).state_dict()))
    one = searcher.warm(MIXED, empty, seed=0)
    assert len({key(p) for p in advance(one, 10)}) == 10
