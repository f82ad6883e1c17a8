"""Packed weights (`models.compress.packed`) in a graph: as small in the file, dense in memory.

Of a table whose rows are mostly 0, such as a hashed one, the other rows are kept as they are.

Operators of plain ONNX unpack them. Their inputs are constants, so ONNX Runtime computes them once,
when it loads the model, and answers as from dense weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from models.compress.packed import Packed, gapped
from models.onnx.graph import Graph

_WORTH = 0.8  # of a table's bytes, that its rows may take at most to be kept in the place of it


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
            places, values = _places(packed.gaps, graph), graph.constant(packed.values)
            flat = graph.node("ScatterElements", flat, places, values, axis=0)
    whole = graph.node("Reshape", flat, shape)
    if packed.step is None:
        return whole
    return graph.node("Mul", graph.cast(whole, np.float32), graph.constant(packed.step))


def rows(table: NDArray[np.float32], graph: Graph) -> str:
    """A table (rows, columns) of which only the rows that are not 0 are kept, each with the gap to
    the one before it in a byte; the table as it is where that is not clearly smaller."""
    gaps, kept = gapped(np.flatnonzero(table.any(axis=1)))
    if not len(kept) or gaps.nbytes + table[kept].nbytes > _WORTH * table.nbytes:
        return graph.constant(table)
    empty = graph.node("ConstantOfShape", graph.constant(np.array(table.shape, dtype=np.int64)))
    column = graph.node("Unsqueeze", _places(gaps, graph), graph.constant(np.array([1])))
    return graph.node("ScatterND", empty, column, graph.constant(table[kept]))


def _places(gaps: NDArray[np.uint8], graph: Graph) -> str:
    """Places int64 (n,) of what has such gaps before it."""
    ends = graph.node(
        "CumSum", graph.cast(graph.constant(gaps), np.int64), graph.constant(np.int64(0))
    )
    return graph.node("Sub", ends, graph.constant(np.int64(1)))
