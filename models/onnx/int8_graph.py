"""Weights of an ONNX graph in int8: what `models.onnx.int8` measures and chooses from.

Scales are symmetric: one for each output of a layer and each row of a table, or for each column of
eight rows of a narrow one (Krishnamoorthi 2018, per channel). All of it is standard ONNX.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

How = Literal["weights", "groups", "halves", "sums"]

LEAST = 256  # weights of a layer that is made int8: of a smaller one nothing is gained

_NARROW, _BLOCK = 8, 8  # columns of a table below which so many rows share the scales of columns,
_SMALL = np.finfo(np.float16)  # which are of 16 bits then, in this range
_GROUP = 32  # inputs of a layer that share a scale for each output, where one for all is too coarse
_SUMS = 32  # inputs and outputs of a layer from which sums of whole numbers may pay
_LIMIT = 127  # of weights: -128 is left out, and of activations: a processor without instructions
# for bytes adds two products in 16 bits, which 2 * 127 * 127 fits and 2 * 255 * 127 does not
_LOW, _STEPS = 63, 255  # of weights, and of activations with a sign: 2 * 255 * 63 fits too


def rewritten(model: bytes, how: How) -> bytes | None:
    """The model with its layers in int8; None if `how` changes nothing in it.

    `weights` keeps the sums in floats: a runtime unpacks the weights once, when it loads them.
    `sums` multiplies whole numbers too, in layers that are large enough and not the first, whose
    inputs have too different ranges; where inputs have a sign, of weights in 7 bits. Two are more
    exact than `weights`: `groups` has a scale for each 32 inputs of each output, and `halves` has
    narrow tables in 16 bits.
    """
    made = _Rewriting(model, how)
    made.run()
    counts = {"weights": made.packed, "sums": made.summed}
    wanted = {**counts, "groups": made.grouped, "halves": made.halved}[how]
    return made.model() if wanted else None


class _Rewriting:
    """One pass over a graph's nodes."""

    def __init__(self, model: bytes, how: How) -> None:
        self._how = how
        self._proto = ModelProto.FromString(model)
        graph = self._proto.graph
        self._constants = {c.name: c for c in graph.initializer}
        self._nodes: list[NodeProto] = []
        self._made_by = {name: node.op_type for node in graph.node for name in node.output}
        self._whole: dict[str, tuple[str, str, str]] = {}  # by input, see `_rounded`
        self.packed = self.summed = self.grouped = self.halved = 0

    def run(self) -> None:
        for node in self._proto.graph.node:
            if node.op_type in ("Gemm", "MatMul"):
                self._layer(node)
            elif node.op_type == "Conv":
                self._filters(node)
            elif node.op_type == "Gather" and _attribute(node, "axis", 0) == 0:
                self._table(node)
            elif node.op_type == "ScatterND":
                self._scattered(node)
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
        self, name: str, axis: int, block: int = 1, limit: int = _LIMIT
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
        scale = np.where(largest > 0, largest / limit, 1.0).astype(values.dtype)
        if block > 1 and scale.max() < _SMALL.max:
            scale = np.maximum(scale, _SMALL.tiny).astype(np.float16)
        each = np.repeat(scale, block, axis=0)[: len(values)].astype(values.dtype)
        whole = np.rint(values / each).clip(-limit, limit)  # a scale may be rounded down
        return whole.astype(np.int8), scale

    def _layer(self, node: NodeProto) -> None:
        """x W + b: a Gemm or MatMul with weights that are known."""
        turned = node.op_type == "Gemm" and _attribute(node, "transB", 0) == 1
        plain = all(_attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        x, axis = node.input[0], 0 if turned else 1
        positive = self._made_by.get(x) == "Relu"
        found = self._weights(node.input[1], axis) if plain else None
        if found is None or _attribute(node, "transA", 0):
            self._nodes.append(node)
            return
        self.packed += 1
        inner = positive or node.op_type == "MatMul"  # a Gemm's inputs may be a table's own numbers
        large = min(found[0].shape) >= _SUMS and found[1].dtype == np.float32
        if summed := self._how == "sums" and inner and large:
            found = found if positive else self._weights(node.input[1], axis, limit=_LOW)
            self.summed += 1
        assert found is not None
        packed, scale = (part.T if turned else part for part in found)
        weights = self._constant(packed)
        if summed:
            product = self._sum(x, weights, scale, positive)
        elif self._how == "groups" and (grouped := self._groups(node.input[1], turned)):
            product = self._node("MatMul", x, grouped)
        else:
            product = self._node("MatMul", x, self._unpacked(weights, scale))
        if len(node.input) > 2:
            product = self._node("Add", product, node.input[2])
        self._nodes.append(helper.make_node("Identity", [product], [node.output[0]]))

    def _groups(self, name: str, turned: bool) -> str | None:
        """A layer's matrix (inputs, outputs) of bytes with scales of groups of inputs, unpacked;
        None of one that such groups don't divide."""
        values = numpy_helper.to_array(self._constants[name])
        values = values.T if turned else values
        inputs, outputs = values.shape
        if inputs % _GROUP or inputs == _GROUP:
            return None
        parts = values.reshape(-1, _GROUP, outputs)
        scale = np.abs(parts).max(axis=1, keepdims=True) / _LIMIT
        kind = np.float16 if scale.max() < _SMALL.max else scale.dtype
        scale = np.maximum(scale, _SMALL.tiny).astype(kind)
        whole = np.rint(parts / scale.astype(values.dtype)).clip(-_LIMIT, _LIMIT)
        self.grouped += 1
        to = helper.np_dtype_to_tensor_dtype(values.dtype)
        scales = self._node("Cast", self._constant(scale), to=to)
        packed = self._node("Cast", self._constant(whole.astype(np.int8)), to=to)
        shape = self._constant(np.array(values.shape, dtype=np.int64))
        return self._node("Reshape", self._node("Mul", packed, scales), shape)

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

    def _sum(self, x: str, weights: str, scale: NDArray[Any], positive: bool) -> str:
        """x W in whole numbers: each row of x by its own range."""
        if x not in self._whole:
            self._whole[x] = self._rounded(x, positive)
        whole, step, least = self._whole[x]
        product = self._node("MatMulInteger", whole, weights)
        product = self._node(
            "Cast", product, to=helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
        )
        product = self._node("Mul", product, step)
        if least:  # x is least + step whole: what least adds is the same times each output's sum
            sums = numpy_helper.to_array(self._constants[weights]).sum(axis=0, dtype=np.float32)
            product = self._node("Add", product, self._node("Mul", least, self._constant(sums)))
        return self._node("Mul", product, self._constant(scale))

    def _rounded(self, x: str, positive: bool) -> tuple[str, str, str]:
        """(x in bytes, what one of them stands for, and what 0 does, of each row)."""
        last = self._constant(np.array([-1], dtype=np.int64))
        largest = self._node("ReduceMax", x, last, keepdims=1)
        least, steps = "", _LIMIT
        if not positive:
            least = self._node("ReduceMin", x, last, keepdims=1)
            largest, steps = self._node("Sub", largest, least), _STEPS
            x = self._node("Sub", x, least)
        floor = self._constant(np.float32(1e-20))
        one = self._constant(np.float32(1 / steps))
        step = self._node("Mul", self._node("Max", largest, floor), one)
        whole = self._node("Round", self._node("Div", x, step))
        byte = helper.np_dtype_to_tensor_dtype(np.dtype(np.uint8))
        return self._node("Cast", whole, to=byte), step, least

    def _table(self, node: NodeProto) -> None:
        """Rows of a table by their number: the rows and their scales are looked up."""
        table = self._constants.get(node.input[0])
        narrow = table is not None and len(table.dims) == 2 and table.dims[1] < _NARROW
        halves = narrow and self._how == "halves"
        found = None if halves else self._weights(node.input[0], 0, _BLOCK if narrow else 1)
        if found is None:
            self._half(node, table)
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

    def _scattered(self, node: NodeProto) -> None:
        """Rows that are put into a table of zeros (`models.onnx.packed.rows`): as all the rows of a
        table of them, looked up in their order."""
        rows = self._constants.get(node.input[2])
        if rows is not None:
            ends = [self._node("Constant", value_int=end) for end in (0, rows.dims[0], 1)]
            every, name = self._node("Range", *ends), f"r{len(self._nodes)}"
            self._table(helper.make_node("Gather", [node.input[2], every], [name], axis=0))
            node.input[2] = name
        self._nodes.append(node)

    def _half(self, node: NodeProto, table: TensorProto | None) -> None:
        """A table, or one number by its place, such as a term's idf, in 16 bits where that fits."""
        values = None if table is None else numpy_helper.to_array(table)
        if (
            table is None
            or values is None
            or values.dtype.kind != "f"
            or values.size < LEAST
            or np.abs(values).max() > _SMALL.max
        ):
            self._nodes.append(node)
            return
        self.halved += values.ndim > 1
        half = self._constant(values.astype(np.float16))
        found = self._node("Gather", half, *node.input[1:], axis=0)
        self._node("Cast", found, to=table.data_type, output=node.output[0])

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


def _attribute(node: NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            value: float = helper.get_attribute_value(attribute)
            return value
    return default
