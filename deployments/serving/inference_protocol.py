"""The Open Inference Protocol, version 2: requests and answers as JSON, with tensors in the JSON or
as bytes behind it.

https://github.com/kserve/open-inference-protocol. A model's inputs are one tensor a column, of
shape [n] or [n, 1]; a model of numbers alone also takes one tensor of shape [n, d] in the order of
its columns, under any name. null in JSON data is a missing value (an extension: JSON has no NaN).

Outputs are one tensor `label` and one `probability_<class>` for each class; `probabilities`, all of
them as [n, k], comes where it is asked for. Of our own are the request parameters `ids` and
`times`, and the answer's parameter `ids`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deployments.serving import tensors
from deployments.serving.errors import RequestFault
from deployments.serving.limits import as_list, check_rows, decode
from deployments.serving.rows import Column, Rows
from deployments.serving.slots import Answer, Slot

HEADER = "inference-header-content-length"
BINARY = "application/octet-stream"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")

_INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_ALLOWED: dict[str, frozenset[type]] = {
    "BYTES": frozenset((str, type(None))),
    "BOOL": frozenset((bool, type(None))),
    **dict.fromkeys(_INTEGERS, frozenset((int, type(None)))),
    **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), frozenset((float, int, type(None)))),
}


class Tensor(msgspec.Struct):
    """One input: `data` is flat, or nested as `shape` says; or it is bytes behind the JSON, and the
    parameter `binary_data_size` says how many."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """An output that the caller asks for by name; `binary_data` among its parameters."""

    name: str
    parameters: dict[str, Any] = {}


class Inference(msgspec.Struct):
    """The body of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A tensor as most requests have it: flat JSON of numbers, texts and nulls."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float | str | None]


class _Quick(msgspec.Struct, forbid_unknown_fields=True):
    """A request of such tensors; the other fields are those of `Inference`."""

    inputs: list[_Plain]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


_DECODER = msgspec.json.Decoder(Inference)
_QUICK = msgspec.json.Decoder(_Quick)
_FLOATS = frozenset(("FP16", "FP32", "FP64"))
_TEXTS = list[str] | None


def parse(
    body: bytes, maximum_rows: int, header: str | None = None
) -> tuple[Rows, Inference | _Quick]:
    """The rows of a request, and the request for its id and outputs. Raises RequestFault.

    `header` is the value of Inference-Header-Content-Length: how many bytes of the body are JSON.
    """
    if header is None and (found := quickly(body, maximum_rows)) is not None:
        return found
    sent, raw = split(body, header)
    return collect(sent, raw, maximum_rows), sent


def quickly(body: bytes, maximum_rows: int) -> tuple[Rows, _Quick] | None:
    """What most requests are, read in one pass; None for any other, which `collect` judges."""
    try:
        sent = _QUICK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    shape = sent.inputs[0].shape if sent.inputs else []
    if not 1 <= len(shape) <= 2 or not 0 < shape[0] <= maximum_rows:
        return None
    whole = len(sent.inputs) == 1 and len(shape) == 2 and shape[1] > 1
    table = _plain_matrix(sent.inputs[0]) if whole else _plain_columns(sent.inputs)
    if table is None:
        return None
    names = None if whole else [tensor.name for tensor in sent.inputs]
    if names is not None and len(set(names)) != len(names):
        return None
    ids, times = (_texts(sent, "ids"), _texts(sent, "times")) if sent.parameters else (None, None)
    return Rows({}, shape[0], ids=ids, times=times, positional=table, names=names), sent


def _plain_matrix(tensor: _Plain) -> list[list[Any]] | None:
    """The rows of a tensor [n, d] of floats."""
    count, width = tensor.shape
    if tensor.datatype not in _FLOATS or len(tensor.data) != count * width:
        return None
    return [tensor.data[i : i + width] for i in range(0, count * width, width)]


