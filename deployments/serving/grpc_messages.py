"""The messages of the Open Inference Protocol over gRPC, from a table of their fields.

The protocol's own definition, with what each field means, is `open_inference_grpc.proto` in
https://github.com/kserve/open-inference-protocol, Copyright 2023 The KServe Authors, Apache-2.0;
names, numbers and types are those of that file. The messages live in a descriptor pool of their
own: a client of the same protocol in the same process has messages with the same names.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

_NAMED = "string name = 1"
_MODEL = f"{_NAMED}; optional string version = 2"
_TENSOR = (
    f"{_NAMED}; string datatype = 2; repeated int64 shape = 3; "
    "map<string, InferParameter> parameters = 4; InferTensorContents contents = 5"
)

# A message within another is written after a dot; fields after `|` are one choice among them.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": f"{_NAMED}; string version = 2; repeated string extensions = 3",
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": (
        f"{_NAMED}; repeated string versions = 2; string platform = 3; "
        "repeated ModelMetadataResponse.TensorMetadata inputs = 4; "
        "repeated ModelMetadataResponse.TensorMetadata outputs = 5; "
        "map<string, string> properties = 6"
    ),
    "ModelMetadataResponse.TensorMetadata": (
        f"{_NAMED}; string datatype = 2; repeated int64 shape = 3"
    ),
    "ModelInferRequest": (
        "string model_name = 1; optional string model_version = 2; string id = 3; "
        "map<string, InferParameter> parameters = 4; "
        "repeated ModelInferRequest.InferInputTensor inputs = 5; "
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6; "
        "repeated bytes raw_input_contents = 7"
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": (
        f"{_NAMED}; map<string, InferParameter> parameters = 2"
    ),
    "ModelInferResponse": (
        "string model_name = 1; string model_version = 2; string id = 3; "
        "map<string, InferParameter> parameters = 4; "
        "repeated ModelInferResponse.InferOutputTensor outputs = 5; "
        "repeated bytes raw_output_contents = 6"
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "InferParameter": (
        "| bool bool_param = 1; | int64 int64_param = 2; | string string_param = 3; "
        "| double double_param = 4; | uint64 uint64_param = 5"
    ),
    "InferTensorContents": (
        "repeated bool bool_contents = 1; repeated int32 int_contents = 2; "
        "repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4; "
        "repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6; "
        "repeated double fp64_contents = 7; repeated bytes bytes_contents = 8"
    ),
}

_FIELD = re.compile(r"(?:(repeated|optional|\|) )?(?:map<string, (\w+)>|([\w.]+)) (\w+) = (\d+)")
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="everfit_open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(_MESSAGES):  # a message comes before those within it
        outer, _, inner = name.rpartition(".")
        made[name] = (
            made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        )
        for line in filter(None, _MESSAGES[name].split("; ")):
            _add(made[name], name, line)
    return file


def _add(message: descriptor_pb2.DescriptorProto, path: str, line: str) -> None:
    found = _FIELD.fullmatch(line)
    assert found, line
    rule, mapped, kind, name, number = found.groups()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if mapped:  # on the wire, a map is a repeated message of key and value
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, f"{path}.{entry.name}", "string key = 1")
        _add(entry, f"{path}.{entry.name}", f"{mapped} value = 2")
        kind, rule = f"{path}.{entry.name}", "repeated"
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    if rule == "repeated":
        field.label = _Field.LABEL_REPEATED
    elif rule == "|":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif rule == "optional":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


NAMES = tuple(_MESSAGES)

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Any:
    """The class of a message, for instance "ModelInferRequest"."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
