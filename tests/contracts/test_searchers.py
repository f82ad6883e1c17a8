"""What every searcher promises. Subclasses under models/search/ are found, not listed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import SpaceFault
from models.records import Params, Trial
from models.search import Budget, Searcher, key, search, trial_from_json
from models.space import Categorical, Float, Int, Space
from tests.searcher_parts import MIXED, advance, complete, discovered, failed, few, loss


def test_both_are_discovered() -> None:
    assert {cls.kind for cls in discovered()} >= {"controller", "random"}


def test_equal_seeds_give_equal_trials_and_other_seeds_others(searcher: type[Searcher]) -> None:
    first, again, other = (advance(searcher(MIXED, seed=s), 12) for s in (3, 3, 4))
    assert first == again
    assert sum(key(a) == key(b) for a, b in zip(first, other, strict=True)) < 3


def test_asking_changes_nothing(searcher: type[Searcher]) -> None:
    one, quiet = searcher(MIXED, seed=0), searcher(MIXED, seed=0)
    for _ in range(3):
        one.ask()
        one.ask(pending=2)
        one.done()
        np.random.seed(1)  # global randomness must not matter
        more = few(searcher, 4)
        assert advance(one, more) == advance(quiet, more)


def test_ask_without_tell_gives_different_trials(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    assert one.ask() == one.ask()
    counted = [key(one.ask(pending=n)) for n in range(12)]
    assert len(set(counted)) == 12
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
    more = few(searcher, 8)
    assert advance(resumed, more) == advance(one, more)
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


def test_working_side_by_side_is_replayable_and_survives_a_restart(
    searcher: type[Searcher],
) -> None:
    def work(restart: bool) -> list[Params]:
        one, asked = searcher(MIXED, seed=4), []
        running: dict[int, Params] = {}
        for step in range(few(searcher, 16)):
            params = one.ask(pending=list(running.values()))
            assert key(params) not in {key(p) for p in running.values()}
            asked.append(params)
            running[step] = params
            if len(running) == 3:  # the middle one ends first
                number = sorted(running)[1]
                params = running.pop(number)
                ended = failed(number, params) if number % 4 == 1 else None
                one.tell(ended or complete(number, params, loss(params)))
            if restart and step == 7:
                state = json.loads(json.dumps(one.state_dict(), allow_nan=False))
                one = searcher(MIXED, seed=0)
                one.load_state_dict(state)
        assert len({key(p) for p in asked}) == len(asked)
        return asked

    assert work(restart=False) == work(restart=True)


def test_configurations_that_it_did_not_ask_for_are_taken_in(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    known = {"rate": 0.01, "leaves": 16, "width": 32, "kernel": "rbf", "gamma": 0.5}
    one.tell(complete(0, known, loss(known)))
    one.tell(complete(1, {**known, "rate": np.float64(0.1), "leaves": 8}, 1.0))
    asked = advance(one, few(searcher, 12))
    assert key(known) not in {key(p) for p in asked}
    again = searcher(MIXED, seed=9)
    again.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert again.ask() == one.ask()


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
def test_losses_of_any_size(searcher: type[Searcher], scale: float) -> None:
    one = searcher(MIXED, seed=0)
    seen = set()
    for number in range(few(searcher, 16)):
        params = one.ask()
        MIXED.validate(params)
        seen.add(key(params))
        one.tell(complete(number, params, scale * (-1) ** number))
        one.done()
    assert len(seen) == few(searcher, 16)


def test_a_single_outlier_does_no_harm(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    for number in range(few(searcher, 16)):
        params = one.ask()
        one.tell(complete(number, params, 1e12 if number == 2 else loss(params)))
    MIXED.validate(one.ask())


def test_failed_trials_of_a_finite_space_are_not_tried_again(searcher: type[Searcher]) -> None:
    space = Space((Categorical("a", ("x", "y")), Int("b", 1, 3)))
    one, seen = searcher(space, seed=1), []
    for number in range(6):
        params = one.ask()
        seen.append(key(params))
        one.tell(failed(number, params) if number % 2 else complete(number, params, 1.0))
    assert len(set(seen)) == 6
    assert one.done() == "all 6 configurations of the space have been tried"


def test_a_finite_space_may_be_under_way_as_a_whole(searcher: type[Searcher]) -> None:
    space = Space((Categorical("a", ("x", "y")), Int("b", 1, 3)))
    one = searcher(space, seed=1)
    pending: list[Params] = []
    for _ in range(6):
        pending.append(one.ask(pending=pending))
    assert len({key(p) for p in pending}) == 6
    space.validate(one.ask(pending=pending))  # nothing is left; it answers nevertheless
    assert one.done() is None  # not before the outcomes are told


def test_fidelity_and_curve_are_kept(searcher: type[Searcher]) -> None:
    one = searcher(MIXED, seed=0)
    curve = ((0.1, 0.9), (0.5, 0.4))
    one.tell(Trial(0, one.ask(), "complete", 0.4, 1.0, 0, fidelity=0.5, curve=curve))
    again = searcher(MIXED, seed=1)
    again.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert again.history[0].fidelity == 0.5
    assert again.history[0].curve == curve
    assert again.ask() == one.ask()


OTHER_PROCESS = """
import json
from tests.searcher_parts import MIXED, advance, discovered, few
out = {}
for cls in discovered():
    one = cls(MIXED, seed=3)
    out[cls.kind] = advance(one, few(cls, 12))
print(json.dumps(out))
"""


def test_another_process_proposes_the_same() -> None:
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OTHER_PROCESS],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        check=False,
        text=True,
    )
    assert there.returncode == 0, there.stderr
    asked = json.loads(there.stdout)
    for cls in discovered():
        assert asked[cls.kind] == advance(cls(MIXED, seed=3), few(cls, 12)), cls.kind
