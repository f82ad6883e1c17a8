"""Answered rows and counts of requests on their way to the telemetry store, off the path of the
request."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from deployments.serving.served import Batch, Served, encode, packed, ready
from deployments.serving.spool import Spool
from monitoring.errors import RecordFault, StoreFault
from monitoring.recording import Recording
from monitoring.records import RequestCount

__all__ = ["Observer", "Served", "Sink", "TelemetryWriter"]

log = logging.getLogger(__name__)

_BATCH_ROWS = 5_000  # at most of such weight in one write, so that none holds the store long
_PATIENCE = 0.25  # seconds that rows wait in memory for a write under way, then they go to disk
_LOOK = 0.05  # seconds between looks at what waits in memory
_SYNC_SECONDS = 1.0  # between two times that the spool is brought to the disk
_ADOPT_SECONDS = 30.0  # between two looks for what dead processes have left
_LONGEST_WAIT = 30.0  # seconds between tries while the store is down
_COUNT_SECONDS = 5.0  # between two writes of counts
_LONGEST_COUNT_WAIT = 300.0
_MAXIMUM_COUNTS = 10_000  # rows of counts held while the store is down: days of them


class Away(Protocol):
    """`deployments.serving.recorder.Away`: rows written elsewhere, or None."""

    def record(self, batch: Sequence[Served]) -> Any: ...
    def bring(self, parts: Sequence[Batch]) -> Any: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """The part of `TelemetryStore` that takes predictions and counts."""

    def record_encoded(self, batch: bytes, rows: int) -> Any: ...
    def record_counts(self, batch: Sequence[RequestCount]) -> None: ...


class Observer(Protocol):
    """Who counts: `deployments.serving.metrics.Metrics`."""

    def written(self, rows: int) -> None: ...
    def dropped(self, rows: int) -> None: ...
    def unsampled(self, rows: int) -> None: ...
    def store_failed(self) -> None: ...
    def pending(self, rows: int) -> None: ...
    def spooled(self, rows: int) -> None: ...


class TelemetryWriter:
    """A bounded queue, a thread that empties it into the store every `flush_seconds`, and one that
    sees to it that no row waits in memory for a store that is slow or down.

    The promise: a process that is killed loses the rows of the last `flush_seconds` and of a write
    under way, which is given `_PATIENCE` seconds more. After that, or when the store has refused,
    rows are appended to `spool`, which survives, and so they are when they come faster than the
    store takes them, before memory is full; from then on all rows take that way, and are sent
    to the store in order when it answers again, until the spool is empty. What dead processes have
    left is taken over at the start and every half minute. Without a spool, rows are held in memory
    up to `maximum_rows`. Long texts count as more rows (`Served.weight`), in every bound here.

    Rows beyond a bound are dropped and counted, never the request. So are rows that are at fault
    themselves (RecordFault), so that they don't block those behind them. `recording` says what is
    kept of a row. `away` writes in another process what is to be written; where it does not, this
    one does.

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
        spool: Spool | None = None,
        recording: Recording | None = None,
        away: Away | None = None,
    ) -> None:
        self._store = store
        self._observer = observer
        self._spool = spool
        self._recording = recording or Recording()
        self._away = away
        self._flush_seconds = flush_seconds
        self._maximum_rows = maximum_rows
        self._queue: deque[Served] = deque()
        self._rows = 0
        self._weight = 0  # of these rows, as `Served` has it
        self._count = threading.Lock()  # guards both; never held for long
        self._turn = threading.Lock()  # who takes from the queue: the store's thread or the disk's
        self._under_way: list[Served] = []  # taken from the queue, not yet anywhere else
        self._begun = 0.0  # when the write of these was begun
        self._writing = threading.Lock()  # one writer at a time: the thread, or a flush
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._run, "telemetry"), (self._watch, "telemetry-spool"))
        ]
        self._wait = flush_seconds
        self._adopt_due = 0.0
        self._sync_due = 0.0
        self._counts: dict[tuple[datetime, str, str], list[int]] = {}
        self._counting = threading.Lock()  # guards _counts
        self._count_seconds = count_seconds
        self._count_wait = count_seconds
        self._counts_due = time.monotonic() + count_seconds

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def add(self, served: Served) -> bool:
        """Queue one answered request without blocking. False when it had to be dropped."""
        rows, weight = len(served.ids), served.weight
        with self._count:
            fits = self._weight + weight <= self._maximum_rows
            if fits:
                self._queue.append(served)
                self._rows += rows
                self._weight += weight
        if not fits:
            self._observer.dropped(rows)
        return fits

    def count(
        self,
        when: datetime,
        route: str,
        version: str,
        status: int,
        rows: int = 0,
        requests: int = 1,
    ) -> None:
        """Count requests that were answered with `status`, without touching the store."""
        key = (when.replace(second=0, microsecond=0), route, version)
        with self._counting:
            total = self._counts.get(key)
            if total is None:
                if len(self._counts) >= _MAXIMUM_COUNTS:
                    return  # predictions are refused long before
                total = self._counts[key] = [0, 0, 0, 0]
            total[0] += requests
            total[1] += rows
            if status >= 400:
                total[2 if status < 500 else 3] += requests

    @property
    def pending(self) -> int:
        """Rows in memory: neither in the store nor on disk."""
        return self._rows

    @property
    def spooled(self) -> int:
        """Rows on disk that the store does not have yet."""
        return 0 if self._spool is None else self._spool.rows

    def flush(self) -> None:
        """Bring what has been added so far into the store or, where that is behind, to disk.

        Raises StoreFault when neither takes it; the rows are then still held.
        """
        patience = -1.0 if self._spool is None else self._flush_seconds + _PATIENCE
        if not self._writing.acquire(timeout=patience):
            self._to_disk()  # somebody waits for the store: do not wait with him
            return
        try:
            self._flush()
        finally:
            self._writing.release()

    def catch_up(self, until: float = math.inf) -> None:
        """Send what is on disk to the store, oldest first, `until` the monotonic clock says so.

        Raises StoreFault when the store is down.
        """
        spool = self._spool
        if spool is None:
            return
        with self._writing:
            while time.monotonic() < until and (segment := spool.next()) is not None:
                sent = False
                try:
                    for batch in spool.read(segment):
                        self._send(batch)
                    sent = True
                finally:
                    spool.done(segment, keep=not sent)
                self._show()

    def close(self, timeout: float = 5.0) -> None:
        """Stop the threads and try to write the rest; what neither the store nor the disk takes in
        `timeout` seconds is counted as dropped."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(deadline - time.monotonic(), 0.1))
        while True:
            try:
                self.flush()
                if not self._threads[0].is_alive():  # else it still waits for the store
                    self.catch_up(deadline)
                    self._write_counts()
                break
            except StoreFault:
                if self._rows and time.monotonic() + 0.2 <= deadline:
                    time.sleep(0.2)
                    continue
                if self._rows:
                    log.error("telemetry store is down at shutdown: %d rows lost", self._rows)
                    self._observer.dropped(self._rows)
                break
        if self._away is not None:
            self._away.close()
        if self._spool is not None:
            if left := self._spool.rows:
                log.warning("%d rows are left on disk for the next start", left)
            self._spool.close()

    # -- the thread of the store --------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(self._wait):
            try:
                self._adopt()
                self.flush()
                self.catch_up()
                self._wait = self._flush_seconds
            except StoreFault as fault:
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
                log.warning(
                    "telemetry store is down, %d rows held, %d on disk, next try in %.1f s: %s",
                    self._rows,
                    self.spooled,
                    self._wait,
                    fault,
                )
            except Exception:  # a thread that dies here would take the predictions with it
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
                log.exception("telemetry could not be written, next try in %.1f s", self._wait)
            else:
                if time.monotonic() >= self._counts_due:
                    self._write_counts()

    def _adopt(self) -> None:
        if self._spool is None or time.monotonic() < self._adopt_due:
            return
        self._adopt_due = time.monotonic() + _ADOPT_SECONDS
        try:
            self._spool.adopt()
        except OSError as fault:
            log.warning("the spool's folder cannot be read: %s", fault)

    def _flush(self) -> None:
        left = len(self._queue)  # not what comes meanwhile, or a busy server never returns
        while left > 0:
            if self._behind:
                self._to_disk()
                break
            with self._turn:
                batch = self._take(left)
                self._under_way, self._begun = list(batch), time.monotonic()
            if not batch:
                break
            try:
                self._write(batch)
            finally:
                self._put_back()
            left -= len(batch)
        self._show()

    @property
    def _behind(self) -> bool:
        return self._spool is not None and not self._spool.empty

    def _take(self, limit: int) -> list[Served]:
        """The oldest requests, at most `limit`."""
        batch: list[Served] = []
        weight = 0
        while self._queue and len(batch) < limit:
            weight += self._queue[0].weight
            if batch and weight > _BATCH_ROWS:
                break
            batch.append(self._queue.popleft())
        return batch

    def _put_back(self) -> None:
        """What a write has left, if nobody brought it to disk meanwhile, is the oldest again."""
        with self._turn:
            self._queue.extendleft(reversed(self._under_way))
            self._under_way = []

    def _write(self, batch: list[Served]) -> None:
        try:
            left_out = self._bring(batch)
        except RecordFault:
            if len(batch) > 1:  # one request's fault must not cost the others: find it
                for served in batch:
                    self._write([served])
            elif self._gone(batch):
                log.exception("telemetry store refused %d rows: dropped", len(batch[0].ids))
                self._observer.dropped(len(batch[0].ids))
        except StoreFault:
            self._failed()
            if not self._to_disk():
                raise
        else:
            if self._gone(batch):
                self._observer.unsampled(left_out)

    def _bring(self, batch: list[Served]) -> int:
        """Into the store, by the recorder where there is one; gives how many are left out."""
        if self._away is not None and (done := self._away.record(batch)) is not None:
            self._observer.written(done.new)
            return done.left_out
        encoded = encode(batch, self._recording)
        if encoded.rows:
            stored = self._store.record_encoded(encoded.data, encoded.rows)
            self._observer.written(getattr(stored, "new", encoded.rows))
        return encoded.left_out

    def _send(self, batch: Batch) -> None:
        """One batch from the disk."""
        try:
            self._record(batch)
        except RecordFault:
            log.exception("telemetry store refused %d spooled rows: dropped", batch.rows)
            self._observer.dropped(batch.rows)
        except StoreFault:
            self._failed()
            raise

    def _record(self, batch: Batch) -> None:
        if not batch.rows:
            return
        if self._away is not None and (done := self._away.bring([batch])) is not None:
            self._observer.written(done.new)
            return
        batch = ready(batch, self._recording)
        stored = self._store.record_encoded(batch.data, batch.rows)
        self._observer.written(getattr(stored, "new", batch.rows))

    def _failed(self) -> None:
        self._observer.store_failed()
        self._show()

    def _gone(self, batch: list[Served]) -> bool:
        """`batch` is in the store, or dropped. False when it went to disk meanwhile."""
        with self._turn:
            ours = bool(self._under_way)
            del self._under_way[: len(batch)]
        if ours:
            self._discount(batch)
        return ours

    def _discount(self, batch: Sequence[Served]) -> None:
        rows = sum(len(served.ids) for served in batch)
        weight = sum(served.weight for served in batch)
        with self._count:
            self._rows -= rows
            self._weight -= weight

    def _show(self) -> None:
        self._observer.pending(self._rows)
        self._observer.spooled(self.spooled)

    # -- the thread of the disk ---------------------------------------------------------------

    def _watch(self) -> None:
        if self._spool is None:
            return
        while not self._stop.wait(min(self._flush_seconds, _LOOK)):
            begun = self._begun if self._under_way else None
            late = begun is not None and time.monotonic() - begun > _PATIENCE
            if late or (self._behind and self._queue) or 2 * self._weight > self._maximum_rows:
                self._to_disk()
            if self._behind and time.monotonic() >= self._sync_due:
                self._sync_due = time.monotonic() + _SYNC_SECONDS
                with contextlib.suppress(OSError):
                    self._spool.sync()

    def _to_disk(self) -> bool:
        """Append all rows in memory to the spool. False when there is none, or it refuses."""
        spool = self._spool
        if spool is None:
            return False
        with self._turn:
            try:
                if batch := self._under_way:
                    self._spool_one(spool, batch)
                    self._under_way = []
                    self._discount(batch)
                while batch := self._take(len(self._queue)):
                    self._spool_one(spool, batch)
                    self._discount(batch)
            except OSError as fault:  # what is there twice then is once in the store
                log.error("the spool takes no rows, %d are held: %s", self._rows, fault)
                if batch is not self._under_way:
                    self._queue.extendleft(reversed(batch))
                return False
        self._show()
        return True

    def _spool_one(self, spool: Spool, batch: list[Served]) -> None:
        if self._recording.whole:  # nothing is to be left out, so that it may lie there as it came
            with contextlib.suppress(TypeError, ValueError, OverflowError, RecursionError):
                for part in packed(batch):
                    spool.append(part)
                return
        try:
            encoded = encode(batch, self._recording)
        except RecordFault:
            if len(batch) > 1:
                for served in batch:
                    self._spool_one(spool, [served])
                return
            log.exception("%d rows cannot be written: dropped", len(batch[0].ids))
            self._observer.dropped(len(batch[0].ids))
            return
        self._observer.unsampled(encoded.left_out)
        if encoded.rows:
            spool.append(encoded)

    # -- counts -------------------------------------------------------------------------------

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
