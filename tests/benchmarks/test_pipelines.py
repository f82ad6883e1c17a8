"""The replayed pipelines: what the table says is what was fitted, and regret is of the table."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from models.space import Categorical, Ordinal, Space
from tests.benchmarks.tuner import pipelines, pipelines_fits
from tests.benchmarks.tuner.pipelines_space import FAMILIES, SCALED, SELECTED, SPACE
from tests.benchmarks.tuner.problems import run_one

TOY = Space(
    (
        Categorical("kind", ("a", "b")),
        Ordinal("x", (1, 2, 3, 4), ("kind", "a")),
    )
)
LOSSES = np.array([0.4, 0.3, np.nan, 0.2, 0.9], dtype=np.float32)  # a: 1..4, then b


def test_a_replay_answers_the_table_and_its_regret_is_of_it():
    problem = pipelines.replay("toy", TOY, LOSSES)
    rng = np.random.default_rng(0)
    assert problem.regret({"kind": "a", "x": 4}) == 0
    # half of the draws are b, whose 0.9 is the median: it is reached before the failed ones
    assert (problem.best, problem.median) == (pytest.approx(0.2), pytest.approx(0.9))
    assert problem.noisy({"x": 1, "kind": "a"}, rng) == pytest.approx(0.4)
    assert np.isnan(problem.noisy({"kind": "a", "x": 3}, rng))
    with pytest.raises(KeyError):
        problem.true({"kind": "b", "x": 1})


@pytest.mark.parametrize("word", ["random", "tpe"])
def test_a_failed_fit_is_a_failed_trial_and_no_end(word):
    from tests.benchmarks.tuner.tuners import tuner

    problem = pipelines.replay("toy", TOY, LOSSES)
    run = run_one(problem, tuner(word)(TOY, 0, 12), 12, 0)
    assert run.regrets[-1] == 0


def test_the_median_is_that_of_uniform_draws():
    rng = np.random.default_rng(1)
    _, chances = pipelines.walked(SPACE)
    assert chances.sum() == pytest.approx(1)
    problem = pipelines.problem(pipelines.NAMES[0])
    drawn = [problem.true(SPACE.sample(rng)) for _ in range(4_000)]
    assert (np.array(drawn) <= problem.median).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", pipelines.NAMES)
def test_every_configuration_has_a_score_and_families_differ(name):
    problem = pipelines.problem(name)
    losses = problem.source.losses
    assert len(losses) == SPACE.size()
    assert np.isnan(losses).mean() < 0.05
    best = {}
    for params, place in problem.source.places.items():
        family = dict(params)["family"]
        best[family] = min(best.get(family, np.inf), float(losses[place]))
    assert set(best) == set(FAMILIES)
    assert len(set(best.values())) == len(FAMILIES)
    assert problem.best < problem.median


def test_parameters_are_active_where_they_matter():
    rng = np.random.default_rng(2)
    for _ in range(300):
        params = SPACE.sample(rng)
        family = params["family"]
        assert ("scale" in params) == (family in SCALED)
        assert ("select" in params) == (family in SELECTED)
        own = {n.partition("_")[0] for n in params} - {"family", "scale", "select"}
        assert own - {"pca", "kbest"} == {family}


def test_a_table_of_another_space_is_refused(tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, space=np.array(pipelines.digest(TOY)), toy=LOSSES)
    assert np.array_equal(pipelines.read(path, TOY)["toy"], LOSSES, equal_nan=True)
    with pytest.raises(SystemExit, match=r"of the space .*: fit them with"):
        pipelines.read(path, SPACE)
    with pytest.raises(SystemExit, match="got nothing"):
        pipelines.read(tmp_path / "none.npz", SPACE)
    with pytest.raises(SystemExit, match="no pipelines are called 'iris'"):
        pipelines.problem("iris")


@pytest.fixture(scope="module")
def rows():
    x, y = make_classification(160, 6, n_informative=4, n_classes=3, random_state=0)
    return x[:80], y[:80], x[80:]


def test_one_fit_answers_for_its_smaller_selves(rows):
    x, y, judge = rows
    own = {"forest_features": 0.4, "forest_leaf": 2}
    make = pipelines_fits.maker("forest")
    for size, chances in zip((3, 9), pipelines_fits.grown(make, own, (3, 9), *rows), strict=True):
        alone = RandomForestClassifier(
            size, max_features=0.4, min_samples_leaf=2, random_state=0
        ).fit(x, y)
        np.testing.assert_allclose(chances, alone.predict_proba(judge))

    own = {"boosting_rate": 0.2, "boosting_leaves": 4, "boosting_leaf": 5}
    make = pipelines_fits.maker("boosting")
    for size, chances in zip((2, 7), pipelines_fits.staged(make, own, (2, 7), *rows), strict=True):
        alone = HistGradientBoostingClassifier(
            learning_rate=0.2, max_leaf_nodes=4, min_samples_leaf=5, max_iter=size,
            early_stopping=False, random_state=0,
        ).fit(x, y)  # fmt: skip
        np.testing.assert_allclose(chances, alone.predict_proba(judge))


@pytest.mark.parametrize("weight", ["uniform", "distance"])
def test_one_search_answers_for_fewer_neighbours(rows, weight):
    x, y, judge = rows
    judge = np.vstack([judge, x[:3]])  # rows that are their own nearest neighbour
    own = {"knn_p": 1, "knn_weight": weight}
    found = pipelines_fits.nearest(None, own, (1, 4, 9), x, y, judge)
    for size, chances in zip((1, 4, 9), found, strict=True):
        alone = KNeighborsClassifier(size, weights=weight, p=1).fit(x, y)
        np.testing.assert_allclose(chances, alone.predict_proba(judge), atol=1e-12)


def test_a_fit_that_fails_is_no_number(rows):
    x, y, judge = rows
    broken = judge.copy()
    broken[0, 0] = np.nan
    found = list(pipelines_fits.fits("bayes", x, y, broken))
    assert len(found) == 8
    assert all(np.isnan(pipelines_fits.log_loss(y, chances)) for _, chances in found)
    assert {tuple(own) for own, _ in found} == {("bayes_smoothing",)}
