"""Fitting for rows of another domain: points, weights, alignment, penalties, parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from models import families, training
from models.encoding import Encoded
from models.errors import SpaceFault
from models.families import TrainingData
from models.schema import Column, Schema
from models.transfer import adapt
from models.transfer.align import aligned
from models.transfer.features import embedded, points, telling
from models.transfer.teach import levelled, surest
from models.transfer.weights import importance


def encoded(numbers: np.ndarray, texts: list[str] | None = None) -> Encoded:
    words = None if texts is None else np.array([[t] for t in texts], dtype=object)
    return Encoded(numbers.astype(np.float32), np.empty((len(numbers), 0), dtype=np.int64), words)


def test_texts_of_one_subject_lie_together_and_equal_seeds_give_equal_points() -> None:
    rng = np.random.default_rng(0)
    about = {"cats": ["cat", "paw", "purr", "tail"], "cars": ["wheel", "motor", "road", "brake"]}
    lines = [" ".join(rng.choice(words, 6)) for words in about.values() for _ in range(40)]
    found = embedded(lines, seed=1, width=8)
    assert np.array_equal(found, embedded(lines, seed=1, width=8))
    near = found @ found.T
    assert near[:40, :40].mean() > near[:40, 40:].mean() + 0.3
    first, second = telling(lines[:40], lines[40:])
    assert set(first) == set(about["cats"])
    assert set(second) == set(about["cars"])
    assert embedded(["", "!"]).tolist() == [[0.0], [0.0]]


def test_points_have_gaps_levels_and_words_and_are_finite() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(60, 2))
    numbers[::7, 0] = np.nan
    rows = Encoded(
        numbers.astype(np.float32),
        rng.integers(1, 5, (60, 1)),
        np.array([[w] for w in rng.choice(["good book", "bad film"], 60)], dtype=object),
    )
    x, y = points(rows.take(slice(0, 40)), rows.take(slice(40, 60)), (5,))
    assert (len(x), len(y)) == (40, 20)
    assert np.isfinite(x).all()
    assert x.shape[1] == y.shape[1] > 2 + 1 + 4
    constant = encoded(np.ones((5, 1)))
    assert points(constant, constant, ())[0].tolist() == [[0.0]] * 5


def test_weights_turn_the_source_s_mean_into_the_target_s_and_stay_1_without_a_shift() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(1_200, 2)), rng.normal(size=(800, 2))
    target[:, 0] += 1.0
    found = importance(source, target)
    assert found.values.mean() == pytest.approx(1.0)
    assert np.average(source[:, 0], weights=found.values) == pytest.approx(1.0, abs=0.15)
    assert abs(np.average(source[:, 1], weights=found.values)) < 0.15
    assert found.auc > 0.7
    half = importance(source, target, strength=0.5)
    assert half.effective > found.effective
    assert 0.3 < np.average(source[:, 0], weights=half.values) < 0.7
    alike = importance(source[:600], source[600:])
    assert alike.values.std() < 0.1


def test_a_shift_without_overlap_leaves_a_tenth_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    found = importance(rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) + 4)
    assert 0.1 <= found.effective < 0.9
    assert found.auc > 0.99


def test_alignment_gives_the_source_the_moments_of_the_target_and_keeps_gaps() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(4_000, 3)).astype(np.float32)
    turn = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    target = (rng.normal(size=(4_000, 3)) @ turn + [5, 0, 0]).astype(np.float32)
    target[:, 2] = 7.0  # no spread: left alone
    source[0, 0] = np.nan
    moved = aligned(source, target)
    known = moved[1:]
    assert np.allclose(known.mean(axis=0)[:2], target.mean(axis=0)[:2], atol=0.1)
    before, after = (np.corrcoef(rows[:, :2], rowvar=False)[0, 1] for rows in (source[1:], known))
    assert abs(before) < 0.05
    assert after > 0.25  # below the target's 0.71: the ridge holds it back
    assert np.isnan(moved[0, 0])
    assert np.array_equal(moved[:, 2], source[:, 2])
    assert np.array_equal(aligned(source, target, strength=0.0), source, equal_nan=True)


def shifted(n: int = 900, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The label follows x where x < 0, and its opposite beyond: few source rows lie there, most of
    the target's do. A linear model of all source rows is wrong on the target."""
    rng = np.random.default_rng(seed)

    def rows(mean: float) -> pd.DataFrame:
        x = rng.normal(mean, 1.0, n)
        score = np.where(x < 0, x + 1, 1 - x) + rng.normal(0, 0.3, n)
        return pd.DataFrame({"x": x, "z": rng.normal(size=n), "y": np.where(score > 0, "a", "b")})

    return rows(-1.0), rows(1.0)


