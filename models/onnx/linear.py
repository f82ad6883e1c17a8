"""Logistic regression in ONNX, in float64, and the design matrix of it and of users' trainers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.design import _FAR as FAR
from models.families.design import Design
from models.families.logistic import FittedLogistic
from models.onnx.graph import NUMBERS, Graph


def draw(fitted: FittedLogistic, graph: Graph) -> str:
    """Add the model to the graph; gives the name of its probabilities."""
    model = fitted.model
    found = scores(model.coef_, model.intercept_, fitted.design, graph)
    if model.coef_.shape[0] == 1:
        proba = graph.two(graph.node("Sigmoid", found))
    else:
        proba = graph.node("Softmax", found, axis=1)
    return graph.spread(proba, [int(c) for c in model.classes_])


def scores(
    coef: NDArray[np.float64], intercept: NDArray[np.float64], design: Design, graph: Graph
) -> str:
    """`Design.scores` of coef (r, D) and intercept (r,): float64 (n, r); the intercept alone, (r,),
    where the table has neither numbers nor categories."""
    found = graph.constant(np.asarray(intercept, dtype=np.float64))
    if graph.numbers:
        weights = np.asarray(coef[:, : design.dense_width].T, dtype=np.float64)
        dense = graph.node("MatMul", numbers(design, graph), graph.constant(weights))
        found = graph.node("Add", dense, found)
    if graph.cards:
        looked_up = graph.lookup(_blocks(coef.T, design))
        axis = graph.constant(np.array([1], dtype=np.int64))
        found = graph.node("Add", graph.node("ReduceSum", looked_up, axis, keepdims=0), found)
    return found


def numbers(design: Design, graph: Graph) -> str:
    """The dense part of the design matrix: float64 (n, d_num + indicators)."""
    scaled, missing = graph.standardised(
        graph.cast(NUMBERS, np.float64), design.mean, design.scale, FAR
    )
    if not len(design.gaps):
        return scaled
    if len(design.gaps) < graph.numbers:
        missing = graph.node("Gather", missing, graph.constant(design.gaps), axis=1)
    return graph.concat([scaled, graph.cast(missing, np.float64)])


def _blocks(rows: NDArray[Any], design: Design) -> list[NDArray[np.float64]]:
    """The rows of each category's codes, of one row per column of the design matrix."""
    return [
        np.asarray(rows[start : start + card], dtype=np.float64)
        for start, card in zip(design.offsets, design.cards, strict=True)
    ]
