"""What every searcher promises of spaces: their size, their conditions, and spaces that change."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.errors import SpaceFault
from models.search import Budget, Searcher, key, search
from models.space import (
    Categorical,
    Different,
    Float,
    Forbidden,
    Int,
    Ordered,
    Ordinal,
    Parameter,
    Space,
    join,
)
from tests.searcher_parts import MIXED, advance, complete, failed, few, loss


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
    for number in range(max(16, few(searcher, 24))):
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
    for number in range(few(searcher, 40)):
        params = one.ask()
        assert tuple(params) == space.active(params)
        assert all(name == "family" or name.startswith(f"{params['family']}.") for name in params)
        families.add(params["family"])
        one.tell(complete(number, params, float(number % 7)))
    assert families == {"one", "two"}


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
    advance(before, few(searcher, 16))
    state = json.loads(json.dumps(before.state_dict()))
    one, again = (searcher.warm(CHANGED, state, seed=1) for _ in range(2))
    asked = []
    for number in range(few(searcher, 12)):
        params = one.ask()
        assert params == again.ask()
        CHANGED.validate(params)
        asked.append(key(params))
        for each in (one, again):
            each.tell(complete(number, params, loss(params)))
    assert len(set(asked)) == len(asked)


def test_warm_start_of_a_state_that_it_cannot_read(searcher: type[Searcher]) -> None:
    with pytest.raises(SpaceFault, match="start cold"):
        searcher.warm(MIXED, {"version": 0}, seed=0)


def test_warm_start_after_a_search_that_never_ran(searcher: type[Searcher]) -> None:
    empty = json.loads(json.dumps(searcher(MIXED, seed=0).state_dict()))
    one = searcher.warm(MIXED, empty, seed=0)
    assert len({key(p) for p in advance(one, 10)}) == 10


BEFORE = (
    Float("rate", 1e-3, 1.0, log=True),
    Int("leaves", 2, 64),
    Categorical("kernel", ("linear", "rbf")),
    Float("gamma", 0.0, 1.0, when=("kernel", "rbf")),
)
CHANGES: dict[str, tuple[Parameter, ...]] = {
    "nothing": BEFORE,
    "a parameter added": (*BEFORE, Int("depth", 1, 9)),
    "a conditional parameter added": (*BEFORE, Int("degree", 2, 5, when=("kernel", "linear"))),
    "a parameter removed": BEFORE[1:],
    "a parent removed": BEFORE[:2],
    "a condition removed": (*BEFORE[:3], Float("gamma", 0.0, 1.0)),
    "a range widened": (Float("rate", 1e-9, 1e3, log=True), *BEFORE[1:]),
    "a range narrowed": (Float("rate", 0.5, 0.6), *BEFORE[1:]),
    "a range elsewhere": (Float("rate", 10.0, 20.0), *BEFORE[1:]),
    "a scale changed": (Float("rate", 1e-3, 1.0), *BEFORE[1:]),
    "a choice added": (*BEFORE[:2], Categorical("kernel", ("poly", "rbf", "linear")), BEFORE[3]),
    "a choice removed": (*BEFORE[:2], Categorical("kernel", ("rbf",)), BEFORE[3]),
    "a number became a list": (BEFORE[0], Ordinal("leaves", (2, 8, 32)), *BEFORE[2:]),
    "a number became a choice": (BEFORE[0], Categorical("leaves", ("few", "many")), *BEFORE[2:]),
    "a choice became a number": (*BEFORE[:2], Float("kernel", 0.0, 1.0)),
    "the order changed": (BEFORE[2], BEFORE[3], BEFORE[1], BEFORE[0]),
    "all is another": (Float("momentum", 0.0, 1.0), Categorical("color", ("red", "blue"))),
    "fixed": (Int("leaves", 5, 5), Float("rate", 0.1, 0.1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_warm_start_after_one_change(searcher: type[Searcher], change: str) -> None:
    before = searcher(Space(BEFORE), seed=0)
    for number in range(few(searcher, 10)):
        params = before.ask()
        value = abs(float(params["rate"]) - 0.1) + int(params["leaves"]) / 64
        outcome = failed(number, params) if number == 3 else complete(number, params, value)
        before.tell(outcome)
    state = json.loads(json.dumps(before.state_dict(), allow_nan=False))
    space = Space(CHANGES[change])
    one = searcher.warm(space, state, seed=1)
    asked = []
    for number in range(few(searcher, 6)):
        params = one.ask()
        space.validate(params)
        asked.append(key(params))
        one.tell(complete(number, params, float(number)))
        if one.done():
            break
    assert len(set(asked)) == len(asked)
    resumed = searcher(MIXED, seed=5)
    resumed.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert resumed.ask() == one.ask()


def test_a_chain_of_warm_starts_stays_small(searcher: type[Searcher]) -> None:
    state, sizes = None, []
    for seed in range(6):
        one = searcher.warm(MIXED, state, seed=seed) if state else searcher(MIXED, seed=seed)
        advance(one, few(searcher, 12))
        state = json.loads(json.dumps(one.state_dict(), allow_nan=False))
        sizes.append(len(json.dumps(state)))
    assert sizes[-1] < 4 * sizes[0] + 100_000


def drawn(seed: int) -> Space:
    """A space of random kinds, scales and (nested) conditions."""
    rng = np.random.default_rng(seed)
    parameters: list[Parameter] = []
    for place in range(int(rng.integers(3, 9))):
        name, when = f"p{place}", None
        parents = [p for p in parameters if isinstance(p, Categorical | Ordinal | Int)]
        if parents and rng.random() < 0.5:
            parent = parents[int(rng.integers(len(parents)))]
            n = int(min(parent.size(), 3))
            picked = rng.choice(n, size=int(rng.integers(1, n + 1)), replace=False)
            when = (parent.name, tuple(parent.option(int(i)) for i in sorted(picked)))
        kind, log = int(rng.integers(4)), bool(rng.integers(2))
        if kind == 0:
            low = float(10 ** rng.uniform(-6, 0))
            parameters.append(Float(name, low, low * float(10 ** rng.uniform(0, 6)), log, when))
        elif kind == 1:
            low = int(rng.integers(1, 5))
            parameters.append(Int(name, low, low + int(rng.integers(0, 40)), log, when))
        elif kind == 2:
            values = sorted(set(rng.integers(-50, 50, int(rng.integers(1, 5))).tolist()))
            parameters.append(Ordinal(name, tuple(values), when))
        else:
            choices = ("x", True, False, 0, 1.5)[: int(rng.integers(1, 6))]
            parameters.append(Categorical(name, choices, when))
    return Space(tuple(parameters))


@pytest.mark.parametrize("seed", range(8))
def test_any_space(searcher: type[Searcher], seed: int) -> None:
    space = drawn(seed)
    rng = np.random.default_rng(seed)
    one, asked = searcher(space, seed=seed), []
    for number in range(few(searcher, 12)):
        if Searcher.done(one):
            break
        params = one.ask()
        space.validate(params)
        assert tuple(params) == space.active(params)
        asked.append(key(params))
        bad = rng.random() < 0.2
        one.tell(failed(number, params) if bad else complete(number, params, float(rng.normal())))
    assert len(set(asked)) == len(asked)
    resumed = searcher(MIXED, seed=99)
    resumed.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert resumed.space == space
    assert resumed.ask() == one.ask()


@pytest.mark.parametrize(
    "parameter",
    [
        Int("x", 1, 2**40, log=True),
        Int("x", -(2**31), 2**31),
        Float("x", 1e-30, 1e30, log=True),
        Float("x", -1e-12, 1e-12),
        Float("x", 1e6, 1e6 + 1e-3),
        Categorical("x", (True, 1, 0, False, "1", "True")),
        Categorical("x", ("", " ", "'", "a=b", "\n")),
    ],
    ids=lambda p: type(p).__name__,
)
def test_ranges_at_the_edge(searcher: type[Searcher], parameter: Parameter) -> None:
    space = Space((parameter, Float("y", 0, 1)))
    one = searcher(space, seed=0)
    seen = set()
    for number in range(few(searcher, 12)):
        params = one.ask()
        space.validate(params)
        seen.add(key(params))
        one.tell(complete(number, params, float(params["y"])))
    assert len(seen) == few(searcher, 12)


RULES = (
    Forbidden({"solver": "newton", "penalty": ("l1", "elastic")}),
    Ordered("smallest", "largest", strict=True),
    Different("first", "second"),
)
RULED = Space(
    (
        Categorical("solver", ("newton", "saga")),
        Categorical("penalty", ("l1", "l2", "elastic")),
        Int("smallest", 1, 20),
        Int("largest", 1, 20),
        Categorical("first", ("x", "y", "z")),
        Categorical("second", ("x", "y", "z")),
        Float("ratio", 0.0, 1.0, when=("penalty", "elastic")),
    ),
    RULES,
)


def test_constraints_are_never_broken(searcher: type[Searcher]) -> None:
    one, asked = searcher(RULED, seed=0), []
    for number in range(few(searcher, 18)):
        pending = one.ask()
        for params in (pending, one.ask(pending=[pending])):
            RULED.validate(params)
        asked.append(key(pending))
        # better and better towards what is refused
        value = float(pending["largest"]) - float(pending["smallest"])
        value += 5.0 * (pending["solver"] != "newton") + 5.0 * (pending["penalty"] == "l2")
        one.tell(failed(number, pending) if number == 5 else complete(number, pending, value))
    assert len(set(asked)) == len(asked)
    with pytest.raises(SpaceFault, match="'smallest' is below 'largest'"):
        one.tell(complete(99, {**pending, "smallest": 9, "largest": 3}, 1.0))
    resumed = searcher(MIXED, seed=1)
    resumed.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert resumed.space.constraints == RULED.constraints
    assert resumed.ask() == one.ask()


def test_a_finite_space_under_constraints_is_tried_as_far_as_allowed(
    searcher: type[Searcher],
) -> None:
    space = Space((Int("a", 1, 4), Int("b", 1, 4)), (Ordered("a", "b", strict=True),))
    trials, reason = search(
        searcher(space, seed=0), lambda p, s, n: complete(n, p, 1.0), Budget(trials=30)
    )
    assert sorted((t.params["a"], t.params["b"]) for t in trials) == [
        (a, b) for a in range(1, 5) for b in range(a + 1, 5)
    ]
    assert reason == "all 6 configurations of the space have been tried"


def test_constraints_that_are_new_since_the_last_search(searcher: type[Searcher]) -> None:
    free = Space(RULED.parameters)
    before = searcher(free, seed=0)
    for number in range(few(searcher, 16)):
        params = before.ask()
        value = float(params["largest"]) - float(params["smallest"])  # best where it is refused now
        before.tell(complete(number, params, value))
    state = json.loads(json.dumps(before.state_dict(), allow_nan=False))
    one = searcher.warm(RULED, state, seed=0)
    for number in range(few(searcher, 10)):
        params = one.ask()
        RULED.validate(params)
        one.tell(complete(number, params, 1.0))
