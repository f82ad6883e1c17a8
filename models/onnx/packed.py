"""Packed weights (`models.compress.packed`) in a graph: as small in the file, dense in memory.

Operators of plain ONNX unpack them. Their inputs are constants, so ONNX Runtime computes them once,
when it loads the model, and answers as from dense weights.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from models.compress.packed import Packed
from models.onnx.graph import Graph


def constant(packed: Packed, graph: Graph) -> str:
    """The matrix, float32, of the packed one's shape."""
    shape = graph.constant(np.array(packed.shape, dtype=np.int64))
    if packed.gaps is None:
        flat = graph.constant(packed.values)
    else:
        zero = helper.make_tensor(
            "zero", helper.np_dtype_to_tensor_dtype(packed.values.dtype), [1], [0]
        )
        size = graph.constant(np.array([np.prod(packed.shape)], dtype=np.int64))
        flat = graph.node("ConstantOfShape", size, value=zero)
        if len(packed.gaps):
            gaps = graph.cast(graph.constant(packed.gaps), np.int64)
            ends = graph.node("CumSum", gaps, graph.constant(np.int64(0)))
            places = graph.node("Sub", ends, graph.constant(np.int64(1)))
            values = graph.constant(packed.values)
            flat = graph.node("ScatterElements", flat, places, values, axis=0)
    whole = graph.node("Reshape", flat, shape)
    if packed.step is None:
        return whole
    return graph.node("Mul", graph.cast(whole, np.float32), graph.constant(packed.step))
