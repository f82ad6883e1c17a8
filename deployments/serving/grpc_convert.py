"""Inference requests and answers between gRPC's messages and the types that HTTP uses."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from deployments.serving import inference_outputs, inference_protocol, tensors
from deployments.serving.errors import RequestFault
from deployments.serving.grpc_messages import message
from deployments.serving.inference_protocol import Inference, Tensor, Wanted
from deployments.serving.rows import Rows
from deployments.serving.slots import Answer

Request = message("ModelInferRequest")
Response = message("ModelInferResponse")

# Where a tensor's values lie when they aren't raw; the 16-bit floats have no such place.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(sent: Any, maximum_rows: int) -> tuple[Rows, Inference]:
    """The rows of a ModelInferRequest, and the request as HTTP would have sent it.

    Raises RequestFault, as for the same request over HTTP.
    """
    raw: list[Any] = list(sent.raw_input_contents)
    if raw and len(raw) != len(sent.inputs):
        raise RequestFault(
            400,
            "raw_input_contents",
            f"one for each of the {len(sent.inputs)} inputs, or none",
            "send all tensors raw, or all with contents",
            received=len(raw),
        )
    request = Inference(
        inputs=[_tensor(t, f"inputs[{i}]", bool(raw)) for i, t in enumerate(sent.inputs)],
        id=sent.id or None,
        parameters=_parameters(sent.parameters),
        outputs=[Wanted(o.name, _parameters(o.parameters)) for o in sent.outputs],
    )
    rows = inference_protocol.collect(request, raw or [None] * len(sent.inputs), maximum_rows)
    return rows, request


def _tensor(sent: Any, where: str, raw: bool) -> Tensor:
    tensors.check_datatype(sent.datatype, where)
    data: list[Any] | None = None
    if sent.HasField("contents"):
        if raw:
            raise RequestFault(
                400, f"{where}.contents", "raw_input_contents stand alone", "leave contents out"
            )
        name = _CONTENTS.get(sent.datatype)
        others = [field.name for field, _ in sent.contents.ListFields() if field.name != name]
        if others:
            raise RequestFault(
                400,
                f"{where}.contents",
                f"{sent.datatype} values are sent as {name or 'raw_input_contents'}",
                "move them there, or correct the datatype",
                received=others[0],
            )
        data = list(getattr(sent.contents, name)) if name else []
        if sent.datatype == "BYTES":
            data = [_text(value, f"{where}.contents[{i}]") for i, value in enumerate(data)]
    elif not raw:
        raise RequestFault(
            400, f"{where}.contents", "a tensor has contents or raw_input_contents", "send them"
        )
    return Tensor(sent.name, list(sent.shape), sent.datatype, data, _parameters(sent.parameters))


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RequestFault(
            400,
            where,
            "BYTES elements are text in UTF-8",
            "encode it as UTF-8",
            received=value[:20].hex(),
        ) from None


def _parameters(sent: Any) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in sent.items()
    }


def render(answer: Answer, request: Inference, *, raw: bool) -> Any:
    """The ModelInferResponse, its tensors raw or with contents as those of the request were.

    Lists are no parameters in gRPC: `ids` and `ignored_columns` are JSON in a text.
    """
    response = Response(model_name=answer.name, model_version=answer.version, id=request.id or "")
    response.parameters["ids"].string_param = msgspec.json.encode(answer.ids).decode()
    if answer.ignored:
        ignored = msgspec.json.encode(answer.ignored).decode()
        response.parameters["ignored_columns"].string_param = ignored
    names = [wanted.name for wanted in request.outputs] or inference_outputs.output_names(answer)
    for name in names:
        datatype, shape, values = inference_outputs.output(answer, name)
        tensor = response.outputs.add(name=name, datatype=datatype, shape=shape)
        if raw:
            response.raw_output_contents.append(tensors.write(datatype, values))
            continue
        flat = np.ravel(values).tolist() if isinstance(values, np.ndarray) else values
        if datatype == "BYTES":
            flat = [str(value).encode() for value in flat]
        getattr(tensor.contents, _CONTENTS[datatype]).extend(flat)
    return response
