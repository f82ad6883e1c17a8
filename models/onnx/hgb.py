"""scikit-learn's histogram gradient boosting in ONNX, its categorical splits included.

ONNX's trees cannot ask whether a code is in a set in one step. So each set that a tree asks for
becomes a column of zeros (goes left) and ones, looked up by the code, and the tree compares that
column with a half. Sets that many trees ask for are one column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.hgb import LIMIT, FittedHGB
from models.onnx.graph import CODES, NUMBERS, Graph
from models.onnx.trees import Tree, ensemble


def draw(fitted: FittedHGB, graph: Graph) -> str:
    """Add the model to the graph; gives the name of its probabilities."""
    model = fitted.model
    nodes = _nodes(model)
    columns = _columns(model, graph)
    features = [columns[n["feature_idx"].astype(np.int64)] for n in nodes]
    thresholds = [n["num_threshold"] for n in nodes]
    parts = [graph.cast(NUMBERS, np.float64)] if graph.numbers else []
    sets = _sets(model, features, graph)
    if sets is not None:
        tables, places = sets
        width = tables[0].shape[1]
        found = graph.flat(graph.lookup(tables), width * len(tables))
        parts.append(graph.cast(found, np.float64))
        for number, place in enumerate(places):
            split = place >= 0
            features[number] = np.where(split, place, features[number])
            thresholds[number] = np.where(split, 0.5, thresholds[number])
    matrix = graph.concat(parts or [graph.cast(CODES, np.float64)])
    proba = boosted(model, graph, matrix, features, thresholds)
    return graph.spread(proba, [int(c) for c in model.classes_])


def boosted(
    model: Any,
    graph: Graph,
    matrix: str,
    features: list[NDArray[np.int64]],
    thresholds: list[NDArray[np.float64]],
) -> str:
    """Probabilities float64 (n, k) of `matrix` float64 (n, d), with what each node compares."""
    targets = model.n_trees_per_iteration_
    trees = [
        Tree(
            leaf=n["is_leaf"].astype(bool),
            feature=feature,
            threshold=np.where(n["is_leaf"], 0.0, threshold),
            left=n["left"].astype(np.int64),
            right=n["right"].astype(np.int64),
            # a looked-up column has no NaN: which way a missing code goes is in the table
            missing_left=n["missing_go_to_left"].astype(bool),
            weights=n["value"][:, None],
            target=number % targets,
        )
        for number, (n, feature, threshold) in enumerate(
            zip(_nodes(model), features, thresholds, strict=True)
        )
    ]
    sums = ensemble(graph, matrix, trees, targets)
    raw = graph.node("Add", sums, graph.constant(np.float64(model._baseline_prediction).ravel()))
    if targets == 1:
        return graph.two(graph.node("Sigmoid", raw))
    return graph.node("Softmax", raw, axis=1)


def numeric(model: Any, graph: Graph, matrix: str) -> str:
    """`boosted` of a model that was fitted without categories."""
    nodes = _nodes(model)
    features = [n["feature_idx"].astype(np.int64) for n in nodes]
    return boosted(model, graph, matrix, features, [n["num_threshold"] for n in nodes])


def _nodes(model: Any) -> list[NDArray[Any]]:
    return [tree.nodes for iteration in model._predictors for tree in iteration]


def _columns(model: Any, graph: Graph) -> NDArray[np.int64]:
    """Of each feature as the trees count them, categories first, its column in our matrix."""
    if model.is_categorical_ is None:
        return np.arange(graph.numbers)
    return np.concatenate(
        [np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)]
    )


def _sets(
    model: Any, features: list[NDArray[np.int64]], graph: Graph
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.int64]]] | None:
    """Tables (codes, w) of the categories' splits, and of each node its column or -1.

    None without such a split. Columns count from the numbers on, w for each category.
    """
    predictors = [tree for iteration in model._predictors for tree in iteration]
    split = [t.nodes["is_categorical"].astype(bool) & (t.nodes["is_leaf"] == 0) for t in predictors]
    if not any(chosen.any() for chosen in split):
        return None
    category = np.concatenate([f[s] for f, s in zip(features, split, strict=True)]) - graph.numbers
    missing = np.concatenate(
        [t.nodes["missing_go_to_left"][s] for t, s in zip(predictors, split, strict=True)]
    )
    left = np.concatenate([_bits(t, s) for t, s in zip(predictors, split, strict=True)])
    encoder = model._preprocessor.named_transformers_["encoder"]
    place = np.empty(len(category), dtype=np.int64)
    tables: list[NDArray[np.uint8]] = []
    for j, (known, card) in enumerate(zip(encoder.categories_, graph.cards, strict=True)):
        chosen = category == j
        ordinal = np.full(min(card, LIMIT), -1)
        ordinal[known.astype(np.int64)] = np.arange(len(known))
        # a code that training did not show goes where a missing one goes
        goes_left = np.where(ordinal < 0, missing[chosen, None], left[chosen][:, ordinal])
        unique, place[chosen] = np.unique(goes_left, axis=0, return_inverse=True)
        tables.append((unique == 0).T.astype(np.uint8))
    width = max(table.shape[1] for table in tables)
    tables = [np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in tables]
    place += graph.numbers + category * width
    places = []
    for chosen in split:
        places.append(np.full(len(chosen), -1))
        places[-1][chosen], place = place[: chosen.sum()], place[chosen.sum() :]
    return tables, places


def _bits(tree: Any, chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(splits, 256): 1 where the category of that ordinal goes left."""
    words = tree.raw_left_cat_bitsets[tree.nodes["bitset_idx"][chosen]].astype("<u4")
    return np.unpackbits(words.view(np.uint8).reshape(len(words), 32), axis=1, bitorder="little")
