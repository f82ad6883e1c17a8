"""MLflow's scoring format: `POST /invocations` in JSON and CSV.

The four JSON layouts are MLflow's (https://mlflow.org/docs/latest/ml/deployment): exactly one of
`dataframe_split`, `dataframe_records`, `instances` and `inputs`. Two keys of our own may stand
beside them, `ids` and `times`, and the answer carries `model_version` and `ids` beside MLflow's
`predictions`.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from deployments.serving.errors import RequestFault
from deployments.serving.limits import as_list, check_rows, decode
from deployments.serving.rows import Rows
from deployments.serving.slots import Answer
from deployments.serving.structs import struct

JSON = "application/json"
CSV = "text/csv"
_LAYOUTS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Split(msgspec.Struct):
    """pandas' `split` orientation; its `index` is read and not used, as by MLflow."""

    columns: list[str]
    data: list[list[Any]]
    index: Any = None


class Invocation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request; exactly one of the first four is given."""

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: Any = None
    params: Any = None  # MLflow's; our models take none
    ids: list[str] | None = None
    times: list[str] | None = None


_DECODER = msgspec.json.Decoder(Invocation)


def parse(body: bytes, kind: str, maximum_rows: int) -> Rows:
    """The rows of a request of content type `kind` (JSON or CSV). Raises RequestFault."""
    return _parse_csv(body, maximum_rows) if kind == CSV else _parse_json(body, maximum_rows)


def _parse_json(body: bytes, maximum_rows: int) -> Rows:
    sent = decode(body, _DECODER)
    given = [name for name in _LAYOUTS if getattr(sent, name) is not None]
    if len(given) != 1:
        raise RequestFault(
            400,
            "body",
            f"exactly one of {', '.join(_LAYOUTS)} is required",
            "send the rows in one of them",
            received=given,
        )
    if sent.params:
        raise RequestFault(
            400, "params", "the model takes no params", "leave it out", received=sent.params
        )
    if sent.dataframe_split is not None:
        rows = _split(sent.dataframe_split, maximum_rows)
    elif sent.dataframe_records is not None:
        rows = _records(sent.dataframe_records, "dataframe_records", maximum_rows)
    elif sent.instances is not None:
        rows = _listed(sent.instances, "instances", maximum_rows)
    elif isinstance(sent.inputs, dict):
        rows = _by_column(sent.inputs, maximum_rows)
    else:
        rows = _listed(as_list(sent.inputs, "inputs"), "inputs", maximum_rows)
    rows.ids, rows.times = sent.ids, sent.times
    return rows


def _split(split: Split, maximum_rows: int) -> Rows:
    check_rows(len(split.data), maximum_rows)
    width = len(split.columns)
    if len(set(split.columns)) != width:
        raise _repeated("dataframe_split.columns", split.columns)
    if set(map(len, split.data)) != {width}:
        number = next(i for i, row in enumerate(split.data) if len(row) != width)
        raise RequestFault(
            400,
            f"dataframe_split.data[{number}]",
            f"a row has as many values as there are columns, {width}",
            "make it as long as columns",
            received=len(split.data[number]),
        )
    return Rows({}, len(split.data), positional=split.data, names=split.columns)


def _records(records: list[dict[str, Any]], field: str, maximum_rows: int) -> Rows:
    """A name that only some rows have is a missing value in the others, as in MLflow's reading."""
    check_rows(len(records), maximum_rows)
    names = list(records[0])
    if len(names) > 1 and set(map(len, records)) == {len(names)}:
        try:  # in most requests every row has the same names
            table = list(map(itemgetter(*names), records))
            return Rows({}, len(records), positional=table, names=names)
        except KeyError:
            pass
    names = list(dict.fromkeys(name for record in records for name in record))
    if not names:
        raise RequestFault(400, field, "a row has columns", "send name: value", received={})
    return Rows({name: [r.get(name) for r in records] for name in names}, len(records))


def _listed(rows: list[Any], field: str, maximum_rows: int) -> Rows:
    """Rows as objects, or as lists in the order of the model's columns; texts alone, too, where
    the model has one column."""
    check_rows(len(rows), maximum_rows)
    kinds = set(map(type, rows))
    if kinds == {dict}:
        return _records(rows, field, maximum_rows)
    if kinds == {list}:
        return Rows({}, len(rows), positional=rows)
    if kinds <= {str, type(None)}:
        return Rows({}, len(rows), positional=[[value] for value in rows])
    raise RequestFault(
        400,
        field,
        "each row is an object, or each row is a list in the order of the model's columns",
        "send rows of one kind",
        received=rows,
    )


def _by_column(columns: dict[str, Any], maximum_rows: int) -> Rows:
    """One list for each column; scalars stand for one row."""
    lists = {name: v if isinstance(v, list) else [v] for name, v in columns.items()}
    count = max((len(values) for values in lists.values()), default=0)
    check_rows(count, maximum_rows)
    return Rows(lists, count)


def _parse_csv(body: bytes, maximum_rows: int) -> Rows:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next(lines, [])
        data: list[list[str]] = []
        for line in lines:
            if not line:  # pandas skips blank lines
                continue
            if len(line) != len(header):
                raise RequestFault(
                    400,
                    f"line {lines.line_num}",
                    f"a line has as many fields as the header, {len(header)}",
                    "quote commas, or add the missing fields",
                    received=len(line),
                )
            data.append(line)
            if len(data) > maximum_rows:
                check_rows(len(data), maximum_rows)
    except (UnicodeDecodeError, csv.Error):
        raise RequestFault(
            400,
            "body",
            "the body is CSV in UTF-8 with a header line",
            "write it as DataFrame.to_csv(index=False) does",
        ) from None
    if len(set(header)) != len(header):
        raise _repeated("header", header)
    check_rows(len(data), maximum_rows)
    columns = dict(zip(header, map(list, zip(*data, strict=True)), strict=True))
    return Rows(columns, len(data), text=True)


def _repeated(field: str, names: list[str]) -> RequestFault:
    twice = next(name for name in names if names.count(name) > 1)
    return RequestFault(
        400, field, "column names are unique", "remove the repeated one", received=twice
    )


def render(answer: Answer) -> bytes:
    """MLflow's `predictions` as records, with the version and the ids beside them."""
    record = prediction(tuple(map(str, answer.classes)))
    columns = np.asarray(answer.probabilities).T.tolist()
    body: dict[str, Any] = {
        "predictions": list(map(record, answer.labels, *columns)),
        "model_version": answer.version,
        "ids": answer.ids,
    }
    if answer.ignored:
        body["ignored_columns"] = answer.ignored
    return msgspec.json.encode(body)


@functools.lru_cache(maxsize=8)
def prediction(classes: tuple[str, ...]) -> Callable[..., Any]:
    """What makes a record of `label` and one `probability_<class>` for each class."""
    names = ["label", *(f"probability_{value}" for value in classes)]
    return struct("Prediction", dict.fromkeys(names, Any)) or (
        lambda *values: dict(zip(names, values, strict=True))
    )
