"""Everything that is measured on one window, from frames and settings alone.

No store, no config file, no clock: a check, a replay and a benchmark measure the same way. Each
detector is guarded. One that raises gives a signal that could not speak, with the fault as its
reason; it never ends the check, and it never reads as 'no drift'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from monitoring.records import Kind, Signal, Signals, Value, Window
from monitoring.rules import Rules, Threshold

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

LATENCY = "latency_p95_ms"
LEVEL = 0.001  # of a drift test for which neither rule nor budget says one


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was gathered about one window and its champion; frames as `TelemetryStore.rows` has.

    `reference` holds the inputs of rows that the champion learnt from, `current` those of the
    window with `latency_ms`, `matured` the champion's rows whose label is due, with `label` and
    `proba`. `baseline` are the champion's metrics at the gate.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    matured: pd.DataFrame
    baseline: Mapping[str, float] = field(default_factory=dict)
    new_labels: int = 0  # labelled rows that the champion has not learnt from
    trained_rows: int = 0  # those that it has
    last_label: datetime | None = None  # when the newest label came, or the champion was made


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure: what the config says, the same for every window of a model."""

    columns: Mapping[str, str]  # name -> 'number' or 'category'
    classes: Sequence[Value]  # in the order of `proba`
    thresholds: Sequence[Threshold] = ()
    rules: Rules = field(default_factory=Rules)
    levels: Mapping[timedelta, float] = field(default_factory=dict)  # of the drift tests of this
    # check, by length of window; without one for the window's length, `rules.drift_p_value`
    confidence: float = 0.95
    minimum_rows: int = 200
    minimum_labels: int = 200
    mmd_rows: int = 500  # of each side that enter the MMD test
    permutations: int = 999
    seed: int = 0


def measure(window: Window, evidence: Evidence, settings: Settings, now: datetime) -> Signals:
    """Every detector's word about `window` at `now`."""
    items = (
        *drift(evidence.reference, evidence.current, settings),
        *_performance(evidence, settings),
        *_latency(evidence, settings),
        *_labels(window, evidence, settings, now),
    )
    return Signals(window, items)


def guarded(
    name: str, kind: Kind, detector: Callable[[], Signal | Iterable[Signal]]
) -> tuple[Signal, ...]:
    """What `detector` says; a silent signal of `name` and `kind` with the reason if it raises."""
    try:
        found = detector()
        return (found,) if isinstance(found, Signal) else tuple(found)
    except Exception as fault:
        _log.exception("the detector %s failed", name)
        return (Signal(name, kind, None, reason=f"it failed: {type(fault).__name__}: {fault}"),)


def drift(reference: pd.DataFrame, current: pd.DataFrame, settings: Settings) -> tuple[Signal, ...]:
    """The two witnesses of drift: all columns together, and each by itself."""
    from monitoring.drift import mmd_signal
    from monitoring.reports import drift_report

    columns = dict(settings.columns)
    return (
        *guarded(
            "mmd",
            Kind.DRIFT,
            lambda: mmd_signal(
                reference,
                current,
                columns,
                p_value=settings.rules.drift_p_value or LEVEL,
                permutations=settings.permutations,
                rows=settings.mmd_rows,
                seed=settings.seed,
                minimum_rows=settings.minimum_rows,
            ),
        ),
        *guarded(
            "evidently",
            Kind.DRIFT,
            lambda: drift_report(
                reference,
                current,
                columns,
                share=settings.rules.drifted_share,
                minimum_rows=settings.minimum_rows,
            ),
        ),
    )


def _performance(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    from monitoring.performance import performance_signals

    return guarded(
        "performance",
        Kind.PERFORMANCE,
        lambda: performance_signals(
            evidence.matured,
            tuple(settings.classes),
            tuple(t for t in settings.thresholds if t.metric != LATENCY),
            evidence.baseline,
            confidence=settings.confidence,
            minimum_labels=settings.minimum_labels,
            seed=settings.seed,
        ),
    )


def _latency(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    from monitoring.latency import latency_signals

    def detector() -> tuple[Signal, ...]:
        frame = evidence.current
        known = frame["latency_ms"] if "latency_ms" in frame else np.empty(0)
        return latency_signals(
            np.asarray(known, dtype=np.float64),
            tuple(t for t in settings.thresholds if t.metric == LATENCY),
            confidence=settings.confidence,
        )

    return guarded(LATENCY, Kind.LATENCY, detector)


def _labels(
    window: Window, evidence: Evidence, settings: Settings, now: datetime
) -> tuple[Signal, ...]:
    from monitoring.performance import label_signal

    return guarded(
        "labels",
        Kind.LABELS,
        lambda: label_signal(
            window.coverage,
            new_labels=evidence.new_labels,
            trained_rows=evidence.trained_rows,
            last_arrival=evidence.last_label,
            now=now,
            rules=settings.rules,
            rows=window.rows,
            thresholds=settings.thresholds,
            confidence=settings.confidence,
        ),
    )
