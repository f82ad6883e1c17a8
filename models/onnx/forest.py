"""Breiman's forest in ONNX; a category's code is a number to it, as it is in scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import UNKNOWN
from models.families.forest import LIMIT, FittedForest
from models.onnx.graph import CODES, NUMBERS, Graph
from models.onnx.trees import Tree, ensemble


def draw(fitted: FittedForest, graph: Graph) -> str:
    """Add the model to the graph; gives the name of its probabilities.

    The forest's base rates count as one more tree.
    """
    share = 1 / (len(fitted.model.estimators_) + 1)
    proba = averaged(fitted.model, graph, _matrix(graph), share, fitted.base * share)
    return graph.spread(proba, [int(c) for c in fitted.model.classes_])


def averaged(
    model: Any, graph: Graph, matrix: str, share: float, base: NDArray[np.float64] | None = None
) -> str:
    """`base` (k,) plus `share` of each tree's rates: float64 (n, k), of `matrix` float64 (n, d).

    Of two classes only the second is summed.
    """
    first = 1 if len(model.classes_) == 2 else 0
    trees = []
    for estimator in model.estimators_:
        tree = estimator.tree_
        value = tree.value[:, 0, :]
        rates = value / value.sum(axis=1, keepdims=True)
        leaf = tree.children_left < 0
        trees.append(
            Tree(
                leaf=leaf,
                feature=tree.feature.astype(np.int64),
                threshold=np.where(leaf, 0.0, tree.threshold),
                left=tree.children_left.astype(np.int64),
                right=tree.children_right.astype(np.int64),
                missing_left=tree.missing_go_to_left.astype(bool),
                weights=rates[:, first:] * share,
            )
        )
    proba = ensemble(graph, matrix, trees, len(model.classes_) - first)
    if base is not None:
        proba = graph.node("Add", proba, graph.constant(np.float64(base[first:])))
    return graph.two(proba) if first else proba


def _matrix(graph: Graph) -> str:
    """Numbers and folded codes side by side: float64 (n, d_num + d_cat)."""
    parts = [graph.cast(NUMBERS, np.float64)] if graph.numbers else []
    if graph.cards:
        codes = CODES
        if max(graph.cards) > LIMIT:
            known = graph.node("Less", codes, graph.constant(np.int64(LIMIT)))
            codes = graph.node("Where", known, codes, graph.constant(np.int64(UNKNOWN)))
        parts.append(graph.cast(codes, np.float64))
    return graph.concat(parts)
