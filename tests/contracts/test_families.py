"""What every model family promises, the user's own trainer included; none is listed by hand."""

from __future__ import annotations

import doctest
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import families
from models.encoding import MISSING, Encoded
from models.errors import DataFault
from models.families import Family, TrainingData, custom
from models.text import sentences
from tests import encoder_parts

QUICK = {
    "forest": {"n_estimators": 20},
    "mlp": {"epochs": 6},
    "hgb": {"max_iter": 40},
    "textnet": {"epochs": 8, "width": 16, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example of the documentation, written to a module of its own."""
    assert custom.__doc__ is not None
    lines = [example.source for example in doctest.DocTestParser().get_examples(custom.__doc__)]
    folder = tmp_path_factory.mktemp("trainer")
    (folder / "documented_trainer.py").write_text("".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "documented_trainer:trainer"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small encoder of sentences, where families look for one."""
    with pytest.MonkeyPatch.context() as patch:
        place = encoder_parts.write(tmp_path_factory.mktemp("encoder"))
        patch.setenv(sentences.VARIABLE, str(place))
        yield place


@pytest.fixture(params=families.NAMES)
def family(request: pytest.FixtureRequest, trainer: str, encoder: Path) -> Family:
    return families.get(request.param, trainer)


def rows(n: int, *, k: int = 2, seed: int = 0, numbers: int = 3, categories: int = 2) -> Encoded:
    """Texts say how large the first number is, or which the first category; tables' families
    read none of it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, numbers)).astype(np.float32)
    if numbers > 1:
        x[rng.random(n) < 0.1, 1] = np.nan
    codes = rng.integers(1, 7, (n, categories))
    words = np.round(3 * x[:, 0]) if numbers else codes[:, 0]
    texts = np.array([[f"It was all of grade{word:.0f}, really."] for word in words], dtype=object)
    return Encoded(x, codes, texts)


def silent(encoded: Encoded) -> Encoded:
    """The same with nothing written."""
    return replace(encoded, texts=np.full((len(encoded), 1), "", dtype=object))


def data(n: int = 400, *, k: int = 2, seed: int = 0, numbers: int = 3, categories: int = 2):
    """Labels that follow the first number, or the first category without any number."""
    encoded = rows(n, seed=seed, numbers=numbers, categories=categories)
    score = encoded.numbers[:, 0] if numbers else encoded.codes[:, 0] / 2 - 2
    noise = np.random.default_rng(seed + 1).normal(size=n) * 0.3
    y = np.digitize(score + noise, np.linspace(-0.7, 0.7, k - 1) if k > 2 else [0.0])
    return TrainingData(encoded, y.astype(np.int64), k, (7,) * categories)


def params(family: Family) -> dict[str, object]:
    default = family.default or family.space.decode(np.full(len(family.space), 0.5))
    return {**default, **QUICK.get(family.name, {})}


def fit(family: Family, table: TrainingData, seed: int = 0):
    return family.fit(table, params(family), seed=seed)


def test_the_default_lies_in_the_space(family: Family) -> None:
    if family.default is not None:
        family.space.validate(family.default)
    assert len(family.space) > 0


@pytest.mark.parametrize("k", [2, 3])
def test_it_learns_and_answers_with_distributions(family: Family, k: int) -> None:
    table = data(k=k)
    proba = fit(family, table).predict_proba(data(k=k, seed=5).encoded)
    assert proba.shape == (400, k)
    assert proba.dtype == np.float64
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(1), 1.0, atol=1e-6)
    truth = data(k=k, seed=5).y
    guess = np.bincount(table.y).argmax()
    assert (proba.argmax(1) != truth).mean() < (truth != guess).mean() - 0.15


def test_equal_seeds_give_equal_models(family: Family) -> None:
    table = data()
    first, again = (fit(family, table, seed=3).predict_proba(table.encoded) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_fit_leaves_the_global_generators_alone(family: Family) -> None:
    import torch

    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    fit(family, data(100))
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_saved_and_loaded_it_answers_the_same_at_any_number_of_rows(
    family: Family, tmp_path: Path
) -> None:
    fitted = fit(family, data(k=3))
    fitted.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".skops", ".pt2", ".npz"}
    loaded = families.get(family.name).load(tmp_path)  # without the trainer: its code is not needed
    fresh = rows(50, seed=9)
    expected = fitted.predict_proba(fresh)
    for n in (1, 2, 3, 50):
        np.testing.assert_allclose(
            loaded.predict_proba(fresh.take(slice(0, n))), expected[:n], atol=1e-6
        )


def test_missing_and_unknown_values_are_answered_even_if_training_had_none(family: Family) -> None:
    table = data()
    full = np.nan_to_num(table.encoded.numbers)
    fitted = fit(family, replace(table, encoded=replace(table.encoded, numbers=full)))
    strange = Encoded(
        np.full((3, 3), np.nan, dtype=np.float32),
        np.array([[0, 0], [MISSING, 0], [6, 5_000]]),
        np.array([[""], ["\x00 \ud800 🦆\n"], ["neverseen " * 5_000]], dtype=object),
    )
    proba = fitted.predict_proba(strange)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1.0, atol=1e-6)


def test_a_column_that_training_never_saw_a_value_of_changes_nothing(family: Family) -> None:
    table, queries = data(), rows(50, seed=9)
    table.encoded.numbers[:, 2] = np.nan
    fitted = fit(family, table)
    proba = fitted.predict_proba(queries)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert (fitted.predict_proba(table.encoded).argmax(axis=1) == table.y).mean() > 0.7


def test_a_class_that_training_did_not_show_has_its_place_and_a_finite_loss(
    family: Family,
) -> None:
    table = replace(data(), k=4, y=data().y * 2)  # classes 0 and 2 of four
    proba = fit(family, table).predict_proba(rows(20, seed=4))
    assert proba.shape == (20, 4)
    assert (proba[:, [1, 3]] > 0).all()
    assert (proba[:, [1, 3]] < 0.05).all()
    np.testing.assert_allclose(proba.sum(1), 1.0, atol=1e-6)


@pytest.mark.parametrize(("numbers", "categories"), [(0, 1), (2, 0), (1, 1)])
def test_tables_of_one_kind_of_column(
    family: Family, numbers: int, categories: int, tmp_path: Path
) -> None:
    table = data(200, numbers=numbers, categories=categories)
    fitted = fit(family, table)
    fitted.save(tmp_path)
    loaded = families.get(family.name).load(tmp_path)
    expected = fitted.predict_proba(table.encoded)
    assert expected.std() > 0.05
    np.testing.assert_allclose(loaded.predict_proba(table.encoded), expected, atol=1e-6)


def test_any_point_of_the_space_can_be_fitted(family: Family) -> None:
    rng = np.random.default_rng(0)
    table = data(150)
    for corner in (0.0, 1.0, None):
        unit = (
            rng.random(len(family.space)) if corner is None else np.full(len(family.space), corner)
        )
        chosen = family.space.decode(unit)
        proba = family.fit(table, chosen, seed=0).predict_proba(table.encoded)
        assert np.isfinite(proba).all(), chosen


def test_threads_get_the_answers_that_one_gets(family: Family) -> None:
    fitted = fit(family, data())
    parts = [rows(20, seed=s) for s in range(8)]
    expected = [fitted.predict_proba(part) for part in parts]
    start = threading.Barrier(4)

    def answer(part: Encoded) -> np.ndarray:
        if not start.broken:
            start.wait(5)
        return fitted.predict_proba(part)

    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(answer, parts), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_more_categories_than_it_can_hold_fold_the_rare_ones(family: Family) -> None:
    """Codes are ranked by frequency: the first ones carry the signal and must survive."""
    rng = np.random.default_rng(0)
    codes = np.where(rng.random(1_500) < 0.6, rng.integers(2, 4, 1_500), np.arange(1_500) + 4)
    encoded = silent(Encoded(np.empty((1_500, 0), dtype=np.float32), codes[:, None]))
    table = TrainingData(encoded, (codes == 2).astype(np.int64), 2, (1_504,))
    proba = fit(family, table).predict_proba(
        silent(Encoded(encoded.numbers[:3], np.array([[2], [3], [0]])))
    )
    assert proba[0, 1] > 0.6
    assert proba[1, 1] < 0.4
    assert np.isfinite(proba).all()


def test_one_class_is_refused() -> None:
    with pytest.raises(DataFault, match="two or more classes, got 1"):
        TrainingData(rows(10), np.zeros(10, dtype=np.int64), 2, (7, 7))
