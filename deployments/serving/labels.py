"""`POST /labels`: the truth about earlier predictions. Acknowledged means stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from deployments.serving.errors import RequestFault
from deployments.serving.limits import check_rows, decode
from deployments.serving.rows import check_id, parse_time
from models.schema import class_key
from monitoring.records import Label, LabelResult


class Truth(msgspec.Struct, forbid_unknown_fields=True):
    """One label; `time` is when it became known (ISO 8601), now when it is left out."""

    id: str
    label: str | int | float | bool
    time: str | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Several labels at once; stored together or, when one of them is malformed, not at all."""

    labels: list[Truth]


_DECODER = msgspec.json.Decoder(dict[str, Any])


def parse(
    body: bytes, classes: Sequence[Any], now: datetime, maximum: int
) -> tuple[list[Label], bool]:
    """The labels of a request, and whether it was a batch.

    Raises RequestFault: 400 for another shape, 422 for a value that is none of the classes, 413 for
    more than `maximum`.
    """
    sent = decode(body, _DECODER)
    batch = "labels" in sent
    try:
        truths = msgspec.convert(sent, Batch).labels if batch else [msgspec.convert(sent, Truth)]
    except msgspec.ValidationError as fault:
        rule, _, path = str(fault).partition(" - at `")
        raise RequestFault(
            400,
            path.rstrip("`").removeprefix("$").lstrip(".") or "body",
            rule,
            'send {"id", "label", "time"?} or {"labels": [...]}',
        ) from None
    check_rows(len(truths), maximum)
    return [
        _label(truth, f"labels[{place}]." if batch else "", classes, now)
        for place, truth in enumerate(truths)
    ], batch


def _label(truth: Truth, where: str, classes: Sequence[Any], now: datetime) -> Label:
    check_id(truth.id, f"{where}id")
    arrived = now if truth.time is None else parse_time(truth.time, f"{where}time")
    for value in classes:
        if class_key(value) == class_key(truth.label):  # 1, true and '1' are one class everywhere
            return Label(truth.id, value, arrived)
    raise RequestFault(
        422,
        f"{where}label",
        f"a label is one of the model's classes, {list(classes)}",
        "correct the value",
        received=truth.label,
    )


def render(
    labels: Sequence[Label], results: Sequence[LabelResult], batch: bool
) -> tuple[int, bytes]:
    """Status and body: each label with its result.

    A single label answers 200 (accepted, or the same again), 202 (unknown id: kept until its
    prediction comes) or raises RequestFault 409 (another value is stored, and stays).
    """
    if batch:
        counts = Counter(result.value for result in results)
        items = [
            {"id": label.id, "result": result.value}
            for label, result in zip(labels, results, strict=True)
        ]
        return 200, msgspec.json.encode({"results": items, "counts": counts})
    label, result = labels[0], results[0]
    if result is LabelResult.CONTRADICTED:
        raise RequestFault(
            409,
            "label",
            "the first label of a prediction stays; another value is kept aside",
            "look into which of the two is right",
            received=label.value,
        )
    status = 202 if result is LabelResult.UNKNOWN else 200
    return status, msgspec.json.encode({"id": label.id, "result": result.value})
