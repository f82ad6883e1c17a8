"""RLSearchCV: scikit-learn's own checks, its results, and what it does better."""

from __future__ import annotations

import io
import json
import math
import time
import warnings
from typing import Any, Self

import joblib
import numpy as np
import pytest
import sklearn
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from models.errors import SpaceFault
from models.search.cv_run import batch_size
from models.search.search_cv import RLSearchCV
from models.space import Categorical, Float, Forbidden, Int, Space

X, y = make_classification(n_samples=80, n_features=6, n_informative=3, flip_y=0.1, random_state=0)


def expected_failures(search: RLSearchCV) -> dict[str, str]:
    """What scikit-learn expects of RandomizedSearchCV as well."""
    if isinstance(search.estimator, Ridge):
        return {"check_supervised_y_2d": "DataConversionWarning not caught"}
    return {}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [
        RLSearchCV(
            Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=2, error_score="raise", random_state=0
        ),
        RLSearchCV(
            Pipeline([("pca", PCA()), ("lr", LogisticRegression())]),
            {"lr__C": [0.1, 1.0]},
            n_iter=2,
            cv=2,
            error_score="raise",
            random_state=0,
        ),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)


class Landscape(RegressorMixin, BaseEstimator):
    """A fit that takes no time: the score is a known function of the parameters."""

    def __init__(
        self,
        rate: float = 1.0,
        shape: float = 0.0,
        kind: str = "a",
        depth: int | None = 3,
        fails: str = "",
        pause: float = 0.0,
    ) -> None:
        self.rate = rate
        self.shape = shape
        self.kind = kind
        self.depth = depth
        self.fails = fails
        self.pause = pause

    def fit(self, X: Any, y: Any) -> Self:
        if self.kind in self.fails:
            raise MemoryError(f"{self.kind} is too much")
        time.sleep(self.pause)
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))

    def score(self, X: Any, y: Any) -> float:
        loss = (math.log10(self.rate) + 2) ** 2 + (self.shape - 0.7) ** 2
        return -loss - {"a": 0.0, "b": 0.5, "c": 1.0}[self.kind]


LANDSCAPE = {"rate": loguniform(1e-5, 1e1), "shape": uniform(0, 1), "kind": ["a", "b", "c"]}


def fitted(estimator: Any, space: Any, n_iter: int = 8, **options: Any) -> RLSearchCV:
    options = {"cv": 2, "random_state": 0, **options}
    return RLSearchCV(estimator, space, n_iter, **options).fit(X, y)


