"""The OpenAPI 3.1 description of a server, made from the model's schema and the types it decodes.

What JSON Schema cannot say (as many ids as rows, as many values as a shape says) is described for
requests of one row, and in words; so a request that fits the description is answered, and one that
breaks it is refused. Limits that the config sets are said in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deployments.serving import inference_protocol, labels
from deployments.serving.rows import ID_LENGTH, ID_PATTERN
from deployments.serving.slots import Slot
from monitoring.records import LabelResult
from tasks.config import Config

_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = {"type": ["number", "boolean", "null"], "minimum": -_LARGEST, "maximum": _LARGEST}
_CATEGORY = {"type": ["string", "number", "boolean", "null"]}
_TEXT = {"type": ["string", "null"]}
_SOME_TEXT = "a few words"  # as an example: what the model has learnt from is nobody's to read
_ID = {"type": "string", "minLength": 1, "maxLength": ID_LENGTH, "pattern": ID_PATTERN}
_TIME = {
    "type": "string",
    "description": "ISO 8601; UTC where no zone is given.",
    "pattern": (
        r"^(1[7-9]|2[01])[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-2]):[0-5][0-9])$"
    ),
    "examples": ["2013-01-01T05:00:00Z"],
}
_REF = "#/components/schemas/{name}"

Json = dict[str, Any]


def describe(config: Config, slot: Slot | None, version: str) -> Json:
    """The description; before a model is loaded, without what depends on it."""
    answers = [Fault, ProtocolFault, Labelled, LabelledBatch]
    _, components = msgspec.json.schema_components(answers, ref_template=_REF)
    paths: Json = {
        "/ping": {"get": _get("Ready to answer, as MLflow asks", _json_of("Ready"), 503)},
        "/version": {"get": _get("The server's version", {"text/plain": {"schema": _STRING}})},
        "/metrics": {
            "get": _get("Figures for Prometheus", {"text/plain": {"schema": _STRING}}),
        },
        "/v2": {"get": _get("The server", _json_of("Server"), protocol=True)},
        "/v2/health/live": {"get": _get("Alive", _json_of("Live"), protocol=True)},
        "/v2/health/ready": {"get": _get("Ready", _json_of("Ready"), 503, protocol=True)},
    }
    components |= _SERVER
    if slot is not None:
        model = f"/v2/models/{config.name}"
        rows = config.serving.maximum_rows
        values = _values(slot, config.serving.maximum_text)
        components |= _model_schemas(slot, rows, values)
        labelled = _labels(config, rows)
        about = _get("The model's tensors", _json_of("ModelMetadata"), 404, 503, protocol=True)
        ready = _get("The model is ready", _json_of("Ready"), 404, 503, protocol=True)
        infer = _infer(slot, values)
        of_version = {"parameters": [_version(slot)]}
        paths |= {
            "/invocations": {"post": _invocations(slot, rows, values)},
            "/labels": {"post": labelled},
            model: {"get": about},
            f"{model}/ready": {"get": ready},
            f"{model}/infer": {"post": infer},
            model + "/versions/{version}": of_version | {"get": about},
            model + "/versions/{version}/ready": of_version | {"get": ready},
            model + "/versions/{version}/infer": of_version | {"post": infer},
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"everfit: {config.name}",
            "version": slot.release.version if slot else "none",
            "summary": f"Predictions of the model {config.name}, served by everfit {version}",
            "description": _ABOUT,
        },
        "paths": paths,
        "components": {"schemas": components},
    }


_ABOUT = """\
Every prediction has an id and names the model version that made it; send the truth about it to \
`/labels` with that id. The same model answers in MLflow's format at `/invocations` and in the \
Open Inference Protocol's under `/v2`. A `traceparent` header is passed on; while a new version \
is tried on a share of the callers, `x-request-key` names the caller. An error names the \
field at fault, the rule, and the remedy; a 503 says in `Retry-After` when to try again."""

_STRING = {"type": "string"}


class _Parts(msgspec.Struct):
    """What is wrong with a request."""

    field: str
    rule: str
    remedy: str
    received: Any = None
    incident: str | msgspec.UnsetType = msgspec.UNSET


class Fault(msgspec.Struct):
    """An error."""

    error: _Parts


class ProtocolFault(msgspec.Struct):
    """An error in the Open Inference Protocol: a text, and its parts."""

    error: str
    fault: _Parts


class Labelled(msgspec.Struct):
    """What became of a label."""

    id: str
    result: LabelResult


class LabelledBatch(msgspec.Struct):
    """What became of each label, in their order."""

    results: list[Labelled]
    counts: dict[str, int]


_SERVER = {
    "Ready": {
        "type": "object",
        "properties": {"ready": {"const": True}, "model_version": _STRING},
        "required": ["ready"],
    },
    "Live": {"type": "object", "properties": {"live": {"const": True}}, "required": ["live"]},
    "Server": {
        "type": "object",
        "properties": {
            "name": _STRING,
            "version": _STRING,
            "extensions": {"type": "array", "items": _STRING},
        },
        "required": ["name", "version", "extensions"],
    },
}

_MEANINGS = {
    400: "The request is at fault",
    404: "There is no such model or version",
    408: "The body did not come in time",
    409: "Another label is stored, and stays",
    413: "Too many rows or bytes",
    415: "Another content type is needed",
    422: "The label is none of the model's classes",
    503: "Not now; see Retry-After",
}


def _ref(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def _json_of(name: str) -> Json:
    return {"application/json": {"schema": _ref(name)}}


def _faults(*statuses: int, protocol: bool) -> Json:
    content = _json_of("ProtocolFault" if protocol else "Fault")
    return {str(s): {"description": _MEANINGS[s], "content": content} for s in statuses}


def _get(summary: str, content: Json, *faults: int, protocol: bool = False) -> Json:
    answers = {"200": {"description": summary, "content": content}}
    return {"summary": summary, "responses": answers | _faults(*faults, protocol=protocol)}


def _post(
    summary: str, description: str, content: Json, answers: Json, *faults: int, protocol: bool
) -> Json:
    return {
        "summary": summary,
        "description": description,
        "requestBody": {"required": True, "content": content},
        "responses": answers | _faults(*faults, protocol=protocol),
    }


def _version(slot: Slot) -> Json:
    return {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": _STRING,
        "description": "The version that is served, or 404.",
        "example": slot.release.version,
    }


def _answer_headers() -> Json:
    return {
        "x-model-version": {"schema": _STRING, "description": "The version that answered."},
        "x-prediction-ids": {
            "schema": _STRING,
            "description": "Prediction ids, percent-encoded, of up to 16 rows.",
        },
    }


def _values(slot: Slot, longest: int) -> dict[str, Json]:
    """The schema of a value of each column, with examples of what may be stored."""
    categories = slot.model.encoder.categories
    hidden = getattr(slot.model, "info", {}).get("unstored", ())
    found: dict[str, Json] = {}
    for column in slot.columns:
        found[column.name] = dict(_NUMBER)
        if column.kind == "category" and column.name in hidden:
            found[column.name] = dict(_CATEGORY)
        elif column.kind == "category":
            found[column.name] = _CATEGORY | {"examples": list(categories[column.name][:5])}
        elif column.kind == "text":
            found[column.name] = _TEXT | {"maxLength": longest, "examples": [_SOME_TEXT]}
    return found


def _row(values: Json) -> Json:
    return {"type": "object", "properties": values, "required": list(values)}


def _model_schemas(slot: Slot, rows: int, values: Json) -> Json:
    names = [f"probability_{value}" for value in slot.classes]
    share = {"type": "number", "minimum": 0, "maximum": 1}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": ["label", *names, "probabilities"]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": _STRING,
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        "required": ["name", "shape", "datatype"],
    }
    return {
        "Row": _row(values),
        "Prediction": {
            "type": "object",
            "properties": {"label": {"enum": list(slot.classes)}} | dict.fromkeys(names, share),
            "required": ["label", *names],
        },
        "Predictions": {
            "type": "object",
            "properties": {
                "predictions": {"type": "array", "items": _ref("Prediction"), "maxItems": rows},
                "model_version": _STRING,
                "ids": {"type": "array", "items": _STRING},
                "ignored_columns": {"type": "array", "items": _STRING},
            },
            "required": ["predictions", "model_version", "ids"],
        },
        "Inferred": {
            "type": "object",
            "properties": {
                "model_name": _STRING,
                "model_version": _STRING,
                "id": _STRING,
                "parameters": {"type": "object"},
                "outputs": {"type": "array", "items": tensor},
            },
            "required": ["model_name", "model_version", "parameters", "outputs"],
        },
        "ModelMetadata": {
            "type": "object",
            "properties": {
                "name": _STRING,
                "versions": {"type": "array", "items": _STRING},
                "platform": _STRING,
                "inputs": {"type": "array", "items": {"type": "object"}},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["name", "versions", "platform", "inputs", "outputs"],
        },
    }


def _invocations(slot: Slot, many: int, values: Json) -> Json:
    rows = _ref("Row")
    of_split = {
        "type": "object",
        "properties": {
            "columns": {"const": list(values)},
            "data": {"type": "array", "items": _fixed(values), "minItems": 1},
        },
        "required": ["columns", "data"],
    }
    records = {"type": "array", "items": rows, "minItems": 1}
    listed = records
    if [column.kind for column in slot.columns] == ["text"]:  # a row may be its text alone
        (text,) = values.values()
        listed = {"type": "array", "items": {"anyOf": [rows, text]}, "minItems": 1}
    one = {"type": "array", "minItems": 1, "maxItems": 1}
    by_column = {
        "type": "object",
        "properties": {
            name: {"anyOf": [value, one | {"items": value}]} for name, value in values.items()
        },
        "required": list(values),
        # what the model doesn't know is ignored, but it is as long as the other columns
        "additionalProperties": {
            "anyOf": [one, {"type": ["string", "number", "boolean", "object", "null"]}]
        },
    }
    with_id = {
        "type": "object",
        "description": "Ids and event times of the caller's own, one for each row.",
        "properties": {
            "dataframe_records": one | {"items": rows},
            "ids": _or_null(one | {"items": _ID}),
            "times": _or_null(one | {"items": _TIME}),
        },
        "required": ["dataframe_records"],
        "additionalProperties": False,
    }
    schema = {
        "anyOf": [
            with_id,
            *(
                {
                    "type": "object",
                    "properties": {layout: part},
                    "required": [layout],
                    "additionalProperties": False,
                }
                for layout, part in (
                    ("dataframe_records", records),
                    ("dataframe_split", of_split),
                    ("instances", listed),
                    ("inputs", by_column),
                )
            ),
        ]
    }
    content = {"application/json": {"schema": schema}}
    if example := _example(slot):
        content["application/json"]["example"] = {"dataframe_records": example}
    return _post(
        "Predict, in MLflow's format",
        f"At most {many} rows. Also reads `text/csv` in UTF-8 with a header line. `ids` and "
        "`times` have as many values as there are rows; without them, ids are made and the time is "
        "now. A column that only some rows have is missing in the others; columns that the model "
        "doesn't know are ignored and named in the answer. Where the model reads one column of "
        "texts, `instances` and `inputs` may be a list of texts.",
        content,
        {
            "200": {
                "description": "A prediction for each row, in their order",
                "headers": _answer_headers(),
                "content": _json_of("Predictions"),
            }
        },
        *(400, 408, 413, 415, 503),
        protocol=False,
    )


def _fixed(values: dict[str, Json]) -> Json:
    """A list with one value for each column."""
    width = {"type": "array", "minItems": len(values), "maxItems": len(values)}
    if all(value == _NUMBER for value in values.values()):
        return width | {"items": _NUMBER}
    return width | {"prefixItems": list(values.values())}


def _example(slot: Slot) -> list[Json]:
    """The first row of the model's own example, where it has one."""
    example: dict[str, list[Any]] = getattr(slot.model, "example", {})
    if not example:
        return []
    texts = {column.name: _SOME_TEXT for column in slot.columns if column.kind == "text"}
    return [{name: values[0] for name, values in example.items()} | texts]


