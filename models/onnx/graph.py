"""An ONNX graph in the making, and what every family's graph begins and ends with.

Inputs are what `models.encoding.Encoder` gives: `numbers` float32 (n, d_num) with NaN where
missing, and `codes` int64 (n, d_cat), each below its column's cardinality. An input of width 0 is
left out. The output is `probabilities` float64 (n, k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    compose,
    helper,
    numpy_helper,
)

from models.encoding import UNKNOWN
from models.families.base import ABSENT

OPSET, OPSET_ML, IR = 18, 3, 9  # of 2022: whatever reads ONNX reads these

NUMBERS, CODES, PROBABILITIES = "numbers", "codes", "probabilities"

# Elements of the widest matrix that a run may fill, and rows at most. 2 MB stay in the processor's
# cache: of 400 trees with 128 leaves and 16,000 category sets, 4,096 rows take 0.24 s, and 1.2 s in
# one run. Beyond a few hundred rows a run gains nothing more.
_ROOM, _ROWS = 250_000, 4_096


class Graph:
    """`numbers` columns of numbers, `cards` codes per category column, `k` classes."""

    def __init__(self, numbers: int, cards: Sequence[int], k: int) -> None:
        self.numbers, self.cards, self.k = numbers, tuple(cards), k
        self.width = numbers + len(self.cards)  # of the widest matrix in it
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    @property
    def rows_at_once(self) -> int:
        """How many rows a run may take, so that its memory is bounded."""
        return min(_ROWS, max(8, _ROOM // max(self.width, 1)))

    def constant(self, value: Any) -> str:
        """An array, or a scalar of a NumPy type, as an initialiser."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output and give the output's name."""
        made = helper.make_node(op, inputs, [f"v{len(self._nodes)}"], domain=domain, **attributes)
        return self.add(made)

    def add(self, made: NodeProto) -> str:
        """Add a node that was made elsewhere; its one output is named here."""
        del made.output[:]
        made.output.append(f"v{len(self._nodes)}")
        self._nodes.append(made)
        return str(made.output[0])

    def embed(self, part: ModelProto, matrix: str) -> str:
        """Add another model's nodes, its input being `matrix`; gives its last output."""
        renamed = compose.add_prefix(part, f"part{len(self._nodes)}_").graph
        names = [given.name for given in renamed.input]
        for node in renamed.node:
            node.input[:] = [matrix if name in names else name for name in node.input]
        self._nodes += renamed.node
        self._constants += renamed.initializer
        return str(renamed.output[-1].name)

    def cast(self, value: str, to: type[np.generic]) -> str:
        """`value` as another type."""
        return self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def concat(self, parts: Sequence[str]) -> str:
        """Matrices of n rows side by side."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=1)

    def standardised(
        self, numbers: str, mean: NDArray[Any], scale: NDArray[Any], far: float
    ) -> tuple[str, str]:
        """((numbers - mean) / scale cut at `far` and 0 where missing, bools that tell which)."""
        kind = mean.dtype.type
        centred = self.node("Sub", numbers, self.constant(mean))
        scaled = self.node("Div", centred, self.constant(scale))
        missing = self.node("IsNaN", scaled)
        filled = self.node("Where", missing, self.constant(kind(0)), scaled)
        cut = self.node("Clip", filled, self.constant(kind(-far)), self.constant(kind(far)))
        return cut, missing

    def beyond(self, tables: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Tables (codes, w) with one row more, that of unknown ones, where there are more codes."""
        rows = []
        for table, card in zip(tables, self.cards, strict=True):
            more = table[UNKNOWN : UNKNOWN + 1] if card > len(table) else table[:0]
            rows.append(np.concatenate([table, more]))
        return rows

    def lookup(
        self,
        tables: Sequence[NDArray[Any]],
        constant: Callable[[NDArray[Any]], str] | None = None,
    ) -> str:
        """(n, d_cat, w): of each category column the row of its table at the row's code.

        `tables[j]` is (codes, w); codes beyond it are unknown. One Gather serves all columns.
        `constant` puts all the rows into the graph, otherwise than as they are.
        """
        rows = self.beyond(tables)
        lengths = np.array([len(table) for table in rows], dtype=np.int64)
        places = CODES
        if (lengths < self.cards).any():
            places = self.node("Min", places, self.constant(lengths - 1))
        if len(rows) > 1:
            places = self.node("Add", places, self.constant(np.cumsum(lengths) - lengths))
        self.width = max(self.width, self.numbers + len(rows) * rows[0].shape[1])
        every = (constant or self.constant)(np.concatenate(rows))
        return self.node("Gather", every, places, axis=0)

    def flat(self, value: str, width: int) -> str:
        """(n, a, b) as (n, width), width = a b."""
        return self.node("Reshape", value, self.constant(np.array([0, width], dtype=np.int64)))

    def two(self, positive: str) -> str:
        """(n, 2) of the probability (n, 1) of the second class."""
        other = self.node("Sub", self.constant(np.float64(1)), positive)
        return self.concat([other, positive])

    def spread(self, proba: str, present: Sequence[int]) -> str:
        """`models.families.base.spread`: the classes that training showed among all k."""
        if len(present) == self.k:
            return proba
        places = np.zeros((len(present), self.k))
        places[np.arange(len(present)), list(present)] = 1 - ABSENT * (self.k - len(present))
        absent = np.full(self.k, ABSENT)
        absent[list(present)] = 0.0
        moved = self.node("MatMul", proba, self.constant(places))
        return self.node("Add", moved, self.constant(absent))

    def model(self, output: str, more: Sequence[ValueInfoProto] = ()) -> ModelProto:
        """The whole, with `output` as its answer, and `more` inputs beside numbers and codes."""
        self._nodes.append(helper.make_node("Identity", [output], [PROBABILITIES]))
        inputs = []
        for name, kind, width in (
            (NUMBERS, TensorProto.FLOAT, self.numbers),
            (CODES, TensorProto.INT64, len(self.cards)),
        ):
            if width:
                inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        inputs += more
        answer = helper.make_tensor_value_info(PROBABILITIES, TensorProto.DOUBLE, ["rows", self.k])
        graph = helper.make_graph(self._nodes, "everfit", inputs, [answer], self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="everfit"
        )
