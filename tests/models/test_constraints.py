"""Constraints: what a space answers is allowed, and what is refused says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SpaceFault
from models.space import Categorical, Float, Forbidden, Int, Ordered, Space, join

PARTS = Space(
    (
        Categorical("solver", ("newton", "saga", "lbfgs")),
        Categorical("penalty", ("l1", "l2", "elastic")),
        Int("least", 1, 32, log=True),
        Int("most", 1, 32, log=True),
        Float("mix", 0.0, 1.0, when=("penalty", "elastic")),
    ),
    (
        Forbidden({"solver": ("newton", "lbfgs"), "penalty": ("l1", "elastic")}),
        Ordered("least", "most"),
    ),
)
UNITS = st.lists(st.floats(0, 1), min_size=5, max_size=5).map(np.array)


@given(UNITS)
def test_what_decode_answers_is_allowed_and_is_its_own_again(unit: np.ndarray) -> None:
    params = PARTS.decode(unit)
    PARTS.validate(params)
    assert PARTS.allows(params)
    assert PARTS.decode(unit) == params
    again = PARTS.decode(PARTS.encode(params))
    assert {k: v for k, v in again.items() if k != "mix"} == {
        k: v for k, v in params.items() if k != "mix"
    }


@given(st.integers(0, 1_000))
def test_many_points_are_as_each_by_itself(seed: int) -> None:
    units = np.random.default_rng(seed).random((8, 5))
    each = [PARTS.decode(unit) for unit in units]
    assert PARTS.decode_many(units) == each
    snapped, _ = PARTS.canonical_many(units)
    assert snapped == pytest.approx(PARTS.encode_many(each))


def test_samples_and_walks_are_allowed() -> None:
    rng = np.random.default_rng(0)
    assert all(PARTS.allows(PARTS.sample(rng)) for _ in range(200))
    small = Space((Int("a", 1, 3), Int("b", 1, 3)), (Ordered("a", "b", strict=True),))
    assert list(small.configurations()) == [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert small.size() == 3


def test_a_refusal_names_the_rule_the_values_and_the_remedy() -> None:
    with pytest.raises(SpaceFault, match=r"forbidden, got solver='newton', penalty='l1': change"):
        PARTS.validate({"solver": "newton", "penalty": "l1", "least": 1, "most": 2})
    with pytest.raises(SpaceFault, match="got least=9, most=4: lower the first or raise"):
        PARTS.validate({"solver": "saga", "penalty": "l2", "least": 9, "most": 4})


def test_constraints_travel_with_json_and_join() -> None:
    assert Space.from_json(PARTS.to_json()) == PARTS
    joined = join({"one": PARTS, "two": Space((Int("n", 1, 3),))})
    rng = np.random.default_rng(0)
    for _ in range(100):
        params = joined.sample(rng)
        if params["family"] == "one":
            assert params["one.least"] <= params["one.most"]


def test_a_space_in_which_nothing_is_left_says_so() -> None:
    with pytest.raises(SpaceFault):
        Space((Int("a", 1, 3), Int("b", 5, 9)), (Ordered("b", "a"),))