def _plain_columns(inputs: list[_Plain]) -> list[tuple[Any, ...]] | None:
    """The rows of tensors of floats or text, all of one shape [n] or [n, 1]."""
    shape = inputs[0].shape
    if len(shape) == 2 and shape[1] != 1:
        return None
    columns = []
    for tensor in inputs:
        data = tensor.data
        if tensor.shape != shape or len(data) != shape[0]:
            return None
        if tensor.datatype not in _FLOATS and (
            tensor.datatype != "BYTES" or not _ALLOWED["BYTES"].issuperset(map(type, data))
        ):
            return None
        columns.append(data)
    return list(zip(*columns, strict=True))


def split(body: bytes, header: str | None) -> tuple[Inference, list[memoryview | None]]:
    """The JSON of a request, and the bytes of those inputs that have them. Raises RequestFault."""
    if header is None:
        sent = decode(body, _DECODER)
        for place, tensor in enumerate(sent.inputs):
            if "binary_data_size" in tensor.parameters:
                raise RequestFault(
                    400,
                    f"inputs[{place}].parameters.binary_data_size",
                    f"bytes behind the JSON need the header {HEADER}",
                    "set it to the length of the JSON in bytes",
                )
        return sent, [None] * len(sent.inputs)
    # at most nine digits: a longer number is no length of a body that could have come
    length = int(header) if header.isascii() and header.isdigit() and len(header) < 10 else -1
    if not 0 < length <= len(body):
        raise RequestFault(
            400,
            HEADER,
            f"the length of the JSON in bytes, at most the body's {len(body)}",
            "correct the header",
            received=header,
        )
    sent = decode(body[:length], _DECODER)
    rest = memoryview(body)[length:]
    raw: list[memoryview | None] = []
    for place, tensor in enumerate(sent.inputs):
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            raw.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise RequestFault(
                400,
                f"inputs[{place}].parameters.binary_data_size",
                f"a number of bytes that came, here at most {len(rest)}",
                "correct it or the body",
                received=size,
            )
        raw.append(rest[:size])
        rest = rest[size:]
    if len(rest):
        raise RequestFault(
            400,
            "body",
            "as many bytes follow the JSON as the binary_data_size of all inputs say",
            "correct them or the body",
            received=f"{len(rest)} more",
        )
    return sent, raw


def collect(sent: Inference, raw: Sequence[Any], maximum_rows: int) -> Rows:
    """The rows of a request whose inputs have their data in JSON or, where `raw` isn't None, as
    bytes. Raises RequestFault."""
    if not sent.inputs:
        raise RequestFault(
            400, "inputs", "one tensor for each column is required", "send the columns", received=[]
        )
    ids, times = _texts(sent, "ids"), _texts(sent, "times")
    first = sent.inputs[0]
    if len(sent.inputs) == 1 and len(first.shape) == 2 and first.shape[1] > 1:
        return _matrix(first, raw[0], maximum_rows, ids, times)
    columns: dict[str, Any] = {}
    for place, (tensor, data) in enumerate(zip(sent.inputs, raw, strict=True)):
        where = f"inputs[{place}]"
        if tensor.name in columns:
            raise RequestFault(
                400,
                f"{where}.name",
                "tensor names are unique",
                "remove the repeated one",
                received=tensor.name,
            )
        shape = tensor.shape
        if not 1 <= len(shape) <= 2 or min(shape) < 0 or (len(shape) == 2 and shape[1] != 1):
            raise RequestFault(
                400,
                f"{where}.shape",
                "a shape is [n] or [n, 1], one tensor a column; one of [n, d] stands alone",
                "correct it",
                received=shape,
            )
        check_rows(shape[0], maximum_rows)
        columns[tensor.name] = _values(tensor, data, shape[0], where)
    return Rows(columns, len(columns[first.name]), ids=ids, times=times)


def _matrix(tensor: Tensor, raw: Any, maximum_rows: int, ids: Any, times: Any) -> Rows:
    """The only tensor of a request, of shape [n, d]: every column at once."""
    count, width = tensor.shape
    check_rows(max(count, 0), maximum_rows)
    values = _values(tensor, raw, count * width, "inputs[0]")
    if isinstance(values, np.ndarray):
        return Rows({}, count, ids=ids, times=times, matrix=values.reshape(count, width))
    rows = [values[i : i + width] for i in range(0, len(values), width)]
    return Rows({}, count, ids=ids, times=times, positional=rows)


