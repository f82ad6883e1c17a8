"""Spaces of others: what ConfigSpace and Optuna write is the same space here, or is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.constraints import Different, Forbidden, Ordered
from models.errors import SpaceFault
from models.search import from_configspace, from_optuna, to_optuna
from models.space import Categorical, Float, Int, Ordinal, Space
from models.space_formats import default_of

# Written and sampled by ConfigSpace itself, of the versions that are the keys.
WRITTEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "configspaces.json").read_text(encoding="utf-8")
)
SVM = ("0.4.21", "0.5.0", "0.6.1", "1.2.0")


@pytest.mark.parametrize("version", WRITTEN)
def test_what_configspace_samples_is_of_the_space_and_the_other_way_round(version: str) -> None:
    source = WRITTEN[version]
    space = from_configspace(source["space"], drop_priors=True)
    for params in source["sampled"]:
        fitted = {
            name: space[name].repaired(value) if isinstance(value, float) else value
            for name, value in params.items()  # 0.6000000000000001, or 13 digits
        }
        assert all(abs(fitted[n] - v) < 1e-9 for n, v in params.items() if isinstance(v, float))
        space.validate(fitted)
    rng = np.random.default_rng(0)
    rows = {row["name"]: row for row in source["space"]["hyperparameters"]}
    for _ in range(50):
        params = space.sample(rng)
        assert all(holds(row, params) for row in source["space"]["conditions"])
        assert not any(met(row, params) for row in source["space"]["forbiddens"])
        for name, value in params.items():
            row = rows[name]
            options = row.get("choices") or row.get("sequence") or [row.get("value")]
            assert value in options if "upper" not in row else row["lower"] <= value <= row["upper"]
    assert from_configspace(json.dumps(source["space"]), drop_priors=True) == space
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space


def holds(row: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether the child's presence is what the condition says."""
    return (row["child"] in params) == _active(row, params)


def _active(row: dict[str, Any], params: dict[str, Any]) -> bool:
    if row["type"] in ("AND", "OR"):
        each = [_active(part, params) for part in row["conditions"]]
        return all(each) if row["type"] == "AND" else any(each)
    value = params.get(row["parent"])
    if value is None:
        return False
    return {
        "EQ": lambda: value == row["value"],
        "NEQ": lambda: value != row["value"],
        "GT": lambda: value > row["value"],
        "IN": lambda: value in row["values"],
    }[row["type"]]()


