"""What the second version says of rows that another has answered: off the path of the request.

A bounded number of rows a second is compared, whatever the traffic; a queue that is full drops what
comes, counted, and no request ever waits.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from deployments.serving.loading import reads
from deployments.serving.rows import Checked
from deployments.serving.slots import Slot, Slots
from monitoring.errors import StoreFault
from monitoring.shadows import ShadowAnswer

log = logging.getLogger(__name__)

_TICK = 0.05  # seconds
_WAITING = 1_000  # requests

When = Sequence[datetime] | float  # of each row, or of all in seconds since 1970


class Counter(Protocol):
    """The part of the telemetry writer that counts requests."""

    def count(
        self, when: datetime, route: str, version: str, status: int, rows: int = 0
    ) -> None: ...


class Observer(Protocol):
    def compared(self, result: str, rows: int) -> None: ...


class Comparer:
    """`offer` takes answered rows; a thread asks the other version and hands pairs to `sink`."""

    def __init__(
        self,
        slots: Slots,
        counter: Counter,
        observer: Observer,
        sink: Callable[[list[ShadowAnswer]], None],
        *,
        rows_per_second: float,
        stored_id: Callable[[str], str] = str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._slots = slots
        self._counter = counter
        self._observer = observer
        self._sink = sink
        self._rate = rows_per_second
        self._stored_id = stored_id
        self._clock = clock
        self._budget = rows_per_second
        self._skipped = 0
        self._dropped = 0
        self._queue: deque[tuple[Slot, Checked, When, int]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="comparer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Stop the thread; what waits is not compared."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def offer(self, slot: Slot, checked: Checked, when: When) -> None:
        """Rows that `slot` has answered, to be compared if there is time. Never blocks."""
        rows = len(checked.ids)
        taken = min(rows, int(self._budget))
        if taken < rows:
            self._skipped += rows - taken
        if not taken:
            return
        if len(self._queue) >= _WAITING:
            self._dropped += taken
            return
        self._budget -= taken
        self._queue.append((slot, checked, when, taken))

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            try:
                self.turn(_TICK)
            except Exception:  # a comparison is never worth a thread
                log.exception("a comparison failed")

    def turn(self, seconds: float) -> None:
        """Compare what waits; `seconds` have passed since the last turn."""
        self._budget = min(self._budget + self._rate * seconds, max(self._rate, 1.0))
        found: list[ShadowAnswer] = []
        while self._queue:
            found += self._compared(*self._queue.popleft())
        if found:
            try:
                self._sink(found)
                self._observer.compared("compared", len(found))
            except StoreFault as fault:
                log.warning("%d comparisons were not stored: %s", len(found), fault)
                self._dropped += len(found)
        for name in ("skipped", "dropped"):
            if number := getattr(self, f"_{name}"):
                setattr(self, f"_{name}", 0)
                self._observer.compared(name, number)

    def _compared(self, slot: Slot, rows: Checked, when: When, taken: int) -> list[ShadowAnswer]:
        other = self._slots.other(slot)
        if other is None:  # it has gone meanwhile
            return []
        version = other.release.version
        categories, texts = (
            [values[:taken] for values in columns.values()]
            for columns in (rows.categories, rows.texts)
        )
        try:
            if not reads(other, rows):
                raise ValueError(f"it reads other columns: {', '.join(other.order)[:200]}")
            found, _ = other.score(rows.numbers[:taken], categories, texts)
        except Exception as fault:
            log.warning("version %s cannot answer what others do: %s", version, fault)
            self._counter.count(self._clock(), "shadow", version, 500)
            self._observer.compared("failed", taken)
            return []
        self._counter.count(self._clock(), "shadow", version, 200, taken)
        times: Sequence[Any] = (
            [datetime.fromtimestamp(when, UTC)] * taken if isinstance(when, float) else when
        )
        return [
            ShadowAnswer(self._stored_id(id_), time, version, tuple(row))
            for id_, time, row in zip(rows.ids[:taken], times[:taken], found.tolist(), strict=True)
        ]