def same_but_for_time(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for name, column in ours.items():
        if name == "params":
            assert column == theirs[name]
        elif not name.endswith("_time"):
            assert type(column) is type(theirs[name])
            assert column.dtype == theirs[name].dtype
            assert np.array_equal(np.ma.getmaskarray(column), np.ma.getmaskarray(theirs[name]))
            assert np.ma.allequal(column, theirs[name]) or np.allclose(column, theirs[name])


@pytest.mark.parametrize("scoring", [None, ["roc_auc", "accuracy"]])
def test_results_are_those_of_a_grid_search_over_the_same_candidates(scoring: Any) -> None:
    space = [
        {"C": loguniform(1e-3, 1e2), "solver": ["lbfgs"]},
        {"C": loguniform(1e-3, 1e2), "solver": ["saga"], "l1_ratio": uniform(0, 1)},
    ]
    options: dict[str, Any] = {"scoring": scoring, "refit": "roc_auc" if scoring else True}
    options |= {"return_train_score": True, "cv": 3}
    model = LogisticRegression(tol=0.1, max_iter=1000, random_state=0)
    ours = fitted(model, space, 6, **options)
    grid = [{k: [v] for k, v in params.items()} for params in ours.cv_results_["params"]]
    theirs = GridSearchCV(model, grid, **options).fit(X, y)
    same_but_for_time(ours.cv_results_, theirs.cv_results_)
    assert ours.cv_results_["param_l1_ratio"].mask.any()
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_score_ == theirs.best_score_
    assert ours.best_params_ == theirs.best_params_
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert ours.multimetric_ is bool(scoring)


def test_several_metrics_search_for_the_one_that_refit_names() -> None:
    def score(model: Any, X: Any, y: Any) -> dict[str, float]:
        return {"up": model.shape, "down": -model.shape}

    def best(refit: Any) -> float:
        search = fitted(Landscape(), {"shape": uniform(0, 1)}, 20, scoring=score, refit=refit)
        return float(np.mean(search.cv_results_["param_shape"][10:]))

    assert best("down") < 0.4
    assert best("up") > 0.6
    assert best(False) == best("up") == best(lambda results: 3)


def test_refit_may_choose_the_candidate() -> None:
    search = fitted(Landscape(), LANDSCAPE, refit=lambda results: len(results["params"]) - 1)
    assert search.best_index_ == 7
    assert search.best_estimator_.get_params()["rate"] == search.cv_results_["params"][7]["rate"]


def test_equal_states_search_equally_and_others_differ() -> None:
    first, again, other = (
        fitted(Landscape(), LANDSCAPE, random_state=state).cv_results_["params"]
        for state in (3, np.random.RandomState(3), 4)
    )
    assert fitted(Landscape(), LANDSCAPE, random_state=3).cv_results_["params"] == first
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert len(again) == 8


class IndexScore(Landscape):
    def fit(self, X: Any, y: Any) -> Self:
        self.sum_ = float(X.sum())
        return self

    def score(self, X: Any, y: Any) -> float:
        return self.sum_


def test_all_candidates_see_the_same_splits() -> None:
    search = fitted(IndexScore(), LANDSCAPE, cv=ShuffleSplit(2, test_size=0.5))
    assert len(set(search.cv_results_["split0_test_score"])) == 1
    assert len(set(search.cv_results_["split1_test_score"])) == 1
    assert search.cv_results_["split0_test_score"][0] != search.cv_results_["split1_test_score"][0]


def test_a_candidate_that_fails_is_information_and_not_the_end() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        search = fitted(Landscape(fails="bc"), LANDSCAPE, 30)
    results = search.cv_results_
    failed = results["param_kind"] != "a"
    assert 2 < failed.sum() < 20
    assert np.array_equal(np.isnan(results["mean_test_score"]), failed)
    assert (results["rank_test_score"][failed] == results["rank_test_score"].max()).all()
    assert (results["mean_fit_time"] >= 0).all()
    assert search.best_params_["kind"] == "a"
    fits = [str(w.message) for w in told if w.category is FitFailedWarning]
    assert len(fits) == failed.sum()
    assert all("b is too much" in text or "c is too much" in text for text in fits)
    assert sum("test scores are non-finite" in str(w.message) for w in told) == 1
    # It learns to stay away: fewer failures among the last than a blind search would have.
    assert failed[15:].mean() < 0.5
    for each, score in zip(results["params"], results["mean_test_score"], strict=True):
        if each["kind"] == "a":
            model = Landscape(**each)
            assert score == pytest.approx(model.score(X, y))


@pytest.mark.parametrize("kinds", [["b", "a"], ["a", "b"]])
def test_failures_at_either_end_keep_their_places(kinds: list[str]) -> None:
    for seed in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = fitted(
                Landscape(fails="b"), {"kind": kinds}, error_score=-9.0, random_state=seed
            )
        assert sorted(search.cv_results_["param_kind"]) == ["a", "b"]
        ranks = dict(
            zip(
                search.cv_results_["param_kind"],
                search.cv_results_["mean_test_score"],
                strict=True,
            )
        )
        assert ranks["b"] == -9.0
        assert ranks["a"] > -9


def test_a_search_in_which_all_fail_raises_as_scikit_learn_does() -> None:
    with pytest.warns(FitFailedWarning), pytest.raises(ValueError, match=r"fits failed(.|\n)*much"):
        fitted(Landscape(fails="abc"), LANDSCAPE, 3)
    with pytest.raises(MemoryError, match="too much"):
        fitted(Landscape(fails="abc"), LANDSCAPE, 3, error_score="raise")


def test_a_fault_of_the_caller_is_not_taken_for_a_failed_candidate() -> None:
    with pytest.raises(ValueError, match="Invalid parameter 'lr'"):
        fitted(Landscape(), {"lr": [1, 2]})


def test_nan_scores_are_failures() -> None:
    def score(model: Any, X: Any, y: Any) -> float:
        return math.nan if model.kind == "b" else model.score(X, y)

    with pytest.warns(UserWarning, match="test scores are non-finite"):
        search = fitted(Landscape(), LANDSCAPE, 12, scoring=score)
    assert np.isfinite(search.best_score_)


def test_batches_for_workers_hold_different_candidates() -> None:
    with joblib.parallel_config(backend="threading"):
        search = fitted(Landscape(), LANDSCAPE, 11, n_jobs=4)
    rates = search.cv_results_["param_rate"]
    assert len(rates) == len(set(rates)) == 11  # the last batch is cut to the budget
    with joblib.parallel_config(backend="threading"):
        again = fitted(Landscape(), LANDSCAPE, 11, n_jobs=4)
    assert again.cv_results_["params"] == search.cv_results_["params"]


@pytest.mark.parametrize(("jobs", "splits"), [(1, 1), (4, 5), (8, 3), (7, 10), (64, 5), (3, 0)])
def test_batches_keep_the_workers_busy_and_are_no_larger_than_they_must(
    jobs: int, splits: int
) -> None:
    def busy(size: int) -> float:
        fits = size * max(splits, 1)
        return fits / (jobs * math.ceil(fits / jobs))

    size = batch_size(jobs, splits)
    assert 1 <= size <= jobs
    assert busy(size) >= 0.75
    assert all(busy(smaller) < 0.75 for smaller in range(1, size))


def test_workers_in_other_processes() -> None:
    search = fitted(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5, 7, 9]}, 2, n_jobs=2)
    assert len(search.cv_results_["params"]) == 2