def _values(tensor: Tensor, raw: Any, count: int, where: str) -> Any:
    """`count` values of one tensor, as a list, or as an array where they came as bytes."""
    tensors.check_datatype(tensor.datatype, where)
    if "shared_memory_region" in tensor.parameters:
        raise RequestFault(
            400,
            f"{where}.parameters.shared_memory_region",
            "tensors are sent, not shared",
            "send the data in JSON or as bytes",
        )
    if raw is not None:
        if tensor.data is not None:
            raise RequestFault(
                400, f"{where}.data", "data comes once: in JSON or as bytes", "leave one out"
            )
        return tensors.read(tensor.datatype, raw, count, where)
    if tensor.data is None:
        raise RequestFault(
            400,
            f"{where}.data",
            "a tensor has its data in JSON, or binary_data_size and bytes behind the JSON",
            "send the data",
        )
    values = tensor.data
    if len(tensor.shape) == 2 and values and isinstance(values[0], list):
        lists = [as_list(row, f"{where}.data[{i}]") for i, row in enumerate(values)]
        if any(len(row) != tensor.shape[1] for row in lists):
            raise _wrong_number(where, tensor.shape, [len(row) for row in lists])
        values = list(itertools.chain.from_iterable(lists))
    if len(values) != count:
        raise _wrong_number(where, tensor.shape, len(values))
    allowed = _ALLOWED[tensor.datatype]
    if not allowed.issuperset(map(type, values)):
        row = next(row for row, value in enumerate(values) if type(value) not in allowed)
        raise RequestFault(
            400,
            f"{where}.data[{row}]",
            f"a value of a {tensor.datatype} tensor is of that type or null",
            "correct the value or the datatype",
            received=values[row],
        )
    return values


def _wrong_number(where: str, shape: list[int], received: Any) -> RequestFault:
    return RequestFault(
        400,
        f"{where}.data",
        f"data holds as many values as shape says, {shape}",
        "correct shape or data",
        received=received,
    )


def _texts(sent: Inference | _Quick, name: str) -> list[str] | None:
    """A parameter that is a list of text; as JSON in one text where parameters are scalars."""
    given = sent.parameters.get(name)
    try:
        if isinstance(given, str):
            given = msgspec.json.decode(given)
        found: list[str] | None = msgspec.convert(given, _TEXTS)
        return found
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestFault(
            400,
            f"parameters.{name}",
            "a list of text, one for each row",
            "correct it or leave it out",
            received=given,
        ) from None


def check_outputs(sent: Inference | _Quick, classes: Sequence[Any]) -> None:
    """Raises RequestFault 400 when an output is asked for that there isn't, or as what it isn't."""
    if not sent.outputs and not sent.parameters:
        return
    there = ["label", *(f"probability_{value}" for value in classes), "probabilities"]
    for place, wanted in enumerate(sent.outputs):
        if wanted.name not in there:
            raise RequestFault(
                400,
                "outputs",
                f"an output is one of {', '.join(there)}",
                "ask for one of them, or leave outputs out",
                received=wanted.name,
            )
        for name in ("classification", "shared_memory_region"):
            if name in wanted.parameters:
                raise RequestFault(
                    400,
                    f"outputs[{place}].parameters.{name}",
                    "outputs are the tensors themselves",
                    "leave it out",
                )
        _flag(wanted.parameters, "binary_data", f"outputs[{place}].parameters", False)
    _flag(sent.parameters, "binary_data_output", "parameters", False)


