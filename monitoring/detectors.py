"""Each detector on the evidence but those of drift, guarded: one function per kind of signal."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring.evidence import LATENCY, LEVEL, Evidence, Settings, guarded, level_of
from monitoring.records import Kind, Signal, Window

if TYPE_CHECKING:
    import pandas as pd


_KNOWN = 5_000  # rows with labels that estimates without labels rest on


def schema(evidence: Evidence, settings: Settings, length: timedelta) -> tuple[Signal, ...]:
    from monitoring.schema import schema_signals

    return guarded(
        "schema",
        Kind.SCHEMA,
        lambda: schema_signals(
            evidence.reference,
            evidence.current,
            settings.inputs,
            level=level_of(settings, length) or LEVEL,
            minimum_rows=min(settings.minimum_rows, 20),
        ),
    )


def predictions(evidence: Evidence, settings: Settings, length: timedelta) -> tuple[Signal, ...]:
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
            times=_times(evidence.current),
            reference_times=_times(proof),
        ),
    )


def _times(frame: pd.DataFrame) -> pd.Series | None:
    return frame.get("time")


def _probabilities(frame: pd.DataFrame, classes: int) -> NDArray[np.float64]:
    """The answers as (rows, classes); a row without as many probabilities is NaN."""
    rows = frame["proba"].tolist() if "proba" in frame else []
    nothing = np.full(classes, np.nan)
    fit = [row if row is not None and np.size(row) == classes else nothing for row in rows]
    return np.asarray(fit, dtype=np.float64).reshape(-1, classes)


def performance(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
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
            block=settings.performance_block,
            proof=evidence.proof,
            label_delay=settings.label_delay,
        ),
    )


def slices(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    """Realised performance by the values of some columns."""
    from monitoring.slices import slice_signals

    if not settings.slices and not settings.slice_thresholds:
        return ()
    frame = evidence.reference if evidence.proof is None else evidence.proof
    return guarded(
        "performance[slices]",
        Kind.PERFORMANCE,
        lambda: slice_signals(
            evidence.matured,
            frame,
            dict(settings.columns),
            settings.slices,
            settings.classes,
            settings.slice_thresholds,
            confidence=settings.confidence,
            seed=settings.seed,
            block=settings.performance_block,
        ),
    )


def estimates(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    """Performance without labels, and whether earlier estimates were right."""
    from monitoring.unlabelled import estimate_signals, track_record

    known = _known(evidence, settings)
    if known is None or not settings.estimate:
        return ()
    found = guarded(
        "estimated_performance",
        Kind.ESTIMATE,
        lambda: estimate_signals(
            known,
            evidence.current,
            settings.inputs,
            settings.classes,
            settings.thresholds,
            evidence.baseline,
            confidence=settings.confidence,
            seed=settings.seed,
            minimum_rows=settings.minimum_rows,
        ),
    )
    record = guarded(
        "estimate_error",
        Kind.ESTIMATE,
        lambda: track_record(
            {window: said for window, (said, _) in evidence.earlier.items()},
            {window: was for window, (_, was) in evidence.earlier.items()},
            confidence=settings.confidence,
        ),
    )
    return *found, *record


def _known(evidence: Evidence, settings: Settings) -> pd.DataFrame | None:
    """Rows that the champion answered without having learnt them, and their labels, oldest first.

    The gate's, and behind them those whose labels have come since: what the probabilities have come
    to mean lately is the best word on what they mean now.
    """
    if evidence.proof is None:
        return None
    import pandas as pd

    named = [*settings.inputs, "label", "proba", "time"]
    frames = [evidence.proof]
    if {"label", "proba"} <= set(evidence.matured):
        frames.append(evidence.matured[evidence.matured["label"].notna()])
    kept = [frame[[n for n in named if n in frame]] for frame in frames if len(frame)]
    if not kept:
        return evidence.proof
    shared = [n for n in kept[0] if all(n in frame for frame in kept)]
    return pd.concat([f[shared].astype({"label": object}) for f in kept]).tail(_KNOWN)


def recency(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    """Whether newer rows teach a better model than those that the champion has learnt."""
    from monitoring.recency import recency_signals

    proxies = evidence.proxies
    if proxies is None:
        return ()
    return guarded(
        "recency_gain",
        Kind.PERFORMANCE,
        lambda: recency_signals(
            *proxies,
            confidence=max(settings.confidence, 0.999),  # neighbouring checks share most rows
            minimum_rows=settings.minimum_labels,
            most=_lost(evidence, settings),
        ),
    )


def _lost(evidence: Evidence, settings: Settings) -> float | None:
    """The champion's log loss on rows whose label has come, or else at the gate."""
    from monitoring.labelled import labelled_rows

    if {"label", "proba"} <= set(evidence.matured):
        rows = labelled_rows(evidence.matured, list(settings.classes))
        if len(rows.codes) >= max(settings.minimum_labels, 1):
            picked = rows.proba[np.arange(len(rows.codes)), rows.codes]
            return float(-np.log(np.clip(picked, 1e-12, 1.0)).mean())
    return evidence.baseline.get("log_loss")


def probation(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
    """A new champion against the one before it."""
    from monitoring.probation import NAME, probation_signal

    given = evidence.probation
    if given is None:
        return ()
    return guarded(
        NAME,
        Kind.PROBATION,
        lambda: probation_signal(
            given,
            tuple(settings.classes),
            proof=evidence.proof,
            minimum_labels=settings.minimum_labels,
            seed=settings.seed,
        ),
    )


def latency(evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
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


def service(window: Window, evidence: Evidence, settings: Settings) -> tuple[Signal, ...]:
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


def labels(
    window: Window, evidence: Evidence, settings: Settings, now: datetime
) -> tuple[Signal, ...]:
    from monitoring.labels import delay_signal, prior_signal
    from monitoring.performance import label_signal

    proof, delay = evidence.proof, settings.label_delay
    said = guarded(
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
    if "label_arrived" in evidence.matured and delay:
        said += guarded(
            "label_delay_hours",
            Kind.LABELS,
            lambda: delay_signal(
                evidence.matured,
                now,
                2 * delay,
                label_delay=delay,
                confidence=settings.confidence,
            ),
        )
    if proof is not None and "label" in evidence.matured:
        said += guarded(
            "label_prior",
            Kind.LABELS,
            lambda: prior_signal(
                proof["label"],
                evidence.matured["label"],
                settings.classes,
                level=level_of(settings, window.end - window.start) or LEVEL,
                confidence=settings.confidence,
                minimum_labels=settings.minimum_labels,
                times=_times(evidence.matured),
                reference_times=_times(proof),
            ),
        )
    return said
