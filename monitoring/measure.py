"""Everything that is measured on one window, from frames and settings alone.

No store, no config file, no clock: a check, a replay and a benchmark measure the same way. Each
detector is guarded. One that raises gives a signal that could not speak, with the fault as its
reason; it never ends the check, and it never reads as 'no drift'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring.records import Kind, RequestCount, Signal, Signals, Value, Window
from monitoring.rules import Rules, Threshold
from monitoring.wording import short

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

LATENCY = "latency_p95_ms"
LEVEL = 0.001  # of a test for which neither rule nor budget says one


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was gathered about one window and its champion; frames as `TelemetryStore.rows` has.

    `reference` holds the inputs of rows that the champion learnt from, `current` those of the
    window with `proba` and `latency_ms`, `matured` the champion's rows whose label is due, with
    `label` and `proba`. `baseline` are the champion's metrics at the gate, and `proof` the rows
    that gave them: inputs, `label` and the champion's `proba` on rows it has not learnt.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    matured: pd.DataFrame
    baseline: Mapping[str, float] = field(default_factory=dict)
    new_labels: int = 0  # labelled rows that the champion has not learnt from
    trained_rows: int = 0  # those that it has
    last_label: datetime | None = None  # when the newest label came, or the champion was made
    longer: Mapping[timedelta, pd.DataFrame] = field(default_factory=dict)  # rows of longer windows
    # that end with this one, for slow drift
    proof: pd.DataFrame | None = None
    counts: Sequence[RequestCount] | None = None  # of the window; None: nobody counts requests
    usual_counts: Sequence[RequestCount] = ()  # of the time before it


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure: what the config says, the same for every window of a model."""

    columns: Mapping[str, str]  # name -> 'number' or 'category'
    classes: Sequence[Value]  # in the order of `proba`
    thresholds: Sequence[Threshold] = ()
    rules: Rules = field(default_factory=Rules)
    levels: Mapping[timedelta, float] | None = None  # of this check, by length of window, from the
    # error budget: a length that is not in it is not due. `rules.drift_p_value` wins; None: LEVEL
    confidence: float = 0.95
    minimum_rows: int = 200
    minimum_labels: int = 200
    mmd_rows: int = 500  # of each side that enter the MMD test
    permutations: int = 999
    seed: int = 0


def measure(window: Window, evidence: Evidence, settings: Settings, now: datetime) -> Signals:
    """Every detector's word about `window` at `now`."""
    length = window.end - window.start
    items = list(drift(evidence.reference, evidence.current, settings, length))
    for longer, frame in evidence.longer.items():
        if level_of(settings, longer) is not None:
            items += drift(evidence.reference, frame, settings, longer, f"@{short(longer)}")
    items += _schema(evidence, settings, length)
    items += _predictions(evidence, settings, length)
    items += _performance(evidence, settings)
    items += _latency(evidence, settings)
    items += _service(window, evidence, settings)
    items += _labels(window, evidence, settings, now)
    return Signals(window, tuple(items))


def level_of(settings: Settings, length: timedelta) -> float | None:
    """The level at which a window of `length` is tested now; None when it is not due."""
    if settings.rules.drift_p_value is not None:
        return settings.rules.drift_p_value
    return LEVEL if settings.levels is None else settings.levels.get(length)


def lengths_tested(signals: Signals) -> tuple[timedelta, ...]:
    """The lengths of window whose drift test spoke: what the error budget pays for."""
    return tuple(
        timedelta(seconds=s.detail["window_seconds"])
        for s in signals.of(Kind.DRIFT)
        if s.name.partition("@")[0] == "mmd" and s.breached is not None
    )


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


def drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    settings: Settings,
    length: timedelta,
    suffix: str = "",
) -> tuple[Signal, ...]:
    """The two witnesses of drift: all columns together, and each by itself.

    `length` is the window's, and `suffix` is added to the names: 'mmd@7d'.
    """
    from monitoring.drift import mmd_signal
    from monitoring.effects import distances
    from monitoring.reports import drift_report

    columns, level = dict(settings.columns), level_of(settings, length)

    def together() -> Signal:
        if level is None:
            reason = f"it was tested less than an eighth of {short(length)} ago"
            return Signal("mmd", Kind.DRIFT, None, rows=len(current), reason=reason)
        found = mmd_signal(
            reference,
            current,
            columns,
            p_value=level,
            permutations=settings.permutations,
            rows=settings.mmd_rows,
            seed=settings.seed,
            minimum_rows=settings.minimum_rows,
        )
        paid = {"level": level, "window_seconds": length.total_seconds()}
        return replace(found, detail={**found.detail, **paid})

    def apart() -> Signal:
        found = drift_report(
            reference,
            current,
            columns,
            share=settings.rules.drifted_share,
            minimum_rows=settings.minimum_rows,
        )
        if found.breached is None:
            return found
        moved = distances(reference, current, columns)
        detail = {"effect": max(moved.values(), default=0.0), "distances": moved}
        return replace(found, detail={**found.detail, **detail})

    both = (*guarded("mmd", Kind.DRIFT, together), *guarded("evidently", Kind.DRIFT, apart))
    return tuple(replace(s, name=s.name + suffix) for s in both)


def _schema(evidence: Evidence, settings: Settings, length: timedelta) -> tuple[Signal, ...]:
    from monitoring.schema import schema_signals

    return guarded(
        "schema",
        Kind.SCHEMA,
        lambda: schema_signals(
            evidence.reference,
            evidence.current,
            dict(settings.columns),
            level=level_of(settings, length) or LEVEL,
            minimum_rows=min(settings.minimum_rows, 20),
        ),
    )


def _predictions(evidence: Evidence, settings: Settings, length: timedelta) -> tuple[Signal, ...]:
    from monitoring.outputs import prediction_signal

    if evidence.proof is None:
        return ()
    proof, classes = evidence.proof, len(settings.classes)
    return guarded(
        "predictions",
        Kind.PREDICTIONS,
        lambda: prediction_signal(
            _probabilities(proof, classes),
            _probabilities(evidence.current, classes),
            settings.classes,
            level=level_of(settings, length) or LEVEL,
            minimum_rows=settings.minimum_rows,
        ),
    )


def _probabilities(frame: pd.DataFrame, classes: int) -> NDArray[np.float64]:
    """The answers as (rows, classes); a row without as many probabilities is NaN."""
    rows = frame["proba"].tolist() if "proba" in frame else []
    nothing = np.full(classes, np.nan)
    fit = [row if row is not None and np.size(row) == classes else nothing for row in rows]
    return np.asarray(fit, dtype=np.float64).reshape(-1, classes)


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


def _service(window: Window, evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    from monitoring.service import service_signals

    counts = evidence.counts
    if counts is None:
        return ()
    return guarded(
        "service",
        Kind.SERVICE,
        lambda: service_signals(
            counts,
            evidence.usual_counts,
            settings.thresholds,
            start=window.start,
            end=window.end,
            confidence=settings.confidence,
        ),
    )


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
