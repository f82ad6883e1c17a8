"""The perceptron in ONNX, written from its weights: neither of torch's exporters is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.compress.packed import pack
from models.families.mlp import FittedMLP
from models.families.network import _FAR as FAR
from models.onnx import packed
from models.onnx.graph import NUMBERS, Graph


def draw(fitted: FittedMLP, graph: Graph) -> str:
    """Add the network to the graph; gives the name of its probabilities.

    Embeddings are padded to one width, so that one lookup serves all categories; the columns of
    padding have weights of 0.
    """
    net = fitted.module
    weights = [_array(weight) for weight in net.weights]
    parts = []
    if graph.numbers:
        scaled, missing = graph.standardised(NUMBERS, _array(net.mean), _array(net.scale), FAR)
        parts += [scaled, graph.cast(missing, np.float32)]
    if graph.cards:
        tables = [_array(table) for table in net.embeddings]
        widths = [table.shape[1] for table in tables]
        width = max(widths)
        padded = [np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in tables]
        looked_up = graph.lookup(padded, _table(fitted, graph))
        parts.append(graph.flat(looked_up, width * len(tables)))
        blocks = np.split(weights[0], 2 * graph.numbers + np.cumsum([0, *widths[:-1]]), axis=1)
        padding = [(0, 0)] + [(0, width - size) for size in widths]
        weights[0] = np.hstack(
            [np.pad(b, ((0, 0), pad)) for b, pad in zip(blocks, padding, strict=True)]
        )
    x = graph.concat(parts)
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, net.biases, strict=True)):
        graph.width = max(graph.width, *weight.shape)
        constants = _matrix(fitted, graph, layer, weight), graph.constant(_array(bias))
        x = graph.node("Gemm", x, *constants, transB=1)
        if layer < last:
            x = graph.node("Relu", x)
    return graph.node("Softmax", graph.cast(x, np.float64), axis=1)


def _matrix(fitted: FittedMLP, graph: Graph, layer: int, weight: NDArray[np.float32]) -> str:
    """A layer's weights, packed if the model is a small one."""
    if fitted.steps is None:
        return graph.constant(weight)
    return packed.constant(pack(weight, fitted.steps.get(f"weights.{layer}")), graph)


def _table(fitted: FittedMLP, graph: Graph) -> Callable[[NDArray[Any]], str] | None:
    """How the rows of all the embeddings are put into the graph; None: as they are."""
    steps = fitted.steps
    if steps is None:
        return None

    def constant(rows: NDArray[Any]) -> str:
        found = [steps.get(f"embeddings.{j}") for j in range(len(graph.cards))]
        known = [step for step in found if step is not None]
        step = np.concatenate(graph.beyond(known)) if len(known) == len(found) else None
        return packed.constant(pack(rows, step), graph)

    return constant


def _array(tensor: Any) -> NDArray[np.float32]:
    result: NDArray[np.float32] = tensor.detach().numpy()
    return result
