"""A model's ONNX form in int8: a quarter of the bytes, and where it pays, sums of whole numbers.

Weights are symmetric, with one scale for each output of a layer and for each row of a table, or
for each column of eight rows of a narrow one (Krishnamoorthi 2018, per channel). What a row is
answered with never depends on its batch: activations, where they are whole numbers as well, have a
scale for each row, found while answering. All of it is standard ONNX, so any runtime reads it.

An answer in int8 differs from the model's, and by how much is measured on recorded rows, never
assumed: see `Figures`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.encoding import Encoded
from models.onnx.export import NoForm
from models.onnx.parity import Answers

How = Literal["weights", "sums"]

TOLERANCE = 0.02  # of a probability, of any recorded row
LEAST = 256  # weights of a layer that is made int8: of a smaller one nothing is gained
_SUMS = 32  # inputs and outputs of a layer from which sums of whole numbers may pay
_NARROW, _BLOCK = 8, 8  # columns of a table below which so many rows share the scales of columns,
_SMALL = np.finfo(np.float16)  # which are of 16 bits then, in this range
_LIMIT = 127  # of weights: -128 is left out, and of activations: a processor without instructions
# for bytes adds two products in 16 bits, which 2 * 127 * 127 fits and 2 * 255 * 127 does not
_ROWS = 4_096  # recorded rows that are looked at, at most
_BATCH = 33  # rows of the batch that forms are timed with, beside a single one
_TURNS = 15
_WORTH = 0.95  # of the first form's time is what the second may take at most to be the one chosen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """How a form in int8 differs from the float form on `rows` recorded rows, and what it takes.

    `largest` and `mean` are differences of a probability, `changed` the share of rows with another
    most probable class; times in microseconds, of one row and of a batch of 33.
    """

    how: How
    rows: int
    largest: float
    mean: float
    changed: float
    bytes: int
    float_bytes: int
    one_us: float
    batch_us: float
    float_one_us: float
    float_batch_us: float

    def note(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Quantised:
    """A model in int8 that answers within the tolerance, a session of it, and its figures."""

    model: bytes
    session: Answers
    figures: Figures


def quantised(
    model: bytes,
    opened: Callable[[bytes], Answers],
    recorded: Encoded,
    tolerance: float = TOLERANCE,
    *,
    hows: Sequence[How] = (),
) -> Quantised:
    """The quicker of the int8 forms of a model whose probabilities differ by at most `tolerance` on
    `recorded` rows from its own; `opened` gives what answers by a model.

    Raises NoForm for a model without layers of weights, or if no form is within the tolerance.
    """
    rows = recorded.take(np.unique(np.linspace(0, len(recorded) - 1, _ROWS).astype(np.int64)))
    floats = opened(model)
    expected = floats.predict_proba(rows)
    made, refused = [], []
    for how in hows or ("weights", "sums"):
        packed = rewritten(model, how)
        if packed is None:
            continue
        session = opened(packed)
        got = session.predict_proba(rows)
        apart = np.abs(got - expected)
        apart[~np.isfinite(got)] = np.inf
        figures = Figures(
            how=how,
            rows=len(rows),
            largest=float(apart.max()),
            mean=float(apart.mean()),
            changed=float((got.argmax(1) != expected.argmax(1)).mean()),
            bytes=len(packed),
            float_bytes=len(model),
            **_times("", session, rows),
            **_times("float_", floats, rows),
        )
        logger.debug("int8 by %s: %s", how, figures)
        if figures.largest <= tolerance:
            made.append(Quantised(packed, session, figures))
        else:
            refused.append(figures.largest)
    if made:
        return min(made, key=lambda each: _cost(each, made[0]))
    if refused:
        raise NoForm(
            f"its int8 form differs by {min(refused):.2g} in a probability of {len(rows)} rows, "
            f"{tolerance:g} is allowed"
        )
    raise NoForm(f"it has no layer of {LEAST} or more weights, which are what int8 makes smaller")


def is_packed(model: bytes) -> bool:
    """Whether a model has weights in int8 already."""
    constants = ModelProto.FromString(model).graph.initializer
    return any(constant.data_type == TensorProto.INT8 for constant in constants)


def _cost(each: Quantised, first: Quantised) -> float:
    """Time relative to the first form's, which is the more exact one and wins where it is close."""
    one = each.figures.one_us / first.figures.one_us
    batch = each.figures.batch_us / first.figures.batch_us
    return float(np.sqrt(one * batch)) / (1.0 if each is first else _WORTH)


def _times(which: str, session: Answers, rows: Encoded) -> dict[str, float]:
    one, batch = (_microseconds(session, rows.take(slice(0, n))) for n in (1, _BATCH))
    return {f"{which}one_us": one, f"{which}batch_us": batch}


def _microseconds(session: Answers, rows: Encoded) -> float:
    """The quickest of some answers."""
    taken = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        session.predict_proba(rows)
        taken.append(time.perf_counter() - began)
    return 1e6 * min(taken)


def rewritten(model: bytes, how: How) -> bytes | None:
    """The model with its layers in int8; None if `how` changes nothing in it.

    `weights` keeps the sums in floats: a runtime unpacks the weights once, when it loads them.
    `sums` multiplies whole numbers too, in layers that are large enough and not the first, whose
    inputs have too different ranges.
    """
    made = _Rewriting(model)
    made.run(how)
    wanted = made.summed if how == "sums" else made.packed
    return made.model() if wanted else None


