"""A model that is made small and adapted in one fit is both: each choice with each way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import families
from models.compress import distil, texts, units
from models.encoding import Encoded
from models.families import TrainingData
from models.onnx import export
from models.transfer import adapt

SMALL = {
    "sparse": {"compress": "sparse", "sparsity": 0.8, "precision": "int8"},
    "units": {"compress": "units", "sparsity": 0.7, "precision": "float32"},
    "student": {"compress": "student", "student": 16, "temperature": 2.0, "precision": "int8"},
}


def fitted(name: str, data: TrainingData, way: str, **params: object):
    """The path of a trial: what `prepared` gives is what the family fits."""
    family = families.get(name)
    asked = {**family.default, **params}
    space = adapt.widened(family, adapt.METHODS)
    if way != "none":
        asked |= {"adapt": way, "adapt_strength": 1.0}
    space.validate({"adapt": "none", **asked})
    given, own = adapt.prepared(family, data, asked, seed=0)
    return adapt.fit(family, given, own, seed=0)


def accuracy(model, rows: Encoded, y: np.ndarray) -> float:
    return float((model.predict_proba(rows).argmax(axis=1) == y).mean())


def numbers(x: np.ndarray) -> Encoded:
    return Encoded(x.astype(np.float32), np.empty((len(x), 0), dtype=np.int64))


def bent(n: int = 700) -> tuple[TrainingData, np.ndarray]:
    """The label follows x where x < 0 and its opposite beyond, where most of the target lies."""
    rng = np.random.default_rng(0)

    def rows(mean: float) -> tuple[Encoded, np.ndarray]:
        x = rng.normal(mean, 1.0, n)
        y = np.where(x < 0, x + 1, 1 - x) + rng.normal(0, 0.3, n) > 0
        return numbers(np.column_stack([x, rng.normal(size=n)])), y.astype(np.int64)

    (source, y), (target, late) = rows(-0.7), rows(0.7)
    return TrainingData(source, y, 2, (), target=target), late


def leaning(n: int = 700) -> tuple[TrainingData, np.ndarray]:
    """Of two columns that tell the label in the source, the target has one elsewhere, and it tells
    nothing there."""
    rng = np.random.default_rng(1)

    def rows(told: float, at: float) -> tuple[Encoded, np.ndarray]:
        y = rng.integers(0, 2, n)
        sign = 2 * y - 1
        x = rng.normal(size=(n, 4))
        x[:, 0] += told * sign + at
        x[:, 1] += 1.2 * sign
        return numbers(x), y

    (source, y), (target, late) = rows(1.5, 0.0), rows(0.0, 3.0)
    return TrainingData(source, y, 2, (), target=target), late


def small_enough(kind: str, net, full) -> bool:
    if kind == "student":
        return units.widths(net) < units.widths(full) and max(units.widths(net)) <= 16
    kept, (_, total) = units.left(net)[0], units.left(full)
    return kept <= (1.01 - float(SMALL[kind]["sparsity"])) * total


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(
    ("way", "world"), [("weights", bent), ("coral", leaning), ("mmd", leaning)]
)
def test_a_small_perceptron_is_adapted_and_an_adapted_one_small(kind, way, world) -> None:
    data, late = world()
    shape = {"width": 32, "depth": 1, "dropout": 0.0, "epochs": 4, "learning_rate": 1e-2}
    plain = fitted("mlp", data, "none", **shape, **SMALL[kind])
    both = fitted("mlp", data, way, **shape, **SMALL[kind])
    full = fitted("mlp", data, way, **shape)
    assert data.target is not None
    found = {name: accuracy(m, data.target, late) for name, m in
             (("plain", plain), ("both", both), ("full", full))}  # fmt: skip
    assert found["both"] > found["plain"] + 0.05, found
    assert found["both"] > found["full"] - 0.06, found
    assert small_enough(kind, both.module, full.module)
    assert bool(both.steps) == (SMALL[kind]["precision"] == "int8")
    form = export.drawn(both, "mlp", data.target.numbers.shape[1], (), 2)
    expected = both.predict_proba(data.target)
    np.testing.assert_allclose(form.session.predict_proba(data.target), expected, atol=5e-6)


def reviews(n: int = 240, seed: int = 0) -> tuple[TrainingData, np.ndarray]:
    """A small phone is good and a small room bad; one in seven source rows is of phones, and all of
    the target's. Other words tell as much in both."""
    rng = np.random.default_rng(seed)
    filler = [f"word{i}" for i in range(40)]

    def rows(phones: np.ndarray) -> tuple[Encoded, np.ndarray]:
        good = rng.integers(0, 2, len(phones))
        lines = np.empty((len(phones), 1), dtype=object)
        for row, (phone, liked) in enumerate(zip(phones, good, strict=True)):
            size = "small" if liked == phone else "large"
            about = ["phone", "battery", "screen"] if phone else ["room", "bed", "window"]
            lines[row, 0] = " ".join([*rng.choice(about, 2), *rng.choice(filler, 3), size])
        nothing = np.empty((len(phones), 0))
        return Encoded(nothing.astype(np.float32), nothing.astype(np.int64), lines), good

    (source, y), (target, late) = rows(np.arange(n) % 7 == 0), rows(np.ones(n, dtype=bool))
    return TrainingData(source, y, 2, (), target=target), late


