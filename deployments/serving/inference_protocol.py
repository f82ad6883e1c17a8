"""The Open Inference Protocol, version 2: requests as JSON, with tensors in the JSON or as bytes
behind it. Answers are in `inference_outputs`, what is said of the model in `inference_about`.

https://github.com/kserve/open-inference-protocol. A model's inputs are one tensor a column, of
shape [n] or [n, 1]; a model of numbers alone also takes one tensor of shape [n, d] in the order of
its columns, under any name. null in JSON data is a missing value (an extension: JSON has no NaN).

Of our own are the request parameters `ids` and `times`, and the answer's parameter `ids`.
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
from deployments.serving.rows import Rows

HEADER = "inference-header-content-length"
BINARY = "application/octet-stream"

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


class Quick(msgspec.Struct, forbid_unknown_fields=True):
    """A request of such tensors; the other fields are those of `Inference`."""

    inputs: list[_Plain]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


_DECODER = msgspec.json.Decoder(Inference)
_QUICK = msgspec.json.Decoder(Quick)
_FLOATS = frozenset(("FP16", "FP32", "FP64"))
_TEXTS = list[str] | None


def parse(
    body: bytes, maximum_rows: int, header: str | None = None
) -> tuple[Rows, Inference | Quick]:
    """The rows of a request, and the request for its id and outputs. Raises RequestFault.

    `header` is the value of Inference-Header-Content-Length: how many bytes of the body are JSON.
    """
    if header is None and (found := quickly(body, maximum_rows)) is not None:
        return found
    sent, raw = split(body, header)
    return collect(sent, raw, maximum_rows), sent


def quickly(body: bytes, maximum_rows: int) -> tuple[Rows, Quick] | None:
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


def _texts(sent: Inference | Quick, name: str) -> list[str] | None:
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