class _Rewriting:
    """One pass over a graph's nodes."""

    def __init__(self, model: bytes) -> None:
        self._proto = ModelProto.FromString(model)
        graph = self._proto.graph
        self._constants = {c.name: c for c in graph.initializer}
        self._nodes: list[NodeProto] = []
        self._made_by = {name: node.op_type for node in graph.node for name in node.output}
        self.packed = self.summed = 0

    def run(self, how: How) -> None:
        for node in self._proto.graph.node:
            if node.op_type in ("Gemm", "MatMul"):
                self._layer(node, how)
            elif node.op_type == "Conv":
                self._filters(node)
            elif node.op_type == "Gather" and _attribute(node, "axis", 0) == 0:
                self._table(node)
            else:
                self._nodes.append(node)

    def model(self) -> bytes:
        graph = self._proto.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [constant for name, constant in self._constants.items() if name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return bytes(self._proto.SerializeToString())

    def _weights(
        self, name: str, axis: int, block: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """(int8 weights, scales along `axis` with the other's length 1) of a large enough matrix of
        floats; None of anything else. With a block they are each column's, of so many rows.
        """
        constant = self._constants.get(name)
        values = None if constant is None else numpy_helper.to_array(constant)
        if values is None or values.dtype.kind != "f" or values.ndim != 2 or values.size < LEAST:
            return None
        largest = np.abs(values)
        if block > 1:
            largest = np.maximum.reduceat(largest, np.arange(0, len(values), block))
        else:
            largest = largest.max(axis=1 - axis, keepdims=True)
        scale = np.where(largest > 0, largest / _LIMIT, 1.0).astype(values.dtype)
        if block > 1 and scale.max() < _SMALL.max:
            scale = np.maximum(scale, _SMALL.tiny).astype(np.float16)
        each = np.repeat(scale, block, axis=0)[: len(values)].astype(values.dtype)
        whole = np.rint(values / each).clip(-_LIMIT, _LIMIT)  # a scale may be rounded down
        return whole.astype(np.int8), scale

    def _layer(self, node: NodeProto, how: How) -> None:
        """x W + b: a Gemm or MatMul with weights that are known."""
        turned = node.op_type == "Gemm" and _attribute(node, "transB", 0) == 1
        plain = all(_attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        found = self._weights(node.input[1], 0 if turned else 1) if plain else None
        if found is None or _attribute(node, "transA", 0):
            self._nodes.append(node)
            return
        packed, scale = (part.T if turned else part for part in found)
        self.packed += 1
        x, weights = node.input[0], self._constant(packed)
        inner = self._made_by.get(x) == "Relu" and min(packed.shape) >= _SUMS
        if how == "sums" and inner and scale.dtype == np.float32:
            self.summed += 1
            product = self._sum(x, weights, scale)
        else:
            product = self._node("MatMul", x, self._unpacked(weights, scale))
        if len(node.input) > 2:
            product = self._node("Add", product, node.input[2])
        self._nodes.append(helper.make_node("Identity", [product], [node.output[0]]))

    def _filters(self, node: NodeProto) -> None:
        """A convolution with a kernel (outputs, inputs, ...) that is known."""
        constant = self._constants.get(node.input[1])
        values = None if constant is None else numpy_helper.to_array(constant)
        if values is not None and values.dtype.kind == "f" and values.size >= LEAST:
            largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
            scale = np.where(largest > 0, largest / _LIMIT, 1.0).astype(values.dtype)
            packed = self._constant(np.rint(values / scale).astype(np.int8))
            node.input[1] = self._unpacked(packed, scale)
            self.packed += 1
        self._nodes.append(node)

    def _sum(self, x: str, weights: str, scale: NDArray[Any]) -> str:
        """x W in whole numbers: each row of x, which is not negative, by its own largest value."""
        last = self._constant(np.array([1], dtype=np.int64))
        largest = self._node("ReduceMax", x, last, keepdims=1)
        floor = self._constant(np.float32(1e-20))
        step = self._node("Mul", self._node("Max", largest, floor), self._constant(_STEP))
        whole = self._node("Round", self._node("Div", x, step))
        whole = self._node("Cast", whole, to=helper.np_dtype_to_tensor_dtype(np.dtype(np.uint8)))
        product = self._node("MatMulInteger", whole, weights)
        product = self._node(
            "Cast", product, to=helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
        )
        return self._node("Mul", self._node("Mul", product, step), self._constant(scale))

    def _table(self, node: NodeProto) -> None:
        """Rows of a table by their number: the rows and their scales are looked up."""
        table = self._constants.get(node.input[0])
        narrow = table is not None and len(table.dims) == 2 and table.dims[1] < _NARROW
        found = self._weights(node.input[0], 0, _BLOCK if narrow else 1)
        if found is None:
            self._nodes.append(node)
            return
        packed, scale = found
        self.packed += 1
        rows = self._node("Gather", self._constant(packed), node.input[1], axis=0)
        places = node.input[1]
        if narrow:
            places = self._node("Div", places, self._constant(np.array(_BLOCK, dtype=np.int64)))
        scales = self._node("Gather", self._constant(scale), places, axis=0)
        assert table is not None
        if scale.dtype == np.float16:
            scales = self._node("Cast", scales, to=table.data_type)
        rows = self._node("Cast", rows, to=table.data_type)
        self._node("Mul", rows, scales, output=node.output[0])

    def _unpacked(self, weights: str, scale: NDArray[Any]) -> str:
        kind = helper.np_dtype_to_tensor_dtype(scale.dtype)
        return self._node("Mul", self._node("Cast", weights, to=kind), self._constant(scale))

    def _constant(self, value: Any) -> str:
        name = f"q{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"w{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output


_STEP = np.float32(1 / _LIMIT)


def _attribute(node: NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            value: float = helper.get_attribute_value(attribute)
            return value
    return default