def test_no_candidate_is_started_after_the_timeout() -> None:
    search = fitted(Landscape(pause=0.02), LANDSCAPE, 1000, timeout=0.3, refit=False)
    assert 1 <= len(search.cv_results_["params"]) < 12
    assert search.stop_reason_ == "the budget of 0.3 s is spent"
    assert len(fitted(Landscape(), LANDSCAPE, timeout=1e-9).cv_results_["params"]) == 1


def test_a_finite_space_ends_when_all_is_tried_and_nothing_comes_twice() -> None:
    space = {"kind": ["a", "b"], "depth": [None, 1, 2]}
    search = fitted(Landscape(), space, 50)
    tried = [(p["kind"], p["depth"]) for p in search.cv_results_["params"]]
    assert sorted(tried, key=str) == sorted([(k, d) for k in "ab" for d in (None, 1, 2)], key=str)
    assert search.stop_reason_ == "all 6 configurations of the space have been tried"


def test_it_ends_early_only_when_asked_to() -> None:
    assert len(fitted(Landscape(), {"shape": uniform(0, 1)}, 70).cv_results_["params"]) == 70
    search = fitted(Landscape(), {"shape": uniform(0, 1)}, 300, stop="auto")
    assert len(search.cv_results_["params"]) < 200
    assert search.best_score_ > -4.1


def test_the_next_search_starts_from_the_memory_of_the_last() -> None:
    first = fitted(Landscape(), LANDSCAPE, 20)
    memory = json.loads(json.dumps(first.memory_, allow_nan=False))
    kept = json.dumps(memory)
    wider = {**LANDSCAPE, "rate": loguniform(1e-7, 1e2), "depth": [1, None]}
    second = fitted(Landscape(), wider, 4, warm_start_from=memory, random_state=1)
    start = second.cv_results_["params"][0]
    assert {k: start[k] for k in ("rate", "shape", "kind")} == pytest.approx(first.best_params_)
    assert second.best_score_ >= first.best_score_
    assert json.dumps(memory) == kept
    clone(second)
    with pytest.raises(ValueError, match="start cold"):
        fitted(Landscape(), LANDSCAPE, warm_start_from={"space": 3})


def test_better_than_random_search_at_twenty_candidates() -> None:
    ours, theirs = [], []
    for seed in range(5):
        ours.append(fitted(Landscape(), LANDSCAPE, 20, random_state=seed).best_score_)
        random = RandomizedSearchCV(Landscape(), LANDSCAPE, n_iter=20, cv=2, random_state=seed)
        theirs.append(random.fit(X, y).best_score_)
    assert np.mean(ours) >= np.mean(theirs)


def test_a_space_with_conditions_is_taken_as_it_is() -> None:
    space = Space(
        (
            Categorical("weights", ("uniform", "distance")),
            Int("n_neighbors", 1, 20),
            Categorical("metric", ("minkowski", "cosine")),
            Float("p", 1.0, 3.0, when=("metric", "minkowski")),
        )
    )
    search = fitted(KNeighborsClassifier(), space, 12)
    cosine = search.cv_results_["param_metric"] == "cosine"
    assert np.array_equal(search.cv_results_["param_p"].mask, cosine)
    assert 0 < cosine.sum() < 12
    assert search.space_ == space


