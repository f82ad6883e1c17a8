"""What the server counts, in Prometheus' text format.

With several workers each keeps its own figures; `PROMETHEUS_MULTIPROC_DIR`, set by
`deployments.serving.run`, adds them up at `/metrics`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

FOLDER = "EVERFIT_WORKERS"  # the environment's name for the folder where workers are told of
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Histogram(Histogram):
    def add(self, buckets: Sequence[int], seconds: float) -> None:
        """Many observations at once: how many fell into each bucket, and their sum."""
        self._sum.inc(seconds)
        for bucket, number in zip(self._buckets, buckets, strict=True):
            if number:
                bucket.inc(number)


class Metrics:
    """One set for each application."""

    def __init__(self) -> None:
        # decided anew: in a worker the variable was set after the supervisor's import
        values.ValueClass = values.get_value_class()
        registry = CollectorRegistry()
        registry.register(Workers())
        self._registry = registry
        self._seconds = _Histogram(
            "everfit_request_seconds",
            "Time from a request's first byte to its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self._requests = Counter(
            "everfit_requests", "Requests by status.", ["endpoint", "status"], registry=registry
        )
        self._inside = Gauge(
            "everfit_requests_inside",
            "Requests that are being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._rows = Counter(
            "everfit_predictions", "Answered rows.", ["version"], registry=registry
        )
        self._unknown = Counter(
            "everfit_unknown_categories",
            "Category values the model was not trained with.",
            ["column"],
            registry=registry,
        )
        self._ignored = Counter(
            "everfit_ignored_columns",
            "Columns sent that the model doesn't know, once a request.",
            registry=registry,
        )
        self._labels = Counter("everfit_labels", "Labels by result.", ["result"], registry=registry)
        self._version = Gauge(
            "everfit_serving_version",
            "1 for the version that answers.",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._runtime = Gauge(
            "everfit_serving_runtime",
            "1 for what the version that answers runs on: onnx, or native without an ONNX form.",
            ["version", "runtime"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._runs: tuple[str, str] | None = None
        self._swaps = Counter("everfit_swaps", "Versions that took over.", registry=registry)
        self._compared = Counter(
            "everfit_shadow_rows",
            "Rows a second version was to answer too: compared, skipped, dropped or failed.",
            ["result"],
            registry=registry,
        )
        self._canary_faults = Counter(
            "everfit_canary_faults",
            "Requests that a canary could not answer; the champion did.",
            ["version"],
            registry=registry,
        )
        self._load_failures = Counter(
            "everfit_load_failures",
            "Versions that could not be loaded or failed their own example.",
            ["version"],
            registry=registry,
        )
        self._registry_failures = Counter(
            "everfit_registry_failures", "Looks at a registry that failed.", registry=registry
        )
        self._registry_seen = Gauge(
            "everfit_registry_seen_timestamp_seconds",
            "When the registry last answered.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._written = Counter(
            "everfit_telemetry_written_rows", "Rows in the telemetry store.", registry=registry
        )
        self._dropped = Counter(
            "everfit_telemetry_dropped_rows",
            "Answered rows that never reached the telemetry store.",
            registry=registry,
        )
        self._unsampled = Counter(
            "everfit_telemetry_unsampled_rows",
            "Answered rows that are not in the sample that is stored.",
            registry=registry,
        )
        self._store_failures = Counter(
            "everfit_telemetry_store_failures", "Writes the store refused.", registry=registry
        )
        self._pending = Gauge(
            "everfit_telemetry_pending_rows",
            "Rows in memory on their way to the telemetry store.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._spooled = Gauge(
            "everfit_telemetry_spooled_rows",
            "Rows on disk that wait for the telemetry store.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def answered(self, endpoint: str, status: int, buckets: Sequence[int], seconds: float) -> None:
        """Requests answered alike: how many by their time, see `SECONDS`, and seconds in all."""
        self._requests.labels(endpoint, str(status)).inc(sum(buckets))
        self._seconds.labels(endpoint).add(buckets, seconds)

    def predicted(self, version: str, rows: int) -> None:
        self._rows.labels(version).inc(rows)

    def answered_rows(self, version: str) -> int:
        """Rows that this process has answered with `version`."""
        return int(self._rows.labels(version)._value.get())

    def strange(self, unknown: Mapping[str, int], ignored: int) -> None:
        for column, number in unknown.items():
            self._unknown.labels(column).inc(number)
        if ignored:
            self._ignored.inc(ignored)

    def inside(self, requests: int) -> None:
        self._inside.set(requests)

    def labelled(self, results: Mapping[str, int]) -> None:
        for result, number in results.items():
            self._labels.labels(result).inc(number)

    def swapped(self, version: str, old: str | None, runtime: str = "native") -> None:
        if self._runs is not None:
            self._runtime.labels(*self._runs).set(0)
        self._runs = version, runtime
        self._runtime.labels(*self._runs).set(1)
        if old is not None:
            self._version.labels(old).set(0)
        self._version.labels(version).set(1)
        self._swaps.inc()

    def compared(self, result: str, rows: int) -> None:
        self._compared.labels(result).inc(rows)

    def canary_failed(self, version: str) -> None:
        self._canary_faults.labels(version).inc()

    def load_failed(self, version: str) -> None:
        self._load_failures.labels(version).inc()

    def registry_failed(self) -> None:
        self._registry_failures.inc()

    def registry_seen(self) -> None:
        self._registry_seen.set(time.time())

    def written(self, rows: int) -> None:
        self._written.inc(rows)

    def dropped(self, rows: int) -> None:
        self._dropped.inc(rows)

    def unsampled(self, rows: int) -> None:
        if rows:
            self._unsampled.inc(rows)

    def spooled(self, rows: int) -> None:
        self._spooled.set(rows)

    def store_failed(self) -> None:
        self._store_failures.inc()

    def pending(self, rows: int) -> None:
        self._pending.set(rows)

    def text(self) -> bytes:
        """All figures, over all workers where there are several."""
        registry = self._registry
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            _forget_the_dead(Path(folder))
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            registry.register(Workers())
        return generate_latest(registry)


class Workers(Collector):
    """What the supervisor has noted of the workers; nothing where none supervises."""

    def collect(self) -> Iterator[Metric]:
        try:
            with open(os.path.join(os.environ[FOLDER], "state.json"), encoding="utf-8") as file:
                state = json.load(file)
        except (KeyError, OSError, ValueError):
            return
        workers = GaugeMetricFamily("everfit_workers", "Worker processes.", labels=["state"])
        workers.add_metric(["wanted"], state["workers"])
        workers.add_metric(["alive"], state["alive"])
        yield workers
        restarts = CounterMetricFamily(
            "everfit_worker_restarts", "Workers that were started anew, and why.", labels=["reason"]
        )
        for reason, number in state["restarts"].items():
            restarts.add_metric([reason], number)
        yield restarts


def _forget_the_dead(folder: Path) -> None:
    """A killed worker's gauges speak of nobody; its counters stay, they happened."""
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:  # alive, and another user's
            continue
