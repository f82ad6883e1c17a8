"""Answered rows and counts of requests on their way to the telemetry store, off the path of the
request."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from monitoring.errors import RecordFault, StoreFault
from monitoring.records import Prediction, RequestCount

log = logging.getLogger(__name__)

_BATCH_ROWS = (
    5_000  # at most so many rows in one transaction, so that no write holds the store long
)
_LONGEST_WAIT = 30.0  # seconds between tries while the store is down
_COUNT_SECONDS = 5.0  # between two writes of counts
_LONGEST_COUNT_WAIT = 300.0
_MAXIMUM_COUNTS = 10_000  # rows of counts held while the store is down: days of them


class Sink(Protocol):
    """The part of `TelemetryStore` that takes predictions and counts."""

    def record(self, predictions: Sequence[Prediction]) -> Any: ...
    def record_counts(self, batch: Sequence[RequestCount]) -> None: ...


@dataclass(slots=True, frozen=True)
class Served:
    """One answered request, kept by column until it is written."""

    ids: list[str]
    times: Sequence[datetime]
    version: str
    features: Mapping[str, Sequence[Any]]
    probabilities: np.ndarray  # (n, k)
    latency_ms: float

    def predictions(self) -> Iterator[Prediction]:
        """One record for each row."""
        names = list(self.features)
        for id_, when, values, row in zip(
            self.ids,
            self.times,
            zip(*self.features.values(), strict=True),
            self.probabilities.tolist(),
            strict=True,
        ):
            yield Prediction(
                id=id_,
                time=when,
                version=self.version,
                features=dict(zip(names, values, strict=True)),
                probabilities=tuple(row),
                latency_ms=self.latency_ms,
            )


class Observer(Protocol):
    """Who counts: `deployments.serving.metrics.Metrics`."""

    def written(self, rows: int) -> None: ...
    def dropped(self, rows: int) -> None: ...
    def store_failed(self) -> None: ...
    def pending(self, rows: int) -> None: ...


class TelemetryWriter:
    """A bounded queue and the thread that empties it every `flush_seconds`.

    While the store is down, rows are held up to `maximum_rows` and tried again with growing pauses;
    rows offered beyond the bound are dropped and counted, never the request. A killed process
    loses at most the rows of the last `flush_seconds`. Rows that are at fault themselves
    (RecordFault) are dropped and counted, so that they don't block those behind them.

    Counts of requests are added up here by minute, and by the store over workers and restarts; they
    are written every `count_seconds`, and a fault with them holds up no prediction.
    """

    def __init__(
        self,
        store: Sink,
        observer: Observer,
        *,
        flush_seconds: float,
        maximum_rows: int = 100_000,
        count_seconds: float = _COUNT_SECONDS,
    ) -> None:
        self._store = store
        self._observer = observer
        self._flush_seconds = flush_seconds
        self._maximum_rows = maximum_rows
        self._queue: deque[Served] = deque()
        self._rows = 0
        self._count = threading.Lock()  # guards _rows and the order of the queue
        self._writing = threading.Lock()  # one writer at a time: the thread, or a flush
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._wait = flush_seconds
        self._counts: dict[tuple[datetime, str, str], list[int]] = {}
        self._counting = threading.Lock()  # guards _counts
        self._count_seconds = count_seconds
        self._count_wait = count_seconds
        self._counts_due = time.monotonic() + count_seconds

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, served: Served) -> bool:
        """Queue one answered request without blocking. False when it had to be dropped."""
        rows = len(served.ids)
        with self._count:
            fits = self._rows + rows <= self._maximum_rows
            if fits:
                self._queue.append(served)
                self._rows += rows
        if not fits:
            self._observer.dropped(rows)
        return fits

    def count(self, when: datetime, route: str, version: str, status: int, rows: int = 0) -> None:
        """Count one request that was answered with `status`, without touching the store."""
        key = (when.replace(second=0, microsecond=0), route, version)
        with self._counting:
            total = self._counts.get(key)
            if total is None:
                if len(self._counts) >= _MAXIMUM_COUNTS:
                    return  # predictions are refused long before
                total = self._counts[key] = [0, 0, 0, 0]
            total[0] += 1
            total[1] += rows
            if status >= 400:
                total[2 if status < 500 else 3] += 1

    @property
    def pending(self) -> int:
        """Rows not yet in the store."""
        return self._rows

    def flush(self) -> None:
        """Write what has been added so far. Raises StoreFault when the store is down; the rows are
        then still held."""
        with self._writing:
            left = len(self._queue)  # not what comes meanwhile, or a busy server never returns
            while left > 0 and (batch := self._take(left)):
                self._write(batch)
                left -= len(batch)
        self._observer.pending(self._rows)

    def close(self, timeout: float = 5.0) -> None:
        """Stop the thread and try to write the rest; what cannot be written in `timeout` seconds is
        counted as dropped."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.flush()
                self._write_counts()
                return
            except StoreFault:
                if time.monotonic() + 0.2 > deadline:
                    log.error("telemetry store is down at shutdown: %d rows lost", self._rows)
                    self._observer.dropped(self._rows)
                    return
                time.sleep(0.2)

    def _run(self) -> None:
        while not self._stop.wait(self._wait):
            try:
                self.flush()
                self._wait = self._flush_seconds
            except StoreFault as fault:
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
                log.warning(
                    "telemetry store is down, %d rows held, next try in %.1f s: %s",
                    self._rows,
                    self._wait,
                    fault,
                )
            else:
                if time.monotonic() >= self._counts_due:
                    self._write_counts()

    def _write_counts(self) -> None:
        """Write what has been counted; what the store does not take is held and added to."""
        with self._counting:
            taken, self._counts = self._counts, {}
        try:
            if taken:
                self._store.record_counts([RequestCount(*k, *n) for k, n in taken.items()])
            self._count_wait = self._count_seconds
        except Exception as fault:  # a thread that dies here would take the predictions with it
            self._count_wait = min(2 * self._count_wait, _LONGEST_COUNT_WAIT)
            log.warning("counts of requests were not stored, held for later: %s", fault)
            with self._counting:
                for key, figures in taken.items():
                    held = self._counts.setdefault(key, [0, 0, 0, 0])
                    held[:] = [a + b for a, b in zip(held, figures, strict=True)]
        self._counts_due = time.monotonic() + self._count_wait

    def _take(self, limit: int) -> list[Served]:
        """The oldest requests, at most `limit`, left in the queue until they are written."""
        batch: list[Served] = []
        rows = 0
        with self._count:
            for served in self._queue:
                if len(batch) == limit or (batch and rows + len(served.ids) > _BATCH_ROWS):
                    break
                batch.append(served)
                rows += len(served.ids)
        return batch

    def _write(self, batch: list[Served]) -> None:
        rows = sum(len(served.ids) for served in batch)
        try:
            self._store.record([p for served in batch for p in served.predictions()])
            self._observer.written(rows)
        except Exception as fault:
            if isinstance(fault, StoreFault) and not isinstance(fault, RecordFault):
                self._observer.store_failed()
                self._observer.pending(self._rows)
                raise
            if len(batch) > 1:  # one request's fault must not cost the others: find it
                for served in batch:
                    self._write([served])
                return
            log.exception("telemetry store refused %d rows: dropped", rows)
            self._observer.dropped(rows)
        with self._count:
            for _ in batch:
                self._queue.popleft()
            self._rows -= rows
