"""Distributions and lists of scikit-learn users, read as a typed space."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.stats import expon, loguniform, norm, randint, reciprocal, uniform
from sklearn.linear_model import Ridge
from sklearn.svm import SVC

from models.errors import SpaceFault
from models.search.sklearn_space import read
from models.space import Categorical, Float, Int, Ordinal, Space


def one(given: Any) -> Any:
    return read({"x": given}).space["x"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (uniform(), Float("x", 0.0, 1.0)),
        (uniform(loc=-2, scale=5), Float("x", -2.0, 3.0)),
        (loguniform(1e-4, 10), Float("x", 1e-4, 10.0, log=True)),
        (reciprocal(a=1, b=10, scale=3), Float("x", 3.0, 30.0, log=True)),
        (randint(1, 11), Int("x", 1, 10)),
        (randint(low=1, high=11, loc=4), Int("x", 5, 14)),
        ([3, 1, 2], Ordinal("x", (1, 2, 3))),
        ((0.1, 1), Ordinal("x", (0.1, 1))),
        (range(2, 5), Ordinal("x", (2, 3, 4))),
        (np.array([10.0, 1.0]), Ordinal("x", (1.0, 10.0))),
        (["b", "a"], Categorical("x", ("b", "a"))),
        (np.array(["b", "a"]), Categorical("x", ("b", "a"))),
        ([True, False], Categorical("x", (True, False))),
        ([1], Categorical("x", (1,))),
        (["a", "a", "b"], Categorical("x", ("a", "b"))),
        ([None, 5], Categorical("x", ("None", 5))),
        (optuna.distributions.FloatDistribution(1e-3, 1, log=True), Float("x", 1e-3, 1, log=True)),
        (optuna.distributions.IntDistribution(2, 9), Int("x", 2, 9)),
        (optuna.distributions.IntDistribution(1, 9, step=4), Ordinal("x", (1, 5, 9))),
        (
            optuna.distributions.FloatDistribution(0, 0.3, step=0.1),
            Ordinal("x", (0, 0.1, 0.2, 0.3)),
        ),
        (optuna.distributions.CategoricalDistribution([2, 1]), Categorical("x", (2, 1))),
    ],
)
def test_what_can_be_read(given: Any, wanted: Any) -> None:
    assert one(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (expon(scale=2), r"uniform, loguniform and randint .* got expon: .*a list"),
        (norm(), "got norm"),
        (loguniform(1, 10, loc=5), r"a log scale starts at 0, got loguniform moved .*leave `loc`"),
        ("rbf", r"a list of values is wanted, got 'rbf': write \['rbf'\]"),
        (0.5, r"write \[0.5\] to hold it fixed"),
        (None, r"write \[None\]"),
        ({"a": 1}, "a list of values is wanted"),
        ({1, 2}, r"keeps its order .* got a set: write sorted"),
        ((i for i in range(3)), "got a generator"),
        ([], "holds at least one value, got none"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_remedy(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^'x': .*{message}") as caught:
        read({"x": given})
    assert isinstance(caught.value, SpaceFault)


def test_the_remedy_for_other_distributions_works() -> None:
    dist = expon(scale=2)
    x = one(list(dist.ppf(np.linspace(0.02, 0.98, 49))))
    assert isinstance(x, Ordinal)
    assert x.from_unit(0.5) == pytest.approx(dist.median())


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"'a': .*; 'b': .*"):
        read({"a": norm(), "b": [], "c": [1]})
    with pytest.raises(ValueError, match="sub-space 1: 'b'"):
        read([{"a": [1]}, {"b": 3}])


@pytest.mark.parametrize("given", [3, "C", [], [1], None])
def test_another_form_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="a search space is a Space, a dict"):
        read(given)


@pytest.mark.parametrize(
    "values",
    [
        [None, "None"],
        [1, 1.0],
        [1, True],
        [(50,), (50, 50)],
        [np.nan, 0],
        [SVC(), SVC(C=2), Ridge()],
        [SVC(), SVC()],
        [np.mean, np.median, None],
        [np.float64(0.5), "auto"],
        [lambda x: x, lambda x: -x],
    ],
)
def test_anything_in_a_list_reaches_the_estimator_as_it_was(values: list[Any]) -> None:
    reading = read({"x": values})
    parameter = reading.space["x"]
    assert parameter.size() == len(values)
    assert Space.from_json(reading.space.to_json()) == reading.space
    back = [reading.decode({"x": parameter.option(i)})["x"] for i in range(len(values))]
    assert all(
        a is b or (type(a) is type(b) and a == b) or isinstance(b, np.generic)
        for a, b in zip(back, values, strict=True)
    )


def test_labels_are_the_same_in_another_process() -> None:
    text = "from models.search.sklearn_space import read; from sklearn.svm import SVC; "
    text += "import numpy, operator; o = operator.itemgetter(1); class_ = type('K', (), {}); "
    text += "print(read({'x': [SVC(C=3), numpy.mean, None, class_(), o]}).space.to_json())"
    there = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    with contextlib.redirect_stdout(io.StringIO()) as here:
        exec(text, {"__name__": "__main__"})  # where a class of one's own is made, as it is there
    assert there.stdout == here.getvalue()
    assert " at 0x" not in there.stdout


def test_sub_spaces_become_one_conditional_space() -> None:
    reading = read(
        [
            {"C": loguniform(1e-2, 1e2), "kernel": ["linear"]},
            {"C": loguniform(1e-2, 1e2), "kernel": ["rbf"], "gamma": loguniform(1e-4, 1)},
            {"C": loguniform(1e-2, 1e2), "kernel": ["poly"], "gamma": ["scale", "auto"]},
        ]
    )
    space = reading.space
    assert space["C"].when is None  # shared by all: what is learnt of it counts everywhere
    assert space["gamma@1"].when == ("subspace", (1,))
    seen = set()
    for seed in range(40):
        params = reading.decode(space.sample(np.random.default_rng(seed)))
        gamma = params.get("gamma")
        assert set(params) - {"gamma"} == {"C", "kernel"}
        if params["kernel"] == "linear":
            assert gamma is None
        elif params["kernel"] == "rbf":
            assert 1e-4 <= gamma <= 1
        else:
            assert gamma in ("scale", "auto")
        seen.add(params["kernel"])
    assert seen == {"linear", "rbf", "poly"}


def test_a_parameter_may_be_called_as_the_choice_of_sub_spaces() -> None:
    reading = read([{"subspace": [1, 2]}, {"subspace": [3, 4]}])
    drawn = [reading.decode(c) for c in reading.space.configurations()]
    assert [d["subspace"] for d in drawn] == [1, 2, 3, 4]


def test_one_dict_in_a_list_is_that_dict() -> None:
    assert read([{"x": [1, 2]}]).space == read({"x": [1, 2]}).space
