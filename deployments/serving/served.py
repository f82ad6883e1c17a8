"""One answered request as the telemetry store will have it, and many of them written at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np

from deployments.serving.structs import struct
from monitoring.errors import RecordFault
from monitoring.recording import Recording, encoded
from monitoring.storage import micros, plain_json

_ALL = Recording()


@dataclass(slots=True)  # not frozen: that doubles the time to make one, once a request
class Served:
    """What was answered, kept as it came until it is written: one request, or several at once.

    Its features are either `features`, by column, or `names` and `rows`, by row. `times` is one
    moment for all rows, in seconds since 1970, or one for each.
    """

    ids: list[str]
    times: float | Sequence[datetime]
    version: str
    features: Mapping[str, Sequence[Any]] | None
    probabilities: np.ndarray | Sequence[Sequence[float]]  # (n, k)
    latency_ms: float | Sequence[float]  # of all rows, or of each
    names: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    characters: int = 0  # of its texts

    @property
    def weight(self) -> int:
        """Its rows, and one more for each thousand characters of text: what it takes of memory."""
        return len(self.ids) + self.characters // 1_000


class Batch(NamedTuple):
    """Rows of several requests, as JSON ready for the store or, from `packed`, as they came."""

    data: bytes
    rows: int
    left_out: int = 0  # rows that are not in the sample


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_PART_ROWS = 400  # at a time: the interpreter is held while they are packed


def packed(requests: Sequence[Served]) -> list[Batch]:
    """All rows as they came, in parts: a tenth of the time that `encode` takes, which is to follow
    elsewhere or later. Raises TypeError, ValueError or OverflowError for what no message holds."""
    parts: list[Batch] = []
    held: list[tuple[Any, ...]] = []
    rows = weight = 0
    for place, request in enumerate(requests):
        sent = request.probabilities
        held.append(
            (
                request.ids,
                request.times,
                request.version,
                request.features,
                sent.tolist() if isinstance(sent, np.ndarray) else sent,
                request.latency_ms,
                request.names,
                request.rows,
            )
        )
        rows += len(request.ids)
        weight += request.weight
        if weight >= _PART_ROWS or place + 1 == len(requests):
            parts.append(Batch(_pack(held), rows))
            held, rows, weight = [], 0, 0
    return parts


def ready(batch: Batch, recording: Recording = _ALL) -> Batch:
    """`batch` as JSON, if it isn't. Raises RecordFault."""
    if batch.data[:1] in (b"", b"["):
        return batch
    return encode([Served(*fields) for fields in _unpack(batch.data)], recording)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of JSON as one."""
    if len(batches) == 1:
        return batches[0]
    data = b",".join([batch.data[1:-1] for batch in batches if batch.rows])
    left_out = sum(batch.left_out for batch in batches)
    return Batch(b"[" + data + b"]", sum(batch.rows for batch in batches), left_out)


def encode(requests: Sequence[Served], recording: Recording = _ALL) -> Batch:
    """Write what `recording` keeps of the rows. Raises RecordFault for what no store can hold."""
    try:
        rows = [row for request in requests for row in _rows(request, recording)]
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise RecordFault(f"a row must have plain JSON values ({fault}): correct it") from None
    answered = sum(len(request.ids) for request in requests)
    return Batch(encoded(rows), len(rows), answered - len(rows))


def _rows(request: Served, recording: Recording) -> Iterator[tuple[Any, ...]]:
    to_json, version = plain_json.encode, request.version
    names, rows = _by_row(request, recording.never)
    record = _record(tuple(names))
    sent = request.probabilities
    sent = sent.tolist() if isinstance(sent, np.ndarray) else sent
    spent = request.latency_ms
    latencies = [float(spent)] * len(request.ids) if isinstance(spent, int | float) else spent
    times = request.times
    moments = (
        [int(times * 1e6)] * len(request.ids)
        if isinstance(times, int | float)
        else [micros(moment) for moment in times]
    )
    every = recording.share >= 1.0
    for id_, moment, row, answer, latency in zip(
        request.ids, moments, rows, sent, latencies, strict=True
    ):
        stored = id_ if recording.key is None else recording.stored_id(id_)
        if every or recording.keeps(stored):
            features = to_json(record(*row)).decode()
            yield stored, moment, version, features, to_json(answer).decode(), latency


@functools.lru_cache(maxsize=64)
def _record(names: tuple[str, ...]) -> Callable[..., Any]:
    """What makes an object of these names from values in their order; a third quicker than a dict
    to make and write. Values that are too many or too few raise TypeError."""
    if not names:
        return dict
    return struct("Features", dict.fromkeys(names, Any)) or (
        lambda *values: dict(zip(names, values, strict=True))
    )


def _by_row(
    request: Served, never: frozenset[str]
) -> tuple[Sequence[str], Sequence[Sequence[Any]] | Iterator[Sequence[Any]]]:
    if request.features is not None:
        kept = {n: v for n, v in request.features.items() if n not in never}
        if not kept:
            return (), [()] * len(request.ids)
        return list(kept), zip(*kept.values(), strict=True)
    if never.isdisjoint(request.names):
        return request.names, request.rows
    places = [i for i, name in enumerate(request.names) if name not in never]
    return [request.names[i] for i in places], [[row[i] for i in places] for row in request.rows]
