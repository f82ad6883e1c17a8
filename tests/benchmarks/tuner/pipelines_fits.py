"""One family's whole grid on prepared inputs, with as few fits as give the same scores.

The first trees of a forest are the smaller forest, the first iterations of a boosted ensemble the
shorter one, the nearest of 80 neighbours the fewer neighbours, and the first epochs of a network
are a network that stopped there; everything else is a fit of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from models.records import Params, Scalar
from tests.benchmarks.tuner.pipelines_data import Array
from tests.benchmarks.tuner.pipelines_space import own

FLOOR = 1e-6  # of a probability: one row's loss is at most 13.8
Labels = NDArray[np.int64]
Grid = dict[str, tuple[Scalar, ...]]
Found = Iterator[tuple[dict[str, Scalar], Array | None]]


def log_loss(truth: Labels, chances: Array | None) -> float:
    """Mean -ln p of the true class; NaN, as of a trial that failed, where there is no number.

    >>> log_loss(np.array([0, 1]), np.array([[0.5, 0.5], [1.0, 0.0]])).__round__(3)
    7.254
    """
    if chances is None or not np.isfinite(chances).all():
        return float("nan")
    return float(-np.log(np.maximum(chances[np.arange(len(truth)), truth], FLOOR)).mean())


def fits(family: str, train: Array, y: Labels, judge: Array) -> Found:
    """Own parameters of `family`, by full name, and the chances (n, classes) of the judging rows.

    None stands for a fit that failed.
    """
    grid = {p.name: tuple(p.option(i) for i in range(int(p.size()))) for p in own(family)}
    walk, make, several = _FAMILIES[family]
    for names in _others(grid, several):
        try:
            found = list(walk(make, names, grid.get(several, ()), train, y, judge))
        except (ValueError, FloatingPointError, np.linalg.LinAlgError):
            found = [None] * max(1, len(grid.get(several, ())))
        for i, chances in enumerate(found):
            yield ({**names, several: grid[several][i]} if several else names), chances


def maker(family: str) -> Any:
    """Makes a family's estimator of its own parameters, without the one that `fits` walks."""
    return _FAMILIES[family][1]


def _others(grid: Grid, several: str) -> Iterator[dict[str, Scalar]]:
    names = [name for name in grid if name != several]
    for values in product(*(grid[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def each(make: Any, own: Params, _: Any, train: Array, y: Labels, judge: Array) -> Iterator[Array]:
    yield make(own).fit(train, y).predict_proba(judge)


def grown(
    make: Any, own: Params, sizes: Any, train: Array, y: Labels, judge: Array
) -> Iterator[Array]:
    forest = make(own).set_params(n_estimators=max(sizes)).fit(train, y)
    rows = judge.astype(np.float32)
    votes = np.cumsum([tree.predict_proba(rows) for tree in forest.estimators_], axis=0)
    yield from (votes[size - 1] / size for size in sizes)


def staged(
    make: Any, own: Params, sizes: Any, train: Array, y: Labels, judge: Array
) -> Iterator[Array]:
    boosted = make(own).set_params(max_iter=max(sizes)).fit(train, y)
    for size, chances in enumerate(boosted.staged_predict_proba(judge), start=1):
        if size in sizes:
            yield chances


def paused(
    make: Any, own: Params, sizes: Any, train: Array, y: Labels, judge: Array
) -> Iterator[Array]:
    network, classes = make(own), np.unique(y)
    for epoch in range(1, max(sizes) + 1):
        network.partial_fit(train, y, classes=classes)
        if epoch in sizes:
            yield network.predict_proba(judge)


def nearest(
    _: Any, own: Params, sizes: Any, train: Array, y: Labels, judge: Array
) -> Iterator[Array]:
    search = NearestNeighbors(n_neighbors=max(sizes), p=own["knn_p"]).fit(train)
    distance, who = search.kneighbors(judge)
    classes = np.eye(int(y.max()) + 1)[y[who]]  # (rows, neighbours, classes)
    weight = np.ones_like(distance)
    if own["knn_weight"] == "distance":
        there = distance == 0
        weight = np.where(there, 1.0, 1 / np.where(there, 1.0, distance))
        weight = np.where(there.any(axis=1, keepdims=True), there, weight)
    votes = np.cumsum(classes * weight[:, :, None], axis=1)
    for size in sizes:
        yield votes[:, size - 1] / votes[:, size - 1].sum(axis=1, keepdims=True)


def _logistic(p: Params) -> Any:
    weight = None if p["logistic_weight"] == "none" else "balanced"
    return LogisticRegression(C=p["logistic_c"], class_weight=weight, max_iter=300)


def _svm(p: Params) -> Any:
    machine = SVC(C=p["svm_c"], gamma=p["svm_gamma"], max_iter=20_000, cache_size=100)
    return CalibratedClassifierCV(machine, cv=3, ensemble=False)  # Platt's scaling


def _mlp(p: Params) -> Any:
    return MLPClassifier(
        (p["mlp_hidden"],), learning_rate_init=p["mlp_rate"], batch_size=32, random_state=0
    )  # fmt: skip


def _tree(p: Params) -> Any:
    return DecisionTreeClassifier(
        max_depth=p["tree_depth"], min_samples_leaf=p["tree_leaf"], criterion=p["tree_criterion"],
        random_state=0,
    )  # fmt: skip


def _forest(family: str, maker: Any) -> Callable[[Params], Any]:
    return lambda p: maker(
        max_features=p[f"{family}_features"], min_samples_leaf=p[f"{family}_leaf"], random_state=0
    )  # fmt: skip


def _boosting(p: Params) -> Any:
    return HistGradientBoostingClassifier(
        learning_rate=p["boosting_rate"], max_leaf_nodes=p["boosting_leaves"],
        min_samples_leaf=p["boosting_leaf"], early_stopping=False, random_state=0,
    )  # fmt: skip


def _bayes(p: Params) -> Any:
    return GaussianNB(var_smoothing=p["bayes_smoothing"])


def _lda(p: Params) -> Any:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=p["lda_shrinkage"])


# family: how its grid is walked, its maker, and the parameter of which one fit gives all values
_FAMILIES: dict[str, tuple[Callable[..., Iterator[Array]], Any, str]] = {
    "logistic": (each, _logistic, ""),
    "svm": (each, _svm, ""),
    "knn": (nearest, None, "knn_k"),
    "mlp": (paused, _mlp, "mlp_epochs"),
    "bayes": (each, _bayes, ""),
    "tree": (each, _tree, ""),
    "forest": (grown, _forest("forest", RandomForestClassifier), "forest_trees"),
    "extra": (grown, _forest("extra", ExtraTreesClassifier), "extra_trees"),
    "boosting": (staged, _boosting, "boosting_iterations"),
    "lda": (each, _lda, ""),
}
