"""The text network in ONNX, written from its arrays; tokens are an input beside numbers and codes.

`tokens` int64 (n, L): ids of the tokenizer that lies beside the model, short rows filled with 0.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.compress.packed import pack
from models.families.text_batches import BUCKETS, PRIME
from models.families.text_network import FAR, HEADS, WINDOW, TextNet, positions
from models.families.textnet import FittedTextNetwork
from models.onnx import packed
from models.onnx.graph import NUMBERS, Graph
from models.text.tokenizer import LENGTH, PAD

TOKENS = "tokens"
INPUTS = (helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["rows", "tokens"]),)

Array = NDArray[Any]


class Matrix(Protocol):
    """A network's matrix of that name, or its transpose, as a constant of the graph."""

    def __call__(self, name: str, array: Array, *, turned: bool = False) -> str: ...


def draw(fitted: FittedTextNetwork, graph: Graph) -> str:
    """Add the network to the graph; gives the name of its probabilities."""
    net = fitted.net
    arrays = net.arrays()

    def matrix(name: str, array: Array, *, turned: bool = False) -> str:
        """The array, or its transpose, as a constant, packed if the model is a small one; of the
        wide table, most of which no training text has a run for, the rows that are not 0."""
        if fitted.steps is None and name == "wide":
            return packed.rows(array, graph)
        if fitted.steps is None:
            return graph.constant(array.T if turned else array)
        found = packed.constant(pack(array, fitted.steps.get(name)), graph)
        return graph.node("Transpose", found, perm=[1, 0]) if turned else found

    wide = _wide(net, arrays, graph, matrix)
    parts, widths = [], []
    if net.shape.deep != "none":
        parts.append(_pooled(net, arrays, graph, matrix))
        widths.append(arrays["mix"].shape[1] - _beside_width(arrays))
    mix = arrays["mix"]
    if graph.numbers:
        scaled, missing = graph.standardised(NUMBERS, arrays["mean"], arrays["scale"], FAR)
        parts += [scaled, graph.cast(missing, np.float32)]
    if graph.cards:
        tables = [arrays[f"embeddings.{j}"] for j in range(len(graph.cards))]
        sizes = [table.shape[1] for table in tables]
        most = max(sizes)
        padded = [np.pad(table, ((0, 0), (0, most - table.shape[1]))) for table in tables]
        parts.append(graph.flat(graph.lookup(padded), most * len(tables)))
        ends = mix.shape[1] - sum(sizes) + np.cumsum([0, *sizes[:-1]])
        blocks = np.split(mix, ends, axis=1)
        padding = [(0, 0)] + [(0, most - size) for size in sizes]
        mix = np.hstack([np.pad(b, ((0, 0), pad)) for b, pad in zip(blocks, padding, strict=True)])
    if parts:
        x = _linear(graph, graph.concat(parts), matrix("mix", mix), arrays["mix_bias"], mix)
        hidden = graph.concat([graph.node("Relu", x), wide])
        head = arrays["head"]
        scores = _linear(graph, hidden, graph.constant(head), arrays["bias"], head)
    else:  # without inputs the layer is its bias
        units = len(arrays["mix_bias"])
        base = arrays["head"][:, :units] @ np.maximum(arrays["mix_bias"], 0) + arrays["bias"]
        head = np.ascontiguousarray(arrays["head"][:, units:])
        scores = _linear(graph, wide, graph.constant(head), base, head)
    return graph.node("Softmax", graph.cast(scores, np.float64), axis=1)


def _beside_width(arrays: dict[str, Array]) -> int:
    tables = [array for name, array in arrays.items() if name.startswith("embeddings.")]
    return int(2 * len(arrays["mean"]) + sum(table.shape[1] for table in tables))


def _linear(graph: Graph, x: str, weight: str, bias: Array, like: Array) -> str:
    graph.width = max(graph.width, *like.shape)
    return graph.node("Gemm", x, weight, graph.constant(bias), transB=1)


def _ints(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, dtype=np.int64))


def _known(graph: Graph, tokens: str) -> str:
    """1.0 where a token is, 0.0 where padding is."""
    padding = graph.node("Equal", tokens, graph.constant(np.int64(PAD)))
    return graph.cast(graph.node("Not", padding), np.float32)