SCHEMA = Schema((Column("x", "number"), Column("z", "number")), "y", ("b", "a"))


@pytest.mark.parametrize("family", ["logistic", "mlp"])
def test_weighting_by_the_domain_classifier_helps_where_the_rows_moved(family: str) -> None:
    source, target = shifted()
    losses = {}
    for way in ("none", "weights"):
        params = {"family": family, f"{family}.adapt": way}
        if way != "none":
            params[f"{family}.adapt_strength"] = 1.0
        if family == "mlp":
            params |= {"mlp.width": 16, "mlp.depth": 1, "mlp.epochs": 3}
        done = training.evaluate_trial(
            source, target, SCHEMA, params, number=0, seed=0, objective="log_loss"
        )
        assert done.status == "complete", done.error
        losses[way] = done.loss
    assert losses["weights"] < losses["none"] - 0.1


@pytest.mark.parametrize("family", ["logistic", "hgb"])
def test_rows_measured_by_another_scale_are_aligned(family: str) -> None:
    rng = np.random.default_rng(0)
    x, late = rng.normal(size=(600, 2)), rng.normal(size=(600, 2))
    y, labels = (x[:, 0] + x[:, 1] > 0), (late[:, 0] + late[:, 1] > 0)
    served = encoded(late * 1.5 + [3.0, 0.0])  # the same rows, by a gauge that has drifted
    data = TrainingData(encoded(x), y.astype(np.int64), 2, (), target=served)
    made = families.get(family)

    def right(way: str) -> float:
        params = {**made.default, "adapt": way, "adapt_strength": 1.0}
        known, left = adapt.prepared(made, data, params, seed=0)
        proba = adapt.fit(made, known, left, seed=0).predict_proba(served)
        return float((proba.argmax(axis=1) == labels).mean())

    assert right("coral") > max(right("none") + 0.2, 0.9)


@pytest.mark.parametrize("way", ["coral", "mmd"])
def test_a_network_s_penalty_brings_the_hidden_layers_together(way: str) -> None:
    import torch

    from models.families import network

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    rows = encoded(x)
    other = encoded(rng.normal(size=(600, 4)) * 1.5 + [2, 2, 0, 0])
    y = (x[:, 2] > 0).astype(np.int64)
    data = TrainingData(rows, y, 2, (), target=other)
    params = {**families.get("mlp").default, "dropout": 0.0}

    def gap(**more: object) -> float:
        net = network.train(data, {**params, **more}, seed=0, seconds=None)
        with torch.no_grad():
            hidden = [
                net.hidden(torch.from_numpy(e.numbers), torch.from_numpy(e.codes), 0.0, None)
                for e in (rows, other)
            ]
        means = [side.mean(0) for side in hidden]
        return float((means[0] - means[1]).norm() / hidden[0].std())

    assert gap(adapt=way, adapt_strength=1.0) < 0.5 * gap()


def test_a_model_teaches_itself_at_the_source_s_shares_of_the_classes() -> None:
    leaning = np.array([[0.4, 0.6], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])  # all to one side
    shares = np.array([0.5, 0.5])
    found = levelled(leaning, shares)
    assert found.mean(axis=0) == pytest.approx(shares, abs=1e-5)
    rows, labels = surest(found, shares, 0.5)
    assert rows.tolist() == [0, 3]
    assert labels.tolist() == [0, 1]

    rng = np.random.default_rng(0)
    y = np.arange(800) % 2
    x = rng.normal(size=(800, 1)) + 2 * y[:, None]
    late = rng.normal(size=(800, 1)) * 0.7 + 2 * y[:, None] + 1.5  # the same, further along
    data = TrainingData(encoded(x), y.astype(np.int64), 2, (), target=encoded(late))
    family = families.get("logistic")

    def right(way: str) -> float:
        asked = {**family.default, "adapt": way, "adapt_strength": 0.9}
        made, left = adapt.prepared(family, data, asked, seed=0)
        proba = adapt.fit(family, made, left, seed=0).predict_proba(encoded(late))
        return float((proba.argmax(axis=1) == y).mean())

    assert right("self") > right("none") + 0.1


