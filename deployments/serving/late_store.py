"""The telemetry store as the server has it: opened when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from monitoring.recording import Recording
from monitoring.records import Label, LabelResult, RequestCount
from monitoring.storage import Database
from monitoring.telemetry import Recorded, TelemetryStore


class LateStore:
    """A server starts, and answers, while its store is down; until then every call raises
    StoreFault. When it is opened, what `recording` keeps is noted in it."""

    def __init__(self, url: str, recording: Recording, clock: Callable[[], datetime]) -> None:
        self._url = url
        self._recording = recording
        self._since = clock()
        self._store: TelemetryStore | None = None
        self._opening = threading.Lock()

    @property
    def opened(self) -> TelemetryStore:
        """The store. Raises StoreFault."""
        store = self._store
        if store is None:
            with self._opening:
                if self._store is None:
                    store = TelemetryStore(self._url)
                    try:
                        store.save_recording(self._recording, self._since)
                    except BaseException:
                        store.close()
                        raise
                    self._store = store
                return self._store
        return store

    @property
    def database(self) -> Database:
        return self.opened.database

    def record_encoded(self, batch: bytes, rows: int) -> Recorded:
        return self.opened.record_encoded(batch, rows)

    def record_counts(self, batch: Sequence[RequestCount]) -> None:
        self.opened.record_counts(batch)

    def label(self, batch: Iterable[Label]) -> list[LabelResult]:
        """Labels by the ids that their senders know; they are found by those that are stored.

        One whose prediction is not in the sample is kept, too, and is UNSAMPLED: none of these will
        ever be joined, and none is its sender's fault.
        """
        recording = self._recording
        found = [Label(recording.stored_id(x.id), x.value, x.arrived) for x in batch]
        results = self.opened.label(found)
        return [
            LabelResult.UNSAMPLED
            if result is LabelResult.UNKNOWN and not recording.keeps(label.id)
            else result
            for label, result in zip(found, results, strict=True)
        ]

    def close(self) -> None:
        with self._opening:
            if self._store is not None:
                self._store.close()
