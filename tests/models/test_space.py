"""The search space: unit cube and back, conditions, faults, overrides, JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SpaceFault
from models.space import Categorical, Float, Int, Ordinal, Space, join

KERNEL = Space(
    (
        Categorical("kernel", ("linear", "rbf", "poly")),
        Float("gamma", 1e-3, 1.0, log=True, when=("kernel", ("rbf", "poly"))),
        Int("degree", 2, 5, when=("kernel", "poly")),
        Ordinal("scale", (0.5, 1, 2), when=("degree", (4, 5))),
    )
)

PARAMETERS = st.one_of(
    st.builds(
        lambda low, width, log: Float("p", low, low + width, log=log),
        st.floats(0.001, 1e6),
        st.floats(0, 1e6),
        st.booleans(),
    ),
    st.builds(
        lambda low, width, log: Int("p", low, low + width, log=log),
        st.integers(1, 10_000),
        st.integers(0, 10_000),
        st.booleans(),
    ),
    st.lists(st.integers(), min_size=1, max_size=30, unique=True).map(
        lambda v: Ordinal("p", tuple(v))
    ),
    st.lists(st.text(), min_size=1, max_size=30, unique=True).map(
        lambda v: Categorical("p", tuple(v))
    ),
)


@settings(max_examples=200, deadline=None)
@given(PARAMETERS, st.floats(0, 1))
def test_decode_is_valid_and_encode_its_inverse(parameter, unit: float) -> None:
    space = Space((parameter,))
    params = space.decode(np.array([unit]))
    space.validate(params)
    again = space.decode(space.encode(params))
    if isinstance(parameter, Float):
        assert again["p"] == pytest.approx(params["p"], rel=1e-9)
    else:
        assert again == params


def test_ends_are_reached_and_beyond_is_clipped() -> None:
    space = Space((Float("f", 0.1, 10, log=True), Int("i", 1, 9), Int("j", 1, 512, log=True)))
    assert space.decode(np.zeros(3)) == {"f": 0.1, "i": 1, "j": 1}
    assert space.decode(np.array([7.0, 7.0, 7.0])) == {"f": 10.0, "i": 9, "j": 512}
    assert space.decode(np.array([0.5, 0.5, 0.5]))["f"] == pytest.approx(1.0)


def test_whole_numbers_have_equal_shares() -> None:
    space = Space((Int("n", 0, 4),))
    rng = np.random.default_rng(0)
    counts = np.bincount([space.sample(rng)["n"] for _ in range(5000)], minlength=5)
    assert counts.min() > 900
    assert counts.max() < 1100


def test_a_log_scale_gives_each_decade_its_share() -> None:
    space = Space((Float("f", 1e-4, 1.0, log=True),))
    rng = np.random.default_rng(0)
    values = np.array([space.sample(rng)["f"] for _ in range(4000)])
    assert np.mean(values < 1e-2) == pytest.approx(0.5, abs=0.03)


def test_conditions_nest() -> None:
    assert KERNEL.active({"kernel": "linear"}) == ("kernel",)
    assert KERNEL.active({"kernel": "poly", "degree": 4, "gamma": 0.1}) == (
        "kernel",
        "gamma",
        "degree",
        "scale",
    )
    rng = np.random.default_rng(0)
    seen = {tuple(KERNEL.sample(rng)) for _ in range(200)}
    assert seen == {
        ("kernel",),
        ("kernel", "gamma"),
        ("kernel", "gamma", "degree"),
        ("kernel", "gamma", "degree", "scale"),
    }


def test_inactive_parameters_are_imputed_in_the_middle() -> None:
    assert KERNEL.encode({"kernel": "linear"})[1:].tolist() == [0.5, 0.5, 0.5]


def test_true_is_not_one() -> None:
    space = Space((Categorical("a", (True, 1)), Int("b", 0, 9, when=("a", True))))
    assert space.active({"a": 1}) == ("a",)
    assert space.active({"a": True, "b": 0}) == ("a", "b")
    assert space.encode({"a": 1}).tolist() == [0.75, 0.5]


def test_every_fault_of_params_is_named_at_once() -> None:
    with pytest.raises(SpaceFault) as fault:
        KERNEL.validate({"kernel": "rbf", "gamma": 2.0, "degree": 3, "lr": 1})
    message = str(fault.value)
    assert "'lr' is not a parameter, got 1" in message
    assert "'gamma': a number in [0.001, 1] is wanted, got 2.0" in message
    assert "'degree' counts only when 'kernel' is 'poly', got 3 beside kernel='rbf'" in message
    with pytest.raises(SpaceFault, match="'gamma' is active and must be set"):
        KERNEL.validate({"kernel": "rbf"})


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float("p", 0, 1), math.nan),
        (Float("p", 0, 1), math.inf),
        (Float("p", 0, 1), True),
        (Float("p", 0, 1), "0.5"),
        (Int("p", 0, 9), 1.5),
        (Int("p", 0, 9), True),
        (Int("p", 0, 9), None),
        (Ordinal("p", (1, 2)), 3),
        (Categorical("p", ("a",)), ["a"]),
    ],
)
def test_unfit_values_are_refused(parameter, value) -> None:
    with pytest.raises(SpaceFault, match="is wanted, got"):
        Space((parameter,)).validate({"p": value})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Float("p", 1, 0), "`low` is at most `high`; got"),
        (lambda: Float("p", 0, 1, log=True), "a log scale starts above 0; got 0"),
        (lambda: Float("p", "1e-3", 1), "YAML reads 1e-3 as text"),
        (lambda: Float("p", math.nan, 1), "finite number; got nan"),
        (lambda: Int("p", 0.5, 2), "whole number; got 0.5"),
        (lambda: Ordinal("p", ()), "non-empty tuple"),
        (lambda: Categorical("p", ("a", "a")), "distinct"),
        (lambda: Categorical("p", ("a", None)), "numbers, texts or booleans; got None"),
        (lambda: Categorical("", ("a",)), "non-empty string"),
        (lambda: Space((Int("p", 0, 1), Int("p", 0, 1))), "'p' comes twice"),
        (lambda: Space((Int("p", 0, 1, when=("q", 1)),)), "a parent comes before its child"),
        (lambda: Space((Int("q", 0, 1), Int("p", 0, 1, when=("q", 7)))), "is 7, which cannot be"),
        (lambda: join({}), "at least one family"),
    ],
)
def test_unfit_spaces_are_refused(build, message: str) -> None:
    with pytest.raises(SpaceFault) as fault:
        build()
    assert message in str(fault.value)


def test_json_round_trip() -> None:
    space = join({"svm": KERNEL, "flag": Space((Categorical("on", (True, False)),))})
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.parameters == space.parameters
    with pytest.raises(SpaceFault, match="kind is one of"):
        Space.from_json([{"kind": "complex", "name": "z"}])
    with pytest.raises(SpaceFault, match="unfit fields"):
        Space.from_json([{"kind": "int", "name": "z"}])


def test_join_of_one_family_still_has_the_choice() -> None:
    space = join({"svm": KERNEL})
    assert space.parameters[0] == Categorical("family", ("svm",))
    params = space.sample(np.random.default_rng(1))
    assert params["family"] == "svm"
    assert space["svm.degree"].when == ("svm.kernel", "poly")


def test_size_counts_configurations() -> None:
    assert KERNEL.size() == math.inf
    space = KERNEL.override({"gamma": {"value": 0.1}})
    assert space.size() == 1 + 1 + (2 + 2 * 3)
    listed = list(space.configurations())
    assert len(listed) == 10
    for params in listed:
        space.validate(params)
    with pytest.raises(SpaceFault, match="finite"):
        KERNEL.configurations()


def test_override_replaces_and_drops_what_can_no_longer_be() -> None:
    space = KERNEL.override({"kernel": {"choices": ["linear", "rbf"]}, "gamma": {"high": 0.5}})
    assert [p.name for p in space.parameters] == ["kernel", "gamma"]
    assert space["gamma"] == Float("gamma", 1e-3, 0.5, log=True, when=("kernel", ("rbf",)))
    assert KERNEL.override({"degree": {"value": 3}})["degree"].size() == 1


def test_override_names_every_fault() -> None:
    with pytest.raises(SpaceFault) as fault:
        KERNEL.override(
            {
                "gama": {"low": 1},
                "gamma": {"low": "1e-3"},
                "kernel": {"values": ["rbf"]},
                "degree": {"low": 9},
                "scale": 3,
            }
        )
    message = str(fault.value)
    for part in (
        "'gama' is not a parameter: use one of ['kernel'",
        "write 1.0e-3",
        "'kernel' has the fields ['choices', 'value'], got ['values']",
        "'degree': `low` is at most `high`",
        "an override is a mapping",
    ):
        assert part in message
