"""What the endpoints share: the slots, the store and its writer, the follower, and the threads."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard, TypeVar
from weakref import WeakKeyDictionary

from deployments.serving import labels
from deployments.serving.admission import Gate, Reading, busy
from deployments.serving.batch import Batcher
from deployments.serving.comparer import Comparer, When
from deployments.serving.errors import RequestFault
from deployments.serving.follower import Champions, Follower
from deployments.serving.late_store import LateStore
from deployments.serving.metrics import FOLDER, Metrics
from deployments.serving.recorder import Away, address
from deployments.serving.routing import request_key
from deployments.serving.rows import Checked, Reader, Rows
from deployments.serving.slots import Answer, Model, Slot, Slots
from deployments.serving.spool import Spool
from deployments.serving.tally import Tally
from deployments.serving.telemetry_writer import Served, TelemetryWriter
from deployments.serving.together import Together
from models.errors import DataFault
from monitoring import shadows
from monitoring.errors import RecordFault, StoreFault
from monitoring.records import Label, LabelResult
from monitoring.shadows import ShadowAnswer
from tasks.config import Config
from tasks.recording import recording

log = logging.getLogger(__name__)

_COUNTED = frozenset({"invocations", "infer", "labels"})  # routes in the store's counts
_WARMING_ROWS = 64  # of a request that the next version is warmed with, at most
_WARMING_TEXT = 65_536  # characters, likewise
_FIRST_LOOK = 60.0  # seconds after which a worker takes connections without a champion

T = TypeVar("T")


class Pool:
    """Threads for what would hold up the event loop, with a bound on what may wait for them."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._inside = 0
        self._running: dict[int, float] = {}  # by thread: when its call began

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """The result of `call(*arguments)`. Raises RequestFault 503 when too many are waiting."""
        if self._inside >= self._limit:
            raise busy(f"at most {self._limit} requests of this kind are worked on at a time")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, contextvars.copy_context().run, self._timed, call, arguments
            )
        finally:
            self._inside -= 1

    def _timed(self, call: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        thread = threading.get_ident()
        self._running[thread] = time.monotonic()
        try:
            return call(*arguments)
        finally:
            del self._running[thread]

    def oldest(self) -> float:
        """For how many seconds the call that began first has been running; 0 without any."""
        return time.monotonic() - min(tuple(self._running.values()), default=time.monotonic())

    def close(self) -> None:
        """Finish what runs, give up what waits."""
        self._executor.shutdown(cancel_futures=True)


def _refused(fault: DataFault) -> RequestFault:
    """A rule of the model's own that the check doesn't know."""
    return RequestFault(400, "rows", str(fault), "correct the rows")


class Service:
    """What the endpoints share, from start-up to shutdown."""

    def __init__(
        self,
        config: Config,
        *,
        registry: Callable[[], Champions] | None = None,
        load: Callable[[Path, str], Model] | None = None,
        store: LateStore | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.config = config
        self.limit = int(config.serving.maximum_body_mb * 2**20)
        self.clock = clock or (lambda: datetime.now(UTC))
        self.metrics = Metrics()
        self.slots = Slots()
        self.recording = recording(config)
        self.store = store or LateStore(config.store_url, self.recording, self.clock)
        spool_bytes = int(config.serving.spool_mb * 2**20)
        self.writer = TelemetryWriter(
            self.store,
            self.metrics,
            flush_seconds=config.serving.flush_seconds,
            spool=Spool(config.folder / "spool", spool_bytes, self.metrics.dropped),
            recording=self.recording,
            away=None if (place := address(os.environ.get(FOLDER))) is None else Away(place),
        )
        self.follower = Follower(
            self.slots,
            self.metrics,
            config.folder / "serving",
            registry=registry or self._registry,
            load=load,
            poll_seconds=config.serving.poll_seconds,
            load_seconds=config.serving.load_seconds,
        )
        self.comparer = Comparer(
            self.slots,
            self.writer,
            self.metrics,
            self._compared,
            rows_per_second=config.rollout.compared_per_second,
            stored_id=self.recording.stored_id,
            clock=self.clock,
        )
        self.tally = Tally(self.metrics, self.writer, self.clock, _COUNTED)
        self.gate = Gate(config.serving.maximum_waiting)
        self.reading = Reading(config.serving.timeout_seconds)
        self.batcher = Batcher()
        self._patience = config.serving.timeout_seconds
        self._readers: WeakKeyDictionary[Slot, Reader] = WeakKeyDictionary()
        self.large = Pool("large", threads=2, waiting=62)
        self.labelling = Pool("labels", threads=16, waiting=1008)
        self.together = Together(self._store_labels)

    def _registry(self) -> Champions:
        from models.registry_lean import LeanRegistry  # in the follower's thread

        return LeanRegistry(self.config.registry_url, self.config.name, self.config.artifacts)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start-up to shutdown; on leaving, pending predictions reach the store."""
        self.writer.start()
        self.comparer.start()
        self.follower.start()
        if self.config.serving.workers > 1:
            await asyncio.to_thread(self.follower.first_look, _FIRST_LOOK)
        try:
            yield
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.follower.close()
        self.comparer.close()
        self.tally.hand_over()
        self.writer.close()
        self.large.close()
        self.labelling.close()
        self.store.close()

    def _compared(self, batch: list[ShadowAnswer]) -> None:
        shadows.add(self.store.database, batch)

    def routed(self, slot: Slot, rows: Rows, key: str | None) -> Slot:
        """The canary for its share of the callers, where there is one, else `slot`. `key` is what
        the request calls its caller, in the header of `routing.HEADER`."""
        if self.slots.canary is None:
            return slot
        return self.slots.pick(request_key(key, rows))

    async def answer(
        self, slot: Slot, rows: Rows, started: float, *, pinned: bool = False
    ) -> Answer:
        """Check, predict together with what else has come, and hand over to telemetry.

        What a canary cannot answer, the champion does, unless the caller asked for this version
        (`pinned`). Raises RequestFault.
        """
        try:
            return await self._answer(slot, rows, started)
        except Exception:
            champion = self.slots.current
            if pinned or not self._stands_in(champion, slot):
                raise
        answer = await self._answer(champion, rows, started)
        self._canary_failed(slot)
        return answer

    def score(self, slot: Slot, rows: Rows, started: float, *, pinned: bool = False) -> Answer:
        """As `answer`, alone and in the caller's thread. Raises RequestFault."""
        try:
            return self._score(slot, rows, started)
        except Exception:
            champion = self.slots.current
            if pinned or not self._stands_in(champion, slot):
                raise
        answer = self._score(champion, rows, started)
        self._canary_failed(slot)
        return answer

    def _stands_in(self, champion: Slot | None, slot: Slot) -> TypeGuard[Slot]:
        """Whether the champion answers for `slot`: a challenger, or one that was until just now."""
        return champion is not None and champion is not slot and slot is not self.slots.previous

    def _canary_failed(self, slot: Slot) -> None:
        """The rows can be answered, and `slot` could not: a guard of the roll-out counts it."""
        version = slot.release.version
        log.warning("version %s could not answer as canary; the champion did", version)
        self.metrics.canary_failed(version)
        self.writer.count(self.clock(), "canary", version, 500)

    async def _answer(self, slot: Slot, rows: Rows, started: float) -> Answer:
        checked = self._check(slot, rows, started)
        try:
            answer = await self.batcher.score(slot, checked)
        except DataFault as fault:
            raise _refused(fault) from None
        self._told(slot, checked, answer, started)
        return answer

    def _score(self, slot: Slot, rows: Rows, started: float) -> Answer:
        checked = self._check(slot, rows, started)
        try:
            answer = slot.answer(checked)
        except DataFault as fault:
            raise _refused(fault) from None
        self._told(slot, checked, answer, started)
        return answer

    def _check(self, slot: Slot, rows: Rows, started: float) -> Checked:
        if time.perf_counter() - started > self._patience:
            raise busy(f"a request is worked on within {self._patience:g} s or not at all")
        return self.reader(slot).check(rows)

    def reader(self, slot: Slot) -> Reader:
        """What checks rows for this version."""
        reader = self._readers.get(slot)
        if reader is None:
            time_column, longest = self.config.data.time, self.config.serving.maximum_text
            reader = self._readers[slot] = Reader(slot.columns, time_column, longest)
        return reader

    def _told(self, slot: Slot, checked: Checked, answer: Answer, started: float) -> None:
        times = checked.times or self.clock().timestamp()
        self.noticed(slot, checked, times)
        self.writer.add(
            Served(
                ids=answer.ids,
                times=times,
                version=answer.version,
                features=checked.features,
                names=checked.order,
                rows=checked.rows or (),
                probabilities=answer.probabilities,
                latency_ms=(time.perf_counter() - started) * 1000,
                characters=checked.characters,
            )
        )

    def noticed(self, slot: Slot, checked: Checked, times: When) -> None:
        """Rows that `slot` has answered: counted where they are strange, kept for the next version
        to be warmed with, and offered to the one beside."""
        unknown = slot.unknown(checked)
        if unknown or checked.ignored:
            self.metrics.strange(unknown, len(checked.ignored))
        if len(checked.ids) <= _WARMING_ROWS and checked.characters <= _WARMING_TEXT:
            self.slots.recent.append(checked)
        if self.slots.beside is not None:
            self.comparer.offer(slot, checked, times)

    def answered(self, route: str, status: int, seconds: float, answer: Answer | None) -> None:
        """Count one request: for `/metrics` every one, for the telemetry store those that ask the
        model or bring labels; a probe of a server that isn't ready yet is no error."""
        if answer is not None:
            rows = len(answer.ids) if status < 400 else 0
            self.tally.add(route, status, answer.version, seconds, rows)
        else:
            slot = self.slots.current
            self.tally.add(route, status, slot.release.version if slot else "", seconds, 0)

    def figures(self) -> bytes:
        """All that is counted, for `/metrics`."""
        self.tally.hand_over()
        self.metrics.pending(self.writer.pending)
        self.metrics.inside(self.gate.inside)
        return self.metrics.text()

    def _store_labels(self, found: list[Label]) -> list[LabelResult]:
        """In one transaction, after the predictions that were answered before."""
        if self.writer.pending:
            self.writer.flush()
        return self.store.label(found)

    def label(self, body: bytes) -> tuple[int, bytes]:
        """Store labels; predictions answered before them are stored first, so that none of them is
        unknown. Returns status and body.

        While the store is down a label is refused with 503, not put on disk like a prediction: what
        is on disk has a bound, beyond which the oldest go, and how a label was taken (the same as
        before, another, unknown) only the store can say. So none is acknowledged that could still
        be lost.
        """
        found, batch = labels.parse(
            body, self.config.data.classes, self.clock(), self.config.serving.maximum_rows
        )
        try:
            results = self.together.label(found)
        except RecordFault as fault:
            raise RequestFault(400, "labels", str(fault), "correct it") from None
        except StoreFault:
            log.exception("labels were not stored")
            raise RequestFault(
                503,
                "labels",
                "the label store does not answer; nothing was stored",
                "send again after the time in Retry-After",
                headers={"retry-after": "5"},
            ) from None
        self.metrics.labelled({r.value: results.count(r) for r in set(results)})
        return labels.render(found, results, batch)
