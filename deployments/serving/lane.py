"""The quick lane: requests for the current version that ask for nothing special.

All that have come in one turn of the event loop are read, scored, recorded and answered together,
without a task or an object for each. What the lane cannot read, check or score it hands back, whole
and untouched: the application then answers it, in the long way and with the same words.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deployments.serving.bodies import Bodies, Inferences, Invocations, Table
from deployments.serving.errors import RequestFault
from deployments.serving.heads import Head
from deployments.serving.ids import new_ids
from deployments.serving.rows import Checked, Reader
from deployments.serving.served import Served
from deployments.serving.slots import Slot
from deployments.serving.wire import Connection
from deployments.serving.writing import Writer, texts

if TYPE_CHECKING:
    from deployments.serving.service import Service

log = logging.getLogger(__name__)

_MOST_ROWS = 256  # in one call of the model: health checks wait for as long as it takes
_MOST_BYTES = 65_536  # of bodies with texts, likewise
_HEADER_IDS = 16  # ids that fit into a header; the body has them all
_SPECIAL = frozenset(  # headers of requests that go the long way
    (
        *("content-encoding", "expect", "inference-header-content-length", "traceparent"),
        *("transfer-encoding", "upgrade"),
    )
)


class Waiting(NamedTuple):
    """One request."""

    connection: Connection
    head: Head
    body: bytes
    lane: Lane
    started: float


class Read(NamedTuple):
    """One request, and what it asks."""

    request: Waiting
    rows: Table
    id: str | None


class Ready:
    """What is prepared once for a version."""

    def __init__(self, slot: Slot, reader: Reader, maximum_rows: int) -> None:
        self.slot = slot
        self.reader = reader
        self.writer = Writer(slot.release.name, slot.release.version, slot.classes)
        self.bodies: dict[str, Bodies] = {
            "invocations": Invocations(slot.columns, maximum_rows),
            "infer": Inferences(slot.columns, maximum_rows),
        }


class Lane:
    """Where requests of one protocol wait for the next turn. `name` is what they are counted as."""

    __slots__ = ("_add", "name")

    def __init__(self, name: str, add: Callable[[Waiting], None]) -> None:
        self.name = name
        self._add = add

    def take(self, connection: Connection, head: Head, body: bytes) -> None:
        self._add(Waiting(connection, head, body, self, time.perf_counter()))


class Lanes:
    """The lanes of a service. Used from the event loop's thread alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: list[Waiting] = []
        self._ready: Ready | None = None
        self._names = {
            "/invocations": Lane("invocations", self._add),
            f"/v2/models/{service.config.name}/infer": Lane("infer", self._add),
        }

    def of(self, head: Head) -> Lane | None:
        """The lane of requests with this head."""
        if head.method != "POST" or not head.keep or head.old or not head.length:
            return None
        if head.headers.get("content-type", "application/json") != "application/json":
            return None
        return self._names.get(head.path) if _SPECIAL.isdisjoint(head.headers) else None

    def _add(self, one: Waiting) -> None:
        waiting = self._waiting
        waiting.append(one)
        if len(waiting) == 1:
            one.connection.wire.loop.call_soon(self._turn)

    def _turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        slots, gate = self._service.slots, self._service.gate
        slot = slots.current
        if slot is None or slots.canary is not None or gate.inside + len(waiting) > gate.limit:
            _back(waiting)
            return
        ready = self._ready
        if ready is None or ready.slot is not slot:
            maximum = self._service.config.serving.maximum_rows
            ready = self._ready = Ready(slot, self._service.reader(slot), maximum)
        batch: list[Read] = []
        most = _MOST_BYTES if ready.reader.reads_text else math.inf
        rows = size = 0
        for one in waiting:
            read = _read(ready, one)
            if read is None:
                _back([one])
                continue
            if batch and (rows + len(read.rows) > _MOST_ROWS or size + len(one.body) > most):
                self._answer(ready, batch)
                batch, rows, size = [], 0, 0
            batch.append(read)
            rows += len(read.rows)
            size += len(one.body)
        if batch:
            self._answer(ready, batch)

    def _answer(self, ready: Ready, batch: Sequence[Read]) -> None:
        try:
            done = self._score(ready, batch)
        except Exception as fault:
            if not isinstance(fault, RequestFault):
                log.info("a batch is answered one by one: %s", type(fault).__name__)
            done = False
        if not done:
            _back([read.request for read in batch])

    def _score(self, ready: Ready, batch: Sequence[Read]) -> bool:
        """Answer all of them, or none: False when rows are at fault. Raises what the model does."""
        slot, service = ready.slot, self._service
        table: Table = batch[0].rows if len(batch) == 1 else [*chain(*[r.rows for r in batch])]
        read = ready.reader.table(table)
        if read is None:
            return False
        numbers, categories, strings = read
        probabilities = slot.model.predict_rows(
            numbers, [*categories.values()], [*strings.values()]
        )
        labels = _likeliest(probabilities)
        shares = texts(probabilities) if len(table) == len(batch) else None
        ids = new_ids(len(table))
        now = time.perf_counter()
        spent = [now - read.request.started for read in batch]
        names, order = ready.reader.names, ready.reader.order
        checked = Checked(names, numbers, categories, order, None, table, ids, None, [], strings)
        self._tell(ready, checked, probabilities, batch, spent)
        version, add = slot.release.version, service.tally.add
        for one, seconds in zip(batch, spent, strict=True):
            add(one.request.lane.name, 200, version, seconds, len(one.rows))
        end = 0
        for one in batch:
            start, end = end, end + len(one.rows)
            writer = ready.writer
            if one.request.lane.name == "infer":
                joined = '","'.join(ids[start:end]).encode()
                body = writer.inference(joined, labels[start:end], probabilities[start:end], one.id)
            elif shares is not None:
                body = writer.invocation(ids[start].encode(), labels[start], shares[start])
            else:
                joined = '","'.join(ids[start:end]).encode()
                body = writer.invocations(joined, labels[start:end], probabilities[start:end])
            _send(writer, one.request.connection, ids[start:end], body)
        return True

    def _tell(
        self,
        ready: Ready,
        checked: Checked,
        probabilities: np.ndarray,
        batch: Sequence[Read],
        spent: Sequence[float],
    ) -> None:
        """Hand over to telemetry and to whoever compares."""
        slot, service = ready.slot, self._service
        if len(batch) == 1:
            latencies: float | list[float] = spent[0] * 1000
        else:
            each = zip(batch, spent, strict=True)
            latencies = [ms for r, s in each for ms in repeat(s * 1000, len(r.rows))]
        moment = service.clock().timestamp()
        service.noticed(slot, checked, moment)
        service.writer.add(
            Served(
                ids=checked.ids,
                times=moment,
                version=slot.release.version,
                features=None,
                names=checked.order,
                rows=checked.rows or (),
                probabilities=probabilities,
                latency_ms=latencies,
                characters=checked.characters,
            )
        )


