"""A user's own estimator in ONNX: the design matrix from here, the estimator by skl2onnx.

skl2onnx is an extra. What it makes of an estimator is not trusted but compared, as every form is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto

from models.families.custom import FittedCustom
from models.onnx import forest, hgb
from models.onnx.export import NoForm
from models.onnx.graph import OPSET, OPSET_ML, Graph
from models.onnx.linear import numbers
from models.onnx.session import Session


def draw(fitted: FittedCustom, graph: Graph) -> str:
    """Add the design matrix and the model; gives the name of the probabilities.

    Raises NoForm without skl2onnx, or for an estimator that it does not know.
    """
    model, width = fitted.model, fitted.design.width
    graph.width = max(graph.width, width)
    matrix = _matrix(fitted, graph)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    trees = _trees(last)
    if trees is None:
        proba = _embedded(model, last, width, matrix, graph)
    else:
        if last is not model and len(model.steps) > 1:
            matrix = _embedded(model[:-1], None, width, matrix, graph)
        proba = trees(last, graph, matrix)
    return graph.spread(proba, [int(c) for c in fitted.model.classes_])


def _trees(model: Any) -> Callable[[Any, Graph, str], str] | None:
    """Who draws trees here: exact, and a hundred times faster than skl2onnx draws a forest."""
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )

    if type(model) is HistGradientBoostingClassifier and model.is_categorical_ is None:
        return hgb.numeric
    if type(model) in (ExtraTreesClassifier, RandomForestClassifier):
        return _forest
    return None


def _forest(model: Any, graph: Graph, matrix: str) -> str:
    narrow = graph.cast(graph.cast(matrix, np.float32), np.float64)  # as scikit-learn's trees do
    return forest.averaged(model, graph, narrow, 1 / len(model.estimators_))


def _matrix(fitted: FittedCustom, graph: Graph) -> str:
    """`Design.dense`: float64 (n, D)."""
    design = fitted.design
    parts = [numbers(design, graph)] if graph.numbers else []
    if graph.cards:
        width = max(design.cards)
        tables = [np.eye(card, width) for card in design.cards]
        hot = graph.flat(graph.lookup(tables), width * len(tables))
        kept = np.concatenate([j * width + np.arange(card) for j, card in enumerate(design.cards)])
        if len(kept) < width * len(tables):
            hot = graph.node("Gather", hot, graph.constant(kept), axis=1)
        parts.append(hot)
    return graph.concat(parts)


def _embedded(model: Any, last: Any, width: int, matrix: str, graph: Graph) -> str:
    """What skl2onnx makes of a model (of its probabilities), or of transformers: float64."""
    part, kind = _converted(model, last, width)
    return graph.cast(graph.embed(part, graph.cast(matrix, kind)), np.float64)


def _converted(model: Any, last: Any, width: int) -> tuple[ModelProto, type[np.generic]]:
    """skl2onnx's form in float64, or in float32 for what ONNX Runtime only has in that."""
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    except ImportError:
        raise NoForm(
            "a trainer's model gets an ONNX form by skl2onnx, which is not installed: "
            "pip install 'everfit[onnx]'"
        ) from None
    options: dict[int, dict[str, Any]] = {}
    if last is not None:
        options[id(model)] = {"zipmap": False}
    if type(last).__name__.startswith(("KNeighbors", "RadiusNeighbors")):
        options.setdefault(id(last), {})["optim"] = "cdist"  # else a loop over the training rows
    for kind, column in ((np.float64, DoubleTensorType), (np.float32, FloatTensorType)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of scikit-learn's, about the user's estimator
                part = convert_sklearn(
                    model,
                    initial_types=[("X", column([None, width]))],
                    options=options,
                    target_opset={"": OPSET, "ai.onnx.ml": OPSET_ML},
                )
            Session(part.SerializeToString(), 1)
        except Exception as fault:  # it raises a dozen kinds for what it cannot do
            reason = f"{type(fault).__name__}: {str(fault).splitlines()[0]:.120}"
            continue
        return part, kind
    raise NoForm(f"skl2onnx has no form of {type(model).__name__} ({reason})")
