"""A model's ONNX form answers as the model: on thresholds, on gaps, on what training never saw."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from models import families
from models.encoding import Encoded, Encoder
from models.families import Fitted, TrainingData
from models.families.custom import LIMIT, FittedCustom
from models.families.design import Design
from models.footprint import footprint
from models.onnx import export, parity, trees
from models.onnx.export import Exported
from models.onnx.session import Session
from models.records import Trial
from models.schema import Column, Schema
from models.training import evaluate_trial

QUICK = {
    "hgb": {"max_iter": 12, "min_samples_leaf": 5},
    "forest": {"n_estimators": 8},
    "mlp": {"epochs": 2},
}
FAMILIES = [name for name in families.NAMES if name not in ("custom", *families.reading("text"))]


def data(
    n: int = 500, *, k: int = 2, numbers: int = 3, cards: tuple[int, ...] = (7, 40)
) -> TrainingData:
    """Halves and whole numbers with gaps, so that many values lie on thresholds' edges."""
    rng = np.random.default_rng(k)
    x = (rng.integers(-6, 6, (n, numbers)) / 2).astype(np.float32)
    x[rng.random((n, numbers)) < 0.1] = np.nan
    ranks = [np.minimum(rng.geometric(min(0.9, 6 / card), n), card - 1) for card in cards]
    codes = np.array(ranks, dtype=np.int64).reshape(len(cards), n).T.copy()
    score = np.nan_to_num(x).sum(axis=1) + np.sin(codes * 1.7).sum(axis=1) * 2
    y = np.digitize(score + rng.normal(size=n), np.quantile(score, np.arange(1, k) / k))
    return TrainingData(Encoded(x, codes), y.astype(np.int64), k, cards)


def encoder(table: TrainingData) -> Encoder:
    return Encoder(
        [f"x{i}" for i in range(table.encoded.numbers.shape[1])],
        {f"c{j}": list(map(str, range(card - 2))) for j, card in enumerate(table.cardinality)},
    )


def fit(family: str, table: TrainingData, **params: object) -> Fitted:
    made = families.get(family)
    return made.fit(table, {**made.default, **QUICK.get(family, {}), **params}, seed=0)


def exported(fitted: Fitted, family: str, table: TrainingData) -> Exported:
    return export.export(fitted, family, encoder(table), table.k, table.encoded)


def apart(made: Exported, fitted: Fitted, rows: Encoded) -> float:
    assert made.form is not None, made.reason
    got, expected = made.form.session.predict_proba(rows), fitted.predict_proba(rows)
    assert (got.shape, got.dtype) == (expected.shape, np.float64)
    np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=1e-6)
    return float(np.abs(got - expected).max())


TABLES = {
    "two classes": data(),
    "three classes": data(k=3),
    "absent classes": replace(data(), k=4, y=data().y * 2),
    "numbers only": data(cards=()),
    "categories only": data(numbers=0),
    "one of each": data(numbers=1, cards=(3,)),
    "more categories than a family holds": data(2_000, numbers=1, cards=(1_002, 3)),
}
TABLES["an empty column"] = data(k=3)
TABLES["an empty column"].encoded.numbers[:, 1] = np.nan


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_form_that_answers_alike(family: str, table: str) -> None:
    trained = TABLES[table]
    fitted = fit(family, trained)
    made = exported(fitted, family, trained)
    assert made.note()["runtime"] == "onnx", made.reason
    beside = parity.perturbed(trained.encoded, trained.cardinality, np.random.default_rng(7))
    assert apart(made, fitted, beside) < 1e-6
    for n in (1, 2, 33):
        assert apart(made, fitted, beside.take(slice(5, 5 + n))) < 1e-6