def met(row: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether a forbidden clause applies."""
    if row["type"] == "AND":
        return all(met(part, params) for part in row["clauses"])
    if row["type"].startswith("RELATION"):
        a, b = params[row["left"]], params[row["right"]]
        return {"LT": a < b, "EQ": a == b, "GT": a > b}[row["type"][9:]]
    value = params.get(row["name"])
    return value == row["value"] if row["type"] == "EQUALS" else value in row["values"]


def test_each_kind_becomes_its_like() -> None:
    space = from_configspace(WRITTEN["1.2.0"]["space"], drop_priors=True)
    assert space["C"] == Float("C", 1e-3, 1e3, log=True)
    assert space["cache"] == Ordinal("cache", ("small", "mid", "large"))
    assert space["shrinking"] == Categorical("shrinking", (True, False))
    assert space["max_iter"] == Categorical("max_iter", (-1,))
    assert space["degree"] == Int("degree", 1, 5, when=("kernel", "poly"))
    assert space["gamma"].when == ("kernel", ("rbf", "poly"))
    assert space["coef0"].conditions == (("kernel", "poly"), ("degree", (2, 3)))
    assert set(space.constraints) == {
        Forbidden({"cache": "large"}),
        Forbidden({"kernel": "linear", "cache": ("small", "large")}),
    }
    related = from_configspace(WRITTEN["1.2.0 relations"]["space"], drop_priors=True)
    assert related["g"].when == ("k", ("x", "y"))
    assert related["m"].when == ("k", ("y", "z"))
    assert related["o"].when == ("i", (5, 6, 7, 8, 9, 10))
    assert set(related.constraints) == {
        Ordered("b", "a"),
        Ordered("i", "i2"),
        Different("k", "o2"),
    }


def test_the_versions_agree() -> None:
    first, *others = (from_configspace(WRITTEN[v]["space"], drop_priors=True) for v in SVM)
    for other in others:
        assert all(
            other[name].conditions == first[name].conditions
            for name in ("degree", "gamma", "coef0")
        )
        for name in ("C", "kernel", "gamma", "coef0", "cache"):
            assert other[name] == first[name]


def test_defaults_are_a_point_to_try_first() -> None:
    for version in ("0.6.1", "1.2.0"):
        source = WRITTEN[version]["space"]
        space = from_configspace(source, drop_priors=True)
        params = default_of(source, space)
        assert params is not None
        space.validate(params)
        assert params["kernel"] == "rbf"
        assert params["gamma"] == pytest.approx(0.0282842712)
        assert "degree" not in params
    assert default_of(source, Space((*space.parameters, Float("new", 0, 1)))) is None


def edited(*path: Any, value: Any) -> dict[str, Any]:
    source: dict[str, Any] = copy.deepcopy(WRITTEN["1.2.0"]["space"])
    place: Any = source
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return source


def number(**fields: Any) -> dict[str, Any]:
    row = {"type": "uniform_float", "name": "x", "lower": 0.0, "upper": 1.0, **fields}
    return {"hyperparameters": [row], "conditions": [], "forbiddens": []}


def with_forbidden(*rows: dict[str, Any]) -> dict[str, Any]:
    return edited("forbiddens", value=list(rows))


def test_a_quantum_is_a_step() -> None:
    assert from_configspace(number(q=0.1))["x"] == Float("x", 0.0, 1.0, step=0.1)
    whole = number(type="uniform_int", lower=2, upper=32, q=2)
    assert from_configspace(whole)["x"] == Int("x", 2, 32, step=2)
    assert from_configspace(number(q=None))["x"] == Float("x", 0.0, 1.0)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("[1, 2", "got no JSON"),
        ({"name": "x"}, "`hyperparameters`, got"),
        (edited("format_version", value=0.5), "up to version 0.4, got 0.5"),
        (edited("hyperparameters", value=[3]), "list of objects with a `type`"),
        (WRITTEN["1.2.0"]["space"], "'kernel': a space has no priors.*drop_priors=True"),
        (number(type="normal_float", mu=0, sigma=1), "a normal distribution"),
        (number(type="tree"), "got 'tree': make it one of them"),
        (number(lower=None), "has bounds"),
        ({"hyperparameters": [{"type": "ordinal", "name": "o"}]}, "has 'sequence'"),
        (number(q=0.3), "a multiple of q"),
        (number(q=0.1, lower=0.1, log=True), "log scale has no quantum"),
        (edited("conditions", 0, "child", value="nobody"), "has one of the parameters as child"),
        (edited("conditions", 1, "child", value="degree"), "join several by AND"),
        (edited("conditions", 0, "parent", value="nobody"), "parent is one of"),
        (edited("conditions", 0, "parent", value="coef0"), "in a circle"),
        (edited("conditions", 0, "type", value="XOR"), "got 'XOR'"),
        (edited("conditions", 2, "type", value="OR"), "an OR is on one parent"),
        (edited("conditions", 2, "conditions", 1, "parent", value="kernel"), "no value in common"),
        (edited("conditions", 0, value={**WRITTEN["1.2.0"]["space"]["conditions"][0],
            "type": "GT", "parent": "C", "value": 1.0}), "written out as values"),
        (with_forbidden({"type": "EQUALS", "name": "nobody", "value": 1}), "clause names one of"),
        (with_forbidden({"type": "RELATION_LT", "left": "kernel", "right": "cache"}), "numbers"),
        (with_forbidden({"type": "AND", "clauses": [
            {"type": "RELATION_LT", "left": "degree", "right": "C"}]}), "clause names one of"),
        (with_forbidden({"type": "CLAUSE_LT", "name": "kernel", "value": "rbf"}), "has no order"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_remedy(source: Any, match: str) -> None:
    drop = "priors" not in match and "distribution" not in match
    with pytest.raises(SpaceFault, match=match):
        from_configspace(source, drop_priors=drop)


def test_forbidden_alternatives_and_comparisons_are_written_out() -> None:
    both = {
        "type": "AND",
        "clauses": [
            {"type": "OR", "clauses": [
                {"type": "EQUALS", "name": "kernel", "value": "rbf"},
                {"type": "CLAUSE_GE", "name": "cache", "value": "mid"},
            ]},
            {"type": "EQUALS", "name": "shrinking", "value": True},
        ],
    }  # fmt: skip
    space = from_configspace(with_forbidden(both), drop_priors=True)
    assert set(space.constraints) == {
        Forbidden({"kernel": "rbf", "shrinking": True}),
        Forbidden({"cache": ("mid", "large"), "shrinking": True}),
    }


STUDY: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "share": FloatDistribution(0.1, 0.9, step=0.2),
    "leaves": IntDistribution(2, 128, log=True),
    "width": IntDistribution(16, 128, step=16),
    "kernel": CategoricalDistribution(("linear", "rbf", 3, 0.5)),
    "fixed": IntDistribution(7, 7),
}


def test_optunas_trials_are_of_the_space_and_the_other_way_round() -> None:
    space = from_optuna(STUDY)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        params = study.ask(STUDY).params
        space.validate({**params, "share": space["share"].repaired(params["share"])})
    assert to_optuna(space) == STUDY
    rng = np.random.default_rng(0)
    for _ in range(30):
        optuna.trial.create_trial(params=space.sample(rng), distributions=STUDY, value=1.0)
    assert space["width"].size() == 8


def test_an_ordinal_is_a_number_where_it_can_be() -> None:
    space = Space((Ordinal("even", (2, 4, 6)), Ordinal("doubled", (16, 32, 64))))
    assert to_optuna(space) == {
        "even": IntDistribution(2, 6, step=2),
        "doubled": CategoricalDistribution((16, 32, 64)),
    }


@pytest.mark.parametrize(
    ("space", "match"),
    [
        (Space((Categorical("a", (1, 2)), Float("b", 0, 1, when=("a", 1)))), r"got \['b'\]"),
        (
            Space((Int("a", 1, 2), Int("b", 1, 2)), (Ordered("a", "b"),)),
            r"ControllerSampler\(space",
        ),
        (Space((Categorical("a", (1, True)),)), "name them as texts"),
    ],
)
def test_what_optuna_cannot_express_is_refused(space: Space, match: str) -> None:
    with pytest.raises(SpaceFault, match=match):
        to_optuna(space)


def test_a_choice_of_none_is_refused() -> None:
    with pytest.raises(SpaceFault, match=r"got None among .*: name it, 'none'"):
        from_optuna({"penalty": CategoricalDistribution(("l1", None))})
    with pytest.raises(SpaceFault, match="a distribution is Optuna's"):
        from_optuna({"penalty": "l1"})  # type: ignore[dict-item]