def test_constraints_are_kept() -> None:
    refused = Forbidden({"penalty": "l1", "solver": "lbfgs"})
    choices = {"penalty": ("l1", "l2"), "solver": ("lbfgs", "saga")}
    space = Space(tuple(Categorical(*row) for row in choices.items()), (refused,))
    search = fitted(Permissive(), space, 10)
    assert len(search.cv_results_["params"]) == 3
    assert not any(map(refused.broken, search.cv_results_["params"]))


def test_steps_of_a_pipeline_are_searched_with_their_parameters() -> None:
    space = [
        {"model": [KNeighborsClassifier()], "model__n_neighbors": [1, 3, 5]},
        {"model": [DecisionTreeClassifier(random_state=0)], "model__max_depth": [1, 2, None]},
        {"model": [KNeighborsClassifier(3)], "scale": ["passthrough"]},
    ]
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    search = fitted(pipeline, space, 20)
    assert len(search.cv_results_["params"]) == 7
    assert set(map(type, search.cv_results_["param_model"])) == {
        KNeighborsClassifier,
        DecisionTreeClassifier,
    }
    assert (~search.cv_results_["param_scale"].mask).sum() == 1


def test_inside_a_pipeline_and_a_cross_validation() -> None:
    search = RLSearchCV(LogisticRegression(), {"C": loguniform(0.01, 10)}, 3, cv=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), search)
    scores = cross_val_score(pipeline, X, y, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6
    assert scores.tolist() == cross_val_score(pipeline, X, y, cv=3).tolist()
    assert "sk-container-id" in search._repr_html_()


def test_saved_and_read_again_it_predicts_the_same() -> None:
    search = fitted(LogisticRegression(), {"C": loguniform(0.01, 10)}, 3)
    file = io.BytesIO()
    joblib.dump(search, file)
    file.seek(0)
    again = joblib.load(file)
    assert np.array_equal(again.predict_proba(X), search.predict_proba(X))
    assert again.memory_ == search.memory_
    assert clone(again).fit(X, y).best_params_ == search.best_params_
    assert not [name for name in vars(search) if name in ("_run", "_lost")]


def test_groups_and_weights_are_routed() -> None:
    groups = np.arange(len(X)) % 5
    weights = np.where(y == 1, 3.0, 1.0)
    space = {"C": [0.1, 1.0]}
    plain = RLSearchCV(LogisticRegression(), space, 2, cv=GroupKFold(5), random_state=0)
    assert plain.fit(X, y, groups=groups).n_splits_ == 5
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        ours = RLSearchCV(model, space, 2, cv=GroupKFold(5), random_state=0)
        ours.fit(X, y, groups=groups, sample_weight=weights)
        theirs = GridSearchCV(model, space, cv=GroupKFold(5))
        theirs.fit(X, y, groups=groups, sample_weight=weights)
        scores = [
            dict(zip(s.cv_results_["param_C"], s.cv_results_["mean_test_score"], strict=True))
            for s in (ours, theirs)
        ]
    assert scores[0] == pytest.approx(scores[1])


class Permissive(Landscape):
    def __init__(self, penalty: str = "l2", solver: str = "saga") -> None:
        super().__init__()
        self.penalty = penalty
        self.solver = solver


class Unsupervised(ClassifierMixin, BaseEstimator):
    def __init__(self, k: int = 1) -> None:
        self.k = k

    def fit(self, X: Any, y: Any = None) -> Self:
        assert y is None
        self.k_ = self.k
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return float(-abs(self.k - 3))


def test_without_a_target() -> None:
    search = RLSearchCV(Unsupervised(), {"k": range(5)}, 5, cv=2, random_state=0).fit(X)
    assert search.best_params_ == {"k": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_iter": 0}, "`n_iter` is a whole number from 1, got 0: raise it"),
        ({"n_iter": 2.5}, "got 2.5"),
        ({"timeout": 0}, "`timeout` is None or seconds above 0, got 0"),
        ({"stop": "soon"}, "`stop` is None or 'auto', got 'soon'"),
        ({"warm_start_from": RLSearchCV(Ridge(), {})}, "got a RLSearchCV: pass its `memory_`"),
        ({"space": {}, "n_iter": 1.5, "stop": 1}, "1.5.*; `stop`"),
    ],
)
def test_unfit_options_are_told_at_fit(options: dict[str, Any], message: str) -> None:
    search = RLSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2).set_params(**options)
    with pytest.raises(ValueError, match=message) as caught:
        search.fit(X, y)
    assert isinstance(caught.value, SpaceFault)
