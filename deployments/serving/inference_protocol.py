"""The Open Inference Protocol, version 2, in JSON: one tensor for each column.

https://github.com/open-inference/open-inference-protocol. An input has the shape [n] or [n, 1];
null in `data` is a missing value (an extension: JSON has no NaN). Outputs are one tensor `label`
and one `probability_<class>` for each class. Of our own are the request parameters `ids` and
`times`, and the answer's parameter `ids`. The binary tensor extension isn't spoken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deployments.serving.errors import RequestFault
from deployments.serving.limits import as_list, check_rows, decode
from deployments.serving.rows import Column, Rows
from deployments.serving.slots import Answer, Slot

_INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_ALLOWED: dict[str, tuple[type, ...]] = {
    "BYTES": (str, type(None)),
    "BOOL": (bool, type(None)),
    **dict.fromkeys(_INTEGERS, (int, type(None))),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (float, int, type(None))),
}


class Tensor(msgspec.Struct):
    """One input: `data` is flat, or nested as `shape` says."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """An output that the caller asks for by name."""

    name: str
    parameters: dict[str, Any] = {}


class Inference(msgspec.Struct):
    """The body of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


_DECODER = msgspec.json.Decoder(Inference)
_TEXTS = list[str] | None


def parse(body: bytes, maximum_rows: int) -> tuple[Rows, Inference]:
    """The rows of a request, and the request for its id and outputs. Raises RequestFault."""
    sent = decode(body, _DECODER)
    if not sent.inputs:
        raise RequestFault(
            400, "inputs", "one tensor for each column is required", "send the columns", received=[]
        )
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(sent.inputs):
        if tensor.name in columns:
            raise RequestFault(
                400,
                f"inputs[{place}].name",
                "tensor names are unique",
                "remove the repeated one",
                received=tensor.name,
            )
        columns[tensor.name] = _values(tensor, f"inputs[{place}]", maximum_rows)
    count = len(columns[sent.inputs[0].name])
    return (
        Rows(columns, count, ids=_texts(sent, "ids"), times=_texts(sent, "times")),
        sent,
    )


def _values(tensor: Tensor, where: str, maximum_rows: int) -> list[Any]:
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or min(shape) < 0 or (len(shape) == 2 and shape[1] != 1):
        raise RequestFault(
            400, f"{where}.shape", "a shape is [n] or [n, 1]", "one tensor a column", received=shape
        )
    if tensor.data is None:
        raise RequestFault(
            400,
            f"{where}.data",
            "tensor data is JSON; binary tensors are not read",
            "send it in `data` (binary_data=False in tritonclient)",
        )
    check_rows(shape[0], maximum_rows)
    values = tensor.data
    if len(shape) == 2 and values and isinstance(values[0], list):
        values = [value for row in values for value in as_list(row, f"{where}.data")]
    if len(values) != shape[0]:
        raise RequestFault(
            400,
            f"{where}.data",
            f"data holds as many values as shape says, {shape[0]}",
            "correct shape or data",
            received=len(values),
        )
    _check_type(tensor.datatype, values, where)
    return values


def _check_type(datatype: str, values: list[Any], where: str) -> None:
    allowed = _ALLOWED.get(datatype)
    if allowed is None:
        raise RequestFault(
            400,
            f"{where}.datatype",
            f"a datatype is one of {', '.join(sorted(_ALLOWED))}",
            "correct it",
            received=datatype,
        )
    if not set(map(type, values)) <= set(allowed):
        row = next(row for row, value in enumerate(values) if type(value) not in allowed)
        raise RequestFault(
            400,
            f"{where}.data[{row}]",
            f"a value of a {datatype} tensor is of that type or null",
            "correct the value or the datatype",
            received=values[row],
        )


def _texts(sent: Inference, name: str) -> list[str] | None:
    try:
        found: list[str] | None = msgspec.convert(sent.parameters.get(name), _TEXTS)
        return found
    except msgspec.ValidationError:
        raise RequestFault(
            400,
            f"parameters.{name}",
            "a list of text, one for each row",
            "correct it or leave it out",
            received=sent.parameters[name],
        ) from None


def check_outputs(sent: Inference, classes: Sequence[Any]) -> None:
    """Raises RequestFault 400 when an output is asked for that there isn't."""
    there = ["label", *(f"probability_{value}" for value in classes)]
    unknown = [wanted.name for wanted in sent.outputs if wanted.name not in there]
    if unknown:
        raise RequestFault(
            400,
            "outputs",
            f"an output is one of {', '.join(there)}",
            "ask for one of them, or leave outputs out",
            received=unknown[0],
        )


def render(answer: Answer, sent: Inference) -> bytes:
    """The answer with the outputs asked for, or all of them."""
    outputs = {"label": _tensor("label", _datatype(answer.classes), answer.labels)}
    for value, column in zip(answer.classes, answer.probabilities.T.tolist(), strict=True):
        name = f"probability_{value}"
        outputs[name] = _tensor(name, "FP64", column)
    parameters: dict[str, Any] = {"ids": answer.ids}
    if answer.ignored:
        parameters["ignored_columns"] = answer.ignored
    body = {
        "model_name": answer.name,
        "model_version": answer.version,
        "parameters": parameters,
        "outputs": [outputs[wanted.name] for wanted in sent.outputs] or list(outputs.values()),
    }
    if sent.id is not None:
        body["id"] = sent.id
    return msgspec.json.encode(body)


def _tensor(name: str, datatype: str, values: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def _datatype(classes: Sequence[Any]) -> str:
    kinds = set(map(type, classes))
    for kind, datatype in ((bool, "BOOL"), (int, "INT64"), (float, "FP64")):
        if kinds == {kind}:
            return datatype
    return "BYTES"


def metadata(slot: Slot) -> dict[str, Any]:
    """The model's inputs and outputs as the protocol describes them."""
    outputs = [{"name": "label", "datatype": _datatype(slot.classes), "shape": [-1]}]
    outputs += [
        {"name": f"probability_{value}", "datatype": "FP64", "shape": [-1]}
        for value in slot.classes
    ]
    return {
        "name": slot.release.name,
        "versions": [slot.release.version],
        "platform": "everfit",
        "inputs": [_described(column) for column in slot.columns],
        "outputs": outputs,
    }


def _described(column: Column) -> dict[str, Any]:
    datatype = "FP64" if column.kind == "number" else "BYTES"
    return {"name": column.name, "datatype": datatype, "shape": [-1]}