@pytest.mark.parametrize(
    ("kind", "way"),
    [("sparse", "weights"), ("units", "weights"), ("student", "weights"), ("student", "mmd")],
)
def test_a_small_text_network_is_adapted_and_an_adapted_one_small(kind: str, way: str) -> None:
    data, late = reviews()
    shape = {"width": 32, "epochs": 4, "phrases": 1, "least": 1}
    plain = fitted("textnet", data, "none", **shape, **SMALL[kind])
    both = fitted("textnet", data, way, **shape, **SMALL[kind])
    assert data.target is not None
    proba, before = (model.predict_proba(data.target) for model in (both, plain))
    if way == "weights":
        assert accuracy(both, data.target, late) > accuracy(plain, data.target, late) + 0.2
    assert np.abs(proba - before).max() > 0.01
    whole = 32 * both.net.shape.vocabulary + 2 * both.net.shape.rows
    assert texts.left(both.net) < (0.8 if kind == "student" else 0.5) * whole
    form = export.drawn(both, "textnet", 0, (), 2)
    np.testing.assert_allclose(form.session.predict_proba(data.target), proba, atol=5e-6)


def test_a_student_of_an_adapted_teacher_learns_what_it_says_of_the_target() -> None:
    """Rows that the student is shown, and what weighs in them: those of both domains."""
    source, target = numbers(np.zeros((30, 1))), numbers(np.ones((10, 1)))
    real = distil.both(source, target)
    weights = np.repeat([0.0, 3.0], [30, 10])
    made = distil.mingled(real, 50, np.random.default_rng(0), weights)
    assert made.numbers.min() == 1.0  # rows that count for nothing are not mixed either
    teacher = torch.tensor([[2.0, -2.0], [-2.0, 2.0]])
    rule = distil.loss(teacher, torch.tensor([0, -1]), 2.0, weights=torch.tensor([0.0, 2.0]))
    rows = torch.tensor([0, 1])
    assert float(rule(torch.tensor([[-9.0, 9.0], [-2.0, 2.0]]), rows)) == pytest.approx(0, abs=1e-6)
    assert float(rule(torch.tensor([[2.0, -2.0], [9.0, -9.0]]), rows)) > 1


def test_of_a_model_that_teaches_itself_the_last_fit_alone_is_made_small() -> None:
    data, _ = leaning(200)
    mlp, asked = families.get("mlp"), []

    class Spy:
        name, adapts, space = mlp.name, mlp.adapts, mlp.space

        def fit(self, rows, params, **more):
            asked.append(params["compress"])
            return mlp.fit(rows, params, **more)

    params = {**mlp.default, "epochs": 1, **SMALL["units"], "adapt": "self", "adapt_strength": 0.9}
    given, own = adapt.prepared(Spy(), data, params, seed=0)  # type: ignore[arg-type]
    made = adapt.fit(Spy(), given, own, seed=0)  # type: ignore[arg-type]
    assert asked == ["none", "none", "none", "units"]
    assert max(units.widths(made.module)) < 32


def test_the_joined_space_has_both() -> None:
    space = families.space(["mlp", "textnet"], adapt=["weights", "mmd"], shrink=True)
    for name in ("mlp", "textnet"):
        both = {**families.get(name).default, **SMALL["units"]}
        params = families.joined(name, {**both, "adapt": "mmd", "adapt_strength": 0.5})
        space.validate(params)
        assert space.decode(space.encode(params)).keys() == params.keys()