def test_ways_to_adapt_are_parameters_of_the_families_that_can_be_given_them() -> None:
    plain = families.space(["logistic", "mlp", "hgb"])
    space = families.space(["logistic", "mlp", "hgb"], adapt=["mmd", "weights"])
    assert families.space(["logistic", "mlp", "hgb"], adapt=[]) == plain
    assert space["logistic.adapt"].choices == ("none", "weights")
    assert space["mlp.adapt"].choices == ("none", "weights", "mmd")
    found = families.defaults(["logistic", "mlp"], adapt=["mmd", "weights"])
    ways = [(p["family"], p[f"{p['family']}.adapt"]) for p in found]
    assert ways == [
        ("logistic", "none"), ("mlp", "none"), ("logistic", "weights"), ("mlp", "weights"),
        ("mlp", "mmd"),
    ]  # fmt: skip
    for params in found:
        space.encode(params)  # each is of the space
    with pytest.raises(SpaceFault, match=r"a way to adapt is one of .*got \['coal'\]"):
        families.space(["logistic"], adapt=["coal"])


def test_adapting_needs_target_rows_and_a_way_that_the_family_has() -> None:
    rng = np.random.default_rng(0)
    rows = encoded(rng.normal(size=(50, 2)))
    data = TrainingData(rows, np.arange(50) % 2, 2, ())
    logistic = families.get("logistic")
    with pytest.raises(SpaceFault, match="needs rows of the domain that is served, got none"):
        adapt.prepared(logistic, data, {"adapt": "weights"}, seed=0)
    both = replace(data, target=rows)
    with pytest.raises(SpaceFault, match="logistic can adapt by coral, self, weights, got 'mmd'"):
        adapt.prepared(logistic, both, {"adapt": "mmd"}, seed=0)
    same, params = adapt.prepared(logistic, both, {"C": 1.0}, seed=0)
    assert same.weights is None
    assert params == {"C": 1.0}


def test_a_bundle_is_fitted_towards_the_rows_that_are_served(tmp_path) -> None:
    from models.bundle import Predictor

    source, target = shifted(400)
    params = {"family": "logistic", "logistic.adapt": "weights", "logistic.adapt_strength": 1.0}
    served = target.drop(columns="y")
    training.fit_bundle(source, SCHEMA, params, folder=tmp_path / "b", seed=0, target=served)
    columns = {name: target[name].to_numpy() for name in ("x", "z")}
    proba = Predictor.load(tmp_path / "b").predict_proba(columns)
    plain = training.fit(source, SCHEMA, {"family": "logistic"}, seed=0).predict_proba(target)
    right = [((p[:, 1] > 0.5) == (target["y"] == "a")).mean() for p in (plain, proba)]
    assert right[1] > right[0] + 0.1


@pytest.mark.parametrize("way", ["coral", "mmd"])
def test_a_text_network_s_penalty_changes_what_it_learns_by_its_strength(way: str) -> None:
    rng = np.random.default_rng(0)
    own, foreign = ["plot", "scene", "actor"], ["battery", "screen", "signal"]

    def texts(words: list[str], n: int) -> list[str]:
        mood = np.array([["bad", "awful"], ["good", "great"]])[np.arange(n) % 2]
        return [" ".join([*rng.choice(words, 3), *rng.choice(m, 1)]) for m in mood]

    nothing = np.empty((120, 0))
    data = TrainingData(
        encoded(nothing, texts(own, 120)), np.arange(120) % 2, 2, (),
        target=encoded(nothing, texts(foreign, 120)),
    )  # fmt: skip
    family = families.get("textnet")
    late = encoded(nothing, texts(foreign, 120))

    def answers(**more: object) -> np.ndarray:
        params = {**family.default, "epochs": 4, "width": 16, **more}
        made, left = adapt.prepared(family, data, params, seed=0)
        return adapt.fit(family, made, left, seed=0).predict_proba(late)

    adapted = answers(adapt=way, adapt_strength=0.5)
    assert np.array_equal(adapted, answers(adapt=way, adapt_strength=0.5))  # by its seed
    odds = [np.log(np.clip(proba[:, 1], 1e-300, None)) for proba in (adapted, answers())]
    assert np.abs(odds[0] - odds[1]).max() > 0.1
    assert (adapted.argmax(axis=1) == np.arange(120) % 2).mean() > 0.9
