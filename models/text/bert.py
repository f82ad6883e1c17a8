"""A BERT encoder in ONNX, written from its arrays (Devlin et al. 2019): ids to one vector a text.

Inputs `ids` int64 (n, L) and `known` float32 (n, L), 0 where padded; output `vectors` float32
(n, width), of length 1. Neither torch nor transformers is needed to make or to run it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]


class _Graph:
    """A model in the making. Constants go straight into it: each copy of all has 90 MB."""

    def __init__(self) -> None:
        from onnx import ModelProto

        self.model: Any = ModelProto()
        self.nodes: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        constants = self.model.graph.initializer
        name = f"c{len(constants)}"
        constants.add().CopyFrom(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        made = helper.make_node(op, inputs, [f"v{len(self.nodes)}"], **attributes)
        self.nodes.append(made)
        return str(made.output[0])

    def whole(self, inputs: list[Any], output: Any) -> bytes:
        from onnx import helper

        self.model.ir_version = 9
        self.model.opset_import.append(helper.make_opsetid("", 18))
        graph = self.model.graph
        graph.name = "encoder"
        graph.node.extend(self.nodes)
        graph.input.extend(inputs)
        graph.output.append(output)
        return bytes(self.model.SerializeToString())


def drawn(arrays: Arrays, config: Mapping[str, Any], pooling: str) -> bytes:
    """The graph of a model's arrays (with or without the prefix 'bert.') and its config.json;
    pooling is 'mean' over the tokens or 'cls', the first one. Raises KeyError for a missing array.
    """
    from onnx import TensorProto, helper

    own = {name.removeprefix("bert."): array for name, array in arrays.items()}
    graph = _Graph()
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    epsilon = float(config.get("layer_norm_eps", 1e-12))

    def ints(*values: int) -> str:
        return graph.constant(np.array(values, dtype=np.int64))

    def mapped(x: str, name: str) -> str:
        weight = graph.constant(np.ascontiguousarray(own[f"{name}.weight"].T))
        return graph("Add", graph("MatMul", x, weight), graph.constant(own[f"{name}.bias"]))

    def normed(x: str, name: str) -> str:
        scale, bias = (graph.constant(own[f"{name}.{part}"]) for part in ("weight", "bias"))
        return graph("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(x: str) -> str:
        root = graph.constant(np.float32(math.sqrt(2)))
        inner = graph("Add", graph("Erf", graph("Div", x, root)), graph.constant(np.float32(1)))
        return graph("Mul", graph("Mul", x, inner), graph.constant(np.float32(0.5)))

    places = own["embeddings.position_embeddings.weight"]
    places = places + own["embeddings.token_type_embeddings.weight"][0]
    here = graph("Slice", graph.constant(places), ints(0), graph("Shape", "ids", start=1, end=2))
    words = graph("Gather", graph.constant(own["embeddings.word_embeddings.weight"]), "ids")
    x = normed(graph("Add", words, here), "embeddings.LayerNorm")
    hidden = graph("Sub", "known", graph.constant(np.float32(1)))
    mask = graph("Mul", hidden, graph.constant(np.float32(1e9)))
    mask = graph("Unsqueeze", mask, ints(1, 2))
    root = graph.constant(np.float32(math.sqrt(width // heads)))
    for layer in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{layer}"
        q, key, v = (
            graph(
                "Transpose",
                graph(
                    "Reshape",
                    mapped(x, f"{at}.attention.self.{part}"),
                    ints(0, 0, heads, width // heads),
                ),
                perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3],
            )
            for part in ("query", "key", "value")
        )
        scores = graph("Add", graph("Div", graph("MatMul", q, key), root), mask)
        seen = graph("MatMul", graph("Softmax", scores, axis=3), v)
        flat = graph("Reshape", graph("Transpose", seen, perm=[0, 2, 1, 3]), ints(0, 0, width))
        summed = graph("Add", x, mapped(flat, f"{at}.attention.output.dense"))
        x = normed(summed, f"{at}.attention.output.LayerNorm")
        inner = gelu(mapped(x, f"{at}.intermediate.dense"))
        x = normed(graph("Add", x, mapped(inner, f"{at}.output.dense")), f"{at}.output.LayerNorm")
    if pooling == "cls":
        pooled = graph("Squeeze", graph("Slice", x, ints(0), ints(1), ints(1)), ints(1))
    else:
        shown = graph("Mul", x, graph("Unsqueeze", "known", ints(2)))
        count = graph("ReduceSum", "known", ints(1), keepdims=1)
        total = graph("ReduceSum", shown, ints(1), keepdims=0)
        pooled = graph("Div", total, graph("Max", count, graph.constant(np.float32(1e-9))))
    length = graph("ReduceL2", pooled, ints(1), keepdims=1)
    graph("Div", pooled, graph("Max", length, graph.constant(np.float32(1e-12))))
    graph.nodes[-1].output[0] = "vectors"
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "tokens"]),
        helper.make_tensor_value_info("known", TensorProto.FLOAT, ["rows", "tokens"]),
    ]
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", width])
    return graph.whole(inputs, output)