def _likeliest(probabilities: np.ndarray) -> list[int]:
    """The place of each row's largest (n, k), the first one on a tie."""
    if len(probabilities) == 1:
        (row,) = probabilities.tolist()
        return [row.index(max(row))]
    places: list[int] = probabilities.argmax(axis=1).tolist()
    return places


def _back(requests: Sequence[Waiting]) -> None:
    for one in requests:
        one.connection.answer(one.head, one.body)


def _read(ready: Ready, one: Waiting) -> Read | None:
    """What a request asks, None where that is not all."""
    bodies = ready.bodies[one.lane.name]
    table = bodies.table(one.body)
    if table is not None:
        return Read(one, table, None)
    try:
        found = bodies.whole(one.body)
        if found is None:
            return None
        rows = found.rows
        table, ignored = ready.reader.ordered(rows)
    except RequestFault:
        return None  # the long way says what is wrong
    return None if ignored or rows.columns else Read(one, table, found.id)


def _send(writer: Writer, connection: Connection, ids: list[str], body: bytes) -> None:
    if len(ids) <= _HEADER_IDS:
        told = ids[0] if len(ids) == 1 else ",".join(ids)
        connection.send(writer.told % (told.encode(), len(body)), body)
    else:
        connection.send(b"%bcontent-length: %d\r\n" % (writer.head, len(body)), body)


def of(service: Any) -> Callable[[Head], Lane | None]:
    """`lanes` for a `Wire` in front of this service's application; none where requests are traced
    by OpenTelemetry, since each is then a span of its own."""
    if service.config.serving.otel_endpoint is not None:
        return lambda _head: None
    return Lanes(service).of
