"""The outputs of the Open Inference Protocol: which are asked for, and the answer that holds them.

One tensor `label` and one `probability_<class>` for each class; `probabilities`, all of them as
[n, k], comes where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deployments.serving import tensors
from deployments.serving.errors import RequestFault
from deployments.serving.inference_protocol import Inference, Quick
from deployments.serving.slots import Answer


def check_outputs(sent: Inference | Quick, classes: Sequence[Any]) -> None:
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


def render(answer: Answer, sent: Inference | Quick) -> tuple[bytes, int | None]:
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