def _infer(slot: Slot, values: Json) -> Json:
    tensors = []
    for column in slot.columns:
        number = column.kind == "number"
        value = {k: v for k, v in _NUMBER.items() if k != "type"} | {"type": ["number", "null"]}
        if not number:
            value = values[column.name] if column.kind == "text" else dict(_TEXT)
        tensors.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": column.name},
                    "shape": {"enum": [[1], [1, 1]]},
                    "datatype": {"const": "FP64" if number else "BYTES"},
                    "data": {
                        "type": "array",
                        "items": value,
                        "minItems": 1,
                        "maxItems": 1,
                    },
                },
                "required": ["name", "shape", "datatype", "data"],
            }
        )
    names = ["label", *(f"probability_{value}" for value in slot.classes), "probabilities"]
    wanted = {
        "type": "object",
        "properties": {"name": {"enum": names}},
        "required": ["name"],
    }
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {
                "type": "array",
                "prefixItems": tensors,
                "minItems": len(tensors),
                "maxItems": len(tensors),
            },
            "outputs": {"type": "array", "items": wanted},
        },
        "required": ["inputs"],
    }
    return _post(
        "Predict, in the Open Inference Protocol",
        "One tensor a column, described here for one row; of n rows the shape is [n] or [n, 1]. A "
        "model of numbers alone also takes one tensor [n, d]. Every datatype that can hold the "
        f"column's values is read. Tensors as bytes: set `{inference_protocol.HEADER}`, as the "
        "binary tensor data extension says. Parameters `ids` and `times`: one for each row.",
        {"application/json": {"schema": schema}},
        {
            "200": {
                "description": "The outputs asked for, or all",
                "headers": _answer_headers(),
                "content": _json_of("Inferred"),
            }
        },
        *(400, 404, 408, 413, 415, 503),
        protocol=True,
    )


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _label(classes: Sequence[Any]) -> Json:
    """A class as JSON and CSV write it: 1 is also '1', and true where it is one of two."""
    written: list[Any] = []
    for value in classes:
        written.append(value)
        if not isinstance(value, str):
            written += [str(value), str(value).lower()]
            if value in (0, 1):
                written += [int(value), bool(value), str(int(value)), str(bool(value)).lower()]
    seen: dict[tuple[type, Any], Any] = {(type(value), value): value for value in written}
    return {"enum": list(seen.values())}


def _labels(config: Config, rows: int) -> Json:
    truth = {
        "type": "object",
        "properties": {"id": _ID, "label": _label(config.data.classes), "time": _or_null(_TIME)},
        "required": ["id", "label"],
        "additionalProperties": False,
        "description": labels.Truth.__doc__,
    }
    batch = {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": truth, "minItems": 1}},
        "required": ["labels"],
        "additionalProperties": False,
        "description": labels.Batch.__doc__,
    }
    stored = {"anyOf": [_ref("Labelled"), _ref("LabelledBatch")]}
    return _post(
        "Tell the truth about predictions",
        f"Acknowledged means stored. At most {rows} labels in a request. The same label again "
        "changes nothing; another value for a labelled prediction is kept aside, and the first one "
        "stays.",
        {"application/json": {"schema": {"anyOf": [truth, batch]}}},
        {
            "200": {
                "description": "Stored, or there already",
                "content": {"application/json": {"schema": stored}},
            },
            "202": {
                "description": "Kept until the prediction with this id comes",
                "content": _json_of("Labelled"),
            },
        },
        *(400, 408, 409, 413, 415, 422, 503),
        protocol=False,
    )
