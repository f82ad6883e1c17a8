"""What the endpoints share: the slots, the store and its writer, the follower, and the threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from deployments.serving import labels
from deployments.serving.errors import RequestFault
from deployments.serving.follower import Champions, Follower
from deployments.serving.metrics import Metrics
from deployments.serving.rows import Rows, check
from deployments.serving.slots import Answer, Model, Slot, Slots
from deployments.serving.telemetry_writer import Served, TelemetryWriter
from models.errors import DataFault
from monitoring.errors import RecordFault, StoreFault
from monitoring.telemetry import TelemetryStore
from tasks.config import Config

log = logging.getLogger(__name__)

_COUNTED = frozenset({"invocations", "infer", "labels"})  # routes in the store's counts
_FIRST_LOOK = 60.0  # seconds after which a worker takes connections without a champion

T = TypeVar("T")


class Pool:
    """Threads for what would hold up the event loop, with a bound on what may wait for them."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._inside = 0

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """The result of `call(*arguments)`. Raises RequestFault 503 when too many are waiting."""
        if self._inside >= self._limit:
            raise RequestFault(
                503,
                "server",
                f"at most {self._limit} requests of this kind are worked on at a time",
                "send again after the time in Retry-After",
                headers={"retry-after": "1"},
            )
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, call, *arguments
            )
        finally:
            self._inside -= 1

    def close(self) -> None:
        """Finish what runs, give up what waits."""
        self._executor.shutdown(cancel_futures=True)


class Service:
    """What the endpoints share, from start-up to shutdown."""

    def __init__(
        self,
        config: Config,
        *,
        registry: Callable[[], Champions] | None = None,
        load: Callable[[Path, str], Model] | None = None,
        store: TelemetryStore | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.config = config
        self.limit = int(config.serving.maximum_body_mb * 2**20)
        self.clock = clock or (lambda: datetime.now(UTC))
        self.metrics = Metrics()
        self.slots = Slots()
        self.store = store or TelemetryStore(config.store_url)
        self.writer = TelemetryWriter(
            self.store, self.metrics, flush_seconds=config.serving.flush_seconds
        )
        self.follower = Follower(
            self.slots,
            self.metrics,
            config.folder / "serving",
            registry=registry or self._registry,
            load=load,
            poll_seconds=config.serving.poll_seconds,
        )
        self.large = Pool("large", threads=2, waiting=62)
        self.labelling = Pool("labels", threads=1, waiting=1023)  # a store has one writer anyway

    def _registry(self) -> Champions:
        from models.registry import Registry  # imports mlflow: in the follower's thread

        return Registry(self.config.registry_url, self.config.name, self.config.artifacts)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start-up to shutdown; on leaving, pending predictions reach the store."""
        self.writer.start()
        self.follower.start()
        if self.config.serving.workers > 1:
            await asyncio.to_thread(self.follower.first_look, _FIRST_LOOK)
        try:
            yield
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.follower.close()
        self.writer.close()
        self.large.close()
        self.labelling.close()
        self.store.close()

    def score(self, slot: Slot, rows: Rows, started: float) -> Answer:
        """Check, predict, count, and hand over to telemetry. Raises RequestFault."""
        checked = check(rows, slot.columns, self.config.data.time)
        try:
            answer = slot.answer(checked)
        except DataFault as fault:  # a rule of the model's own that `check` doesn't know
            raise RequestFault(400, "rows", str(fault), "correct the rows") from None
        self.metrics.predicted(
            answer.version, len(answer.ids), slot.unknown(checked), len(answer.ignored)
        )
        self.writer.add(
            Served(
                ids=answer.ids,
                times=checked.times or [self.clock()] * len(answer.ids),
                version=answer.version,
                features=checked.features,
                probabilities=answer.probabilities,
                latency_ms=(time.perf_counter() - started) * 1000,
            )
        )
        return answer

    def answered(self, route: str, status: int, seconds: float, answer: Answer | None) -> None:
        """Count one request: for `/metrics` every one, for the telemetry store those that ask the
        model or bring labels; a probe of a server that isn't ready yet is no error."""
        self.metrics.answered(route, status, seconds)
        if route not in _COUNTED:
            return
        slot = self.slots.current
        version = answer.version if answer else slot.release.version if slot else ""
        rows = len(answer.ids) if answer and status < 400 else 0
        self.writer.count(self.clock(), route, version, status, rows)

    def label(self, body: bytes) -> tuple[int, bytes]:
        """Store labels; predictions answered before them are stored first, so that none of them is
        unknown. Returns status and body."""
        found, batch = labels.parse(
            body, self.config.data.classes, self.clock(), self.config.serving.maximum_rows
        )
        try:
            if self.writer.pending:
                self.writer.flush()
            results = self.store.label(found)
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
