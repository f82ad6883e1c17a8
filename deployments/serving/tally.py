"""Counts of requests, gathered without a lock in the event loop and handed over in bulk."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from deployments.serving.metrics import SECONDS, Metrics
from deployments.serving.telemetry_writer import TelemetryWriter

_EVERY = 0.1  # seconds; the counts of a worker that is killed lack as much


class Kind(NamedTuple):
    """What is counted apart."""

    route: str
    status: int
    version: str


class Counts:
    """Requests of one kind since the last time."""

    __slots__ = ("buckets", "requests", "rows", "seconds")

    def __init__(self) -> None:
        self.requests = 0
        self.rows = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(SECONDS) + 1)  # requests by time; the last is above all bounds


class Tally:
    """Used from the event loop's thread alone. `stored` are the routes that the telemetry store
    counts too: those that ask the model or bring labels."""

    def __init__(
        self,
        metrics: Metrics,
        writer: TelemetryWriter,
        clock: Callable[[], datetime],
        stored: frozenset[str],
    ) -> None:
        self._metrics = metrics
        self._writer = writer
        self._clock = clock
        self._stored = stored
        self._counts: dict[tuple[str, int, str], Counts] = {}
        self._due = False

    def add(self, route: str, status: int, version: str, seconds: float, rows: int) -> None:
        """Count one request that took so long and had so many rows answered."""
        counts = self._counts.get((route, status, version))
        if counts is None:
            counts = self._counts[Kind(route, status, version)] = Counts()
        counts.requests += 1
        counts.rows += rows
        counts.seconds += seconds
        counts.buckets[bisect_left(SECONDS, seconds)] += 1
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_EVERY, self.hand_over)

    def hand_over(self) -> None:
        """Bring what was counted into the metrics and to the telemetry writer."""
        self._due = False
        taken, self._counts = self._counts, {}
        now = self._clock()
        for (route, status, version), counts in taken.items():
            self._metrics.answered(route, status, counts.buckets, counts.seconds)
            if counts.rows:
                self._metrics.predicted(version, counts.rows)
            if route in self._stored:
                self._writer.count(now, route, version, status, counts.rows, counts.requests)