def _wide(net: TextNet, arrays: dict[str, Array], graph: Graph, matrix: Matrix) -> str:
    """`TextNet.bag` of `runs`: (n, k)."""
    phrases = net.shape.phrases
    parts, hashed = [TOKENS], TOKENS
    far = np.iinfo(np.int64).max
    for n in range(2, phrases + 1):
        last = graph.node("Slice", TOKENS, _ints(graph, n - 1), _ints(graph, far), _ints(graph, 1))
        first = graph.node("Slice", hashed, _ints(graph, 0), _ints(graph, -1), _ints(graph, 1))
        scaled = graph.node("Mul", first, graph.constant(np.int64(PRIME)))
        summed = graph.node("Add", scaled, last)
        hashed = graph.node("Mod", summed, graph.constant(np.int64(BUCKETS)))
        row = graph.node("Add", hashed, graph.constant(np.int64(net.shape.vocabulary)))
        padding = graph.node("Equal", last, graph.constant(np.int64(PAD)))
        parts.append(graph.node("Where", padding, graph.constant(np.int64(PAD)), row))
    places = graph.concat(parts)
    table = np.array(arrays["wide"], dtype=np.float32)
    table[PAD] = 0.0  # so padding adds nothing
    graph.width = max(graph.width, phrases * LENGTH * max(table.shape[1], 2))
    found = graph.node("Gather", matrix("wide", table), places, axis=0)
    total = graph.node("ReduceSum", found, _ints(graph, 1), keepdims=0)
    count = graph.node("ReduceSum", _known(graph, places), _ints(graph, 1), keepdims=1)
    root = graph.node("Sqrt", graph.node("Max", count, graph.constant(np.float32(1))))
    return graph.node("Div", total, root)


def _pooled(net: TextNet, arrays: dict[str, Array], graph: Graph, matrix: Matrix) -> str:
    """`TextNet.pooled`: (n, width)."""
    known = _known(graph, TOKENS)
    x = graph.node("Gather", matrix("table", arrays["table"]), TOKENS, axis=0)
    graph.width = max(graph.width, LENGTH * arrays["table"].shape[1])
    if net.shape.deep == "conv":
        graph.width *= 1 + WINDOW
        mask = graph.node("Unsqueeze", known, _ints(graph, 1))
        x = graph.node("Mul", graph.node("Transpose", x, perm=[0, 2, 1]), mask)
        bias = graph.constant(arrays["filters_bias"])
        filters = matrix("filters", arrays["filters"]), bias
        x = graph.node("Conv", x, *filters, pads=[WINDOW // 2, WINDOW // 2])
        x = graph.node("Mul", graph.node("Relu", x), mask)
        return graph.node("ReduceMax", x, _ints(graph, 2), keepdims=0)
    if net.shape.deep == "attention":
        x = _attended(net, arrays, graph, x, known, matrix)
    x = graph.node("Mul", x, graph.node("Unsqueeze", known, _ints(graph, 2)))
    count = graph.node("ReduceSum", known, _ints(graph, 1), keepdims=1)
    total = graph.node("ReduceSum", x, _ints(graph, 1), keepdims=0)
    return graph.node("Div", total, graph.node("Max", count, graph.constant(np.float32(1))))


def _attended(
    net: TextNet, arrays: dict[str, Array], graph: Graph, x: str, known: str, matrix: Matrix
) -> str:
    """`TextNet._attended` of x with the positions added: (n, L, width)."""
    width = net.shape.width
    graph.width = max(graph.width, HEADS * LENGTH * LENGTH)
    ones = graph.constant(np.ones(width, dtype=np.float32))
    length = graph.node("Shape", TOKENS, start=1, end=2)
    every = graph.constant(positions(LENGTH, width).numpy())
    here = graph.node("Slice", every, _ints(graph, 0), length, _ints(graph, 0))
    x = graph.node("Add", x, here)

    def mapped(value: str, name: str) -> str:
        weight = matrix(name, arrays[name], turned=True)
        summed = graph.node("MatMul", value, weight)
        return graph.node("Add", summed, graph.constant(arrays[f"{name}_bias"]))

    def normed(value: str) -> str:
        return graph.node("LayerNormalization", value, ones, axis=-1, epsilon=1e-5)

    joint = mapped(normed(x), "query")
    split = graph.node("Reshape", joint, _ints(graph, 0, 0, 3, HEADS, width // HEADS))
    turned = graph.node("Transpose", split, perm=[2, 0, 3, 1, 4])  # (3, n, heads, L, width / heads)
    first = _ints(graph, 0)
    q, key, v = (
        graph.node("Squeeze", graph.node("Gather", turned, _ints(graph, part), axis=0), first)
        for part in range(3)
    )
    raised = graph.node("Transpose", key, perm=[0, 1, 3, 2])
    root = graph.constant(np.float32(math.sqrt(width // HEADS)))
    scores = graph.node("Div", graph.node("MatMul", q, raised), root)
    hidden = graph.node("Sub", known, graph.constant(np.float32(1)))
    mask = graph.node("Mul", hidden, graph.constant(np.float32(1e9)))
    masked = graph.node("Add", scores, graph.node("Unsqueeze", mask, _ints(graph, 1, 2)))
    seen = graph.node("MatMul", graph.node("Softmax", masked, axis=3), v)
    flat = graph.node("Transpose", seen, perm=[0, 2, 1, 3])
    x = graph.node("Add", x, mapped(graph.node("Reshape", flat, _ints(graph, 0, 0, width)), "out"))
    inner = graph.node("Relu", mapped(normed(x), "up"))
    return graph.node("Add", x, mapped(inner, "down"))