def _flag(parameters: dict[str, Any], name: str, where: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestFault(400, f"{where}.{name}", "true or false", "correct it", received=value)
    return value


class _Output(msgspec.Struct, omit_defaults=True, gc=False):
    """One tensor of an answer, with its data or the number of bytes that follow."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class _Answered(msgspec.Struct, omit_defaults=True):
    """The body of an answer."""

    model_name: str
    model_version: str
    parameters: dict[str, list[str]]
    outputs: list[_Output]
    id: str | None = None


def render(answer: Answer, sent: Inference | _Quick) -> tuple[bytes, int | None]:
    """The answer with the outputs asked for, or all of them; and the length of its JSON when bytes
    follow it (the answer's own Inference-Header-Content-Length)."""
    outputs: list[_Output] = []
    blobs: list[bytes] = []
    if sent.outputs or sent.parameters:
        binary = _flag(sent.parameters, "binary_data_output", "parameters", False)
        for name, parameters in [(w.name, w.parameters) for w in sent.outputs] or [
            (name, {}) for name in output_names(answer)
        ]:
            datatype, shape, values = output(answer, name)
            if _flag(parameters, "binary_data", "outputs", binary):
                blobs.append(tensors.write(datatype, values))
                size = {"binary_data_size": len(blobs[-1])}
                outputs.append(_Output(name, shape, datatype, size))
            else:
                flat = values.ravel().tolist() if isinstance(values, np.ndarray) else values
                outputs.append(_Output(name, shape, datatype, None, flat))
    else:
        shape = [len(answer.ids)]
        names = output_names(answer)
        outputs.append(_Output("label", shape, class_datatype(answer.classes), None, answer.labels))
        shares = answer.probabilities.T.tolist()
        outputs += [
            _Output(name, shape, "FP64", None, values)
            for name, values in zip(names[1:], shares, strict=True)
        ]
    parameters = {"ids": answer.ids}
    if answer.ignored:
        parameters["ignored_columns"] = answer.ignored
    content = msgspec.json.encode(
        _Answered(answer.name, answer.version, parameters, outputs, sent.id)
    )
    if not blobs:
        return content, None
    return b"".join([content, *blobs]), len(content)


def output_names(answer: Answer) -> list[str]:
    """The outputs of an answer when none is asked for by name."""
    return ["label", *(f"probability_{value}" for value in answer.classes)]


def output(answer: Answer, name: str) -> tuple[str, list[int], list[Any] | np.ndarray]:
    """(datatype, shape, values) of an output that `check_outputs` has let through."""
    count = len(answer.ids)
    if name == "label":
        return class_datatype(answer.classes), [count], answer.labels
    if name == "probabilities":
        return "FP64", [count, len(answer.classes)], answer.probabilities
    place = output_names(answer).index(name) - 1
    return "FP64", [count], answer.probabilities[:, place]


def class_datatype(classes: Sequence[Any]) -> str:
    """The datatype of a model's labels."""
    kinds = set(map(type, classes))
    for kind, datatype in ((bool, "BOOL"), (int, "INT64"), (float, "FP64")):
        if kinds == {kind}:
            return datatype
    return "BYTES"


def metadata(slot: Slot) -> dict[str, Any]:
    """The model's inputs and outputs as the protocol describes them."""
    outputs = [{"name": "label", "datatype": class_datatype(slot.classes), "shape": [-1]}]
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


def configuration(slot: Slot) -> dict[str, Any]:
    """The model's configuration in the form that Triton's clients ask for; rows are the first
    dimension of every tensor, so there is no batch dimension beside them."""

    def tensor(described: dict[str, Any]) -> dict[str, Any]:
        kind = described["datatype"].replace("BYTES", "STRING")
        return {"name": described["name"], "data_type": f"TYPE_{kind}", "dims": [-1]}

    about = metadata(slot)
    return {
        "name": about["name"],
        "platform": about["platform"],
        "backend": "everfit",
        "max_batch_size": 0,
        "input": [tensor(described) for described in about["inputs"]],
        "output": [tensor(described) for described in about["outputs"]],
    }


def index(slot: Slot | None, name: str) -> list[dict[str, str]]:
    """The repository's index: the one model, and whether it is loaded."""
    if slot is None:
        return [{"name": name, "state": "UNAVAILABLE", "reason": "no champion is loaded yet"}]
    return [{"name": name, "version": slot.release.version, "state": "READY", "reason": ""}]