@pytest.mark.parametrize("family", ["hgb", "forest"])
def test_a_value_on_a_threshold_goes_the_way_it_went(family: str) -> None:
    """Thresholds are float64 and values float32: the nearest values on both sides are tried."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)).astype(np.float32)
    x[:300] = np.round(x[:300] * 4) / 4
    y = (x[:, 0] + np.sin(3 * x[:, 1]) > 0).astype(np.int64)
    table = TrainingData(Encoded(x, np.empty((600, 0), dtype=np.int64)), y, 2, ())
    fitted = fit(family, table)
    model = fitted.model
    if family == "hgb":
        nodes = np.concatenate([tree.nodes for (tree,) in model._predictors])
        nodes = nodes[nodes["is_leaf"] == 0]
        feature, threshold = nodes["feature_idx"], nodes["num_threshold"]
    else:
        trees = [tree.tree_ for tree in model.estimators_]
        inner = [tree.children_left >= 0 for tree in trees]
        feature = np.concatenate([t.feature[i] for t, i in zip(trees, inner, strict=True)])
        threshold = np.concatenate([t.threshold[i] for t, i in zip(trees, inner, strict=True)])
    at = threshold.astype(np.float32)
    sides = [np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))]
    rows = np.tile(x[:1], (3 * len(at), 1))
    rows[np.arange(len(rows)), np.tile(feature, 3)] = np.concatenate(sides)
    grid = Encoded(rows, np.empty((len(rows), 0), dtype=np.int64))
    assert (at == threshold).any()  # some thresholds are float32 numbers themselves,
    assert (at != threshold).any()  # some lie between two
    answers = fitted.predict_proba(grid)[:, 1].reshape(3, -1)
    assert (np.ptp(answers, axis=0) > 1e-3).mean() > 0.1  # a step to the wrong side would show
    assert apart(exported(fitted, family, table), fitted, grid) < 1e-7


@pytest.mark.parametrize("k", [2, 3])
def test_each_code_goes_the_way_it_went_in_categorical_splits(k: int) -> None:
    table = data(1_500, k=k, numbers=1, cards=(30, 300))
    table.encoded.codes[table.encoded.codes == 5] = 6  # a code that training did not show
    fitted = fit("hgb", table, max_iter=20)
    assert any(t.nodes["is_categorical"].any() for each in fitted.model._predictors for t in each)
    codes = np.array([(a, b) for a in range(30) for b in (0, 1, 2, 9, 254, 255, 299)])
    codes = np.concatenate([codes, [(a, b) for a in (0, 3) for b in range(300)]])
    rows = Encoded(np.full((len(codes), 1), 0.5, dtype=np.float32), codes)
    assert np.ptp(fitted.predict_proba(rows)[:, 0]) > 0.1
    assert apart(exported(fitted, "hgb", table), fitted, rows) < 1e-7


def test_a_tree_of_one_leaf_and_a_fit_that_learnt_nothing() -> None:
    table = data(60, cards=(3,))
    fitted = fit("hgb", table, min_samples_leaf=40)
    assert all(len(tree.nodes) == 1 for (tree,) in fitted.model._predictors)
    assert apart(exported(fitted, "hgb", table), fitted, table.encoded) < 1e-7


def test_rows_are_answered_in_turns_as_at_once() -> None:
    table = data()
    form = export.drawn(fit("mlp", table), "mlp", 3, table.cardinality, 2)
    assert form.rows_at_once > len(table)
    whole = form.session.predict_proba(table.encoded)
    turns = Session(form.model, 7).predict_proba(table.encoded)
    np.testing.assert_allclose(turns, whole, atol=1e-7)


def estimators() -> list[object]:
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
    )
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        KNeighborsClassifier(15),
        GaussianNB(),
        GradientBoostingClassifier(n_estimators=10, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        ExtraTreesClassifier(8, random_state=0),
        make_pipeline(StandardScaler(), KNeighborsClassifier(5)),
        make_pipeline(StandardScaler(), ExtraTreesClassifier(8, max_depth=6, random_state=0)),
    ]


def own(model: object, table: TrainingData) -> FittedCustom:
    design = Design.fit(table, limit=LIMIT)
    return FittedCustom(model.fit(design.dense(table.encoded), table.y), design, table.k)


@pytest.mark.parametrize(
    "model", estimators(), ids=lambda m: str(m).split("(")[0] + str(len(str(m)))
)
def test_a_users_own_estimator_has_a_form(model: object) -> None:
    rng = np.random.default_rng(1)
    table = data(400, k=3, cards=(7, 60))
    table.encoded.numbers[:] = rng.normal(size=(400, 3))  # no two rows alike: neighbours don't tie
    fitted = own(model, table)
    made = exported(fitted, "custom", table)
    assert made.form is not None, made.reason
    fresh = Encoded(rng.normal(size=(60, 3)).astype(np.float32), table.encoded.codes[:60])
    assert apart(made, fitted, fresh) < parity.TOLERANCE


def test_without_skl2onnx_a_users_estimator_serves_natively(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.naive_bayes import GaussianNB

    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    table = data(100)
    made = exported(own(GaussianNB(), table), "custom", table)
    assert made.form is None
    assert made.reason.endswith("pip install 'everfit[onnx]'")


def test_an_estimator_that_no_form_is_known_of_serves_natively() -> None:
    from sklearn.semi_supervised import LabelPropagation

    table = data(100)
    made = exported(own(LabelPropagation(max_iter=5_000, tol=0.1), table), "custom", table)
    assert made.note()["runtime"] == "native"
    assert made.reason.startswith("skl2onnx has no form of LabelPropagation")


def test_a_form_that_is_slower_than_the_model_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "_SLOWER", 0.0)
    table = data(100)
    assert "ms for a row, the model itself" in exported(fit("mlp", table), "mlp", table).reason


def test_a_form_that_is_too_large_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST", 100)
    table = data(100)
    assert "its ONNX form may have" in exported(fit("mlp", table), "mlp", table).reason


def test_a_forest_of_too_many_nodes_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "NODES", 100)
    table = data(300)
    assert "may have 100 nodes" in exported(fit("forest", table), "forest", table).reason


def test_a_trials_figures_are_of_what_a_bundle_serves() -> None:
    table = data(300)
    fitted = fit("forest", table)
    form = export.form(fitted, "forest", table)
    assert form is not None
    served, native = (
        footprint(fitted, table.encoded, seconds=0.005, form=each) for each in (form, None)
    )
    np.testing.assert_allclose(served[0], native[0], atol=1e-6)
    assert served[1].keys() == native[1].keys()
    assert served[1]["latency_ms"] < native[1]["latency_ms"] / 3
    assert served[1]["size_mb"] == len(form.model) / 1e6
    assert export.form(fitted, "prophet", table) is None


def test_a_trial_whose_goal_asks_for_latency_is_timed_as_it_would_be_served() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "c": rng.choice(["u", "v"], 300)})
    frame["y"] = (frame["x"] + rng.normal(size=300) > 0).astype(int)
    schema = Schema((Column("x", "number"), Column("c", "category")), "y", (0, 1))

    def trial(served: bool) -> Trial:
        return evaluate_trial(
            frame[:200],
            frame[200:],
            schema,
            {"family": "forest", "forest.n_estimators": 20},
            number=0,
            seed=0,
            objective="log_loss",
            footprint_seconds=0.005,
            served=served,
        )

    quick, slow = trial(True), trial(False)
    assert quick.status == "complete", quick.error
    assert quick.loss == pytest.approx(slow.loss, abs=1e-6)
    assert quick.metrics["latency_ms"] < slow.metrics["latency_ms"] / 3


def test_a_family_without_a_form_says_so() -> None:
    table = data(100)
    made = exported(fit("mlp", table), "prophet", table)
    assert made.note() == {"runtime": "native", "reason": "the family prophet has no ONNX form"}
    for family in ("tfidf", "sentence"):  # these answer otherwise by design
        made = exported(fit("mlp", table), family, table)
        assert made.note()["runtime"] == "native"
        assert made.reason.startswith("it answers in NumPy, ")


class Off:
    """Answers as `fitted`, but for one row in `every`, which it answers `by` otherwise."""

    def __init__(self, fitted: Fitted, by: float, every: int) -> None:
        self.fitted, self.by, self.every = fitted, by, every

    def predict_proba(self, encoded: Encoded) -> np.ndarray:
        proba = self.fitted.predict_proba(encoded)
        if len(proba) >= self.every:
            proba[self.every - 1, 0] += self.by
        return proba


@pytest.mark.parametrize("every", [1, 2, 33, 1_000])
def test_parity_finds_one_wrong_row_in_a_batch_of_each_size(every: int) -> None:
    table = data(600)
    fitted = fit("logistic", table)
    found = parity.difference(Off(fitted, 1e-3, every), fitted, table.encoded, table.cardinality)
    assert found == (pytest.approx(1e-3), 2 * parity.ROWS)
    unknown, _ = parity.difference(Off(fitted, np.nan, every), fitted, table.encoded, (7, 40))
    assert unknown == np.inf


def test_rows_beside_the_recorded_ones_are_hard_and_of_the_same_kind() -> None:
    table = data(500)
    beside = parity.perturbed(table.encoded, table.cardinality, np.random.default_rng(0))
    changed = ~np.isclose(beside.numbers, table.encoded.numbers, rtol=0, atol=0, equal_nan=True)
    assert 0.1 < changed.mean() < 0.4
    assert np.abs(beside.numbers[changed & ~np.isnan(beside.numbers)]).max() > 1e38
    assert np.isnan(beside.numbers[changed]).any()
    assert (beside.codes < table.cardinality).all()
    assert {0, 1} <= set(beside.codes.ravel().tolist())
    assert (beside.numbers.dtype, beside.codes.dtype) == (np.float32, np.int64)
