"""Realised performance from late labels, and how the labels themselves come in.

An interval goes with every figure, and a threshold is breached only when the whole interval lies
beyond it. Too few labels is an answer of its own: `breached` is None and `reason` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.estimates import Interval, bootstrap, judge, wilson
from monitoring.latency import latency_signals
from monitoring.records import Kind, Signal, Value
from monitoring.rules import Rules, Threshold
from monitoring.wording import span

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "HIGHER_IS_BETTER",
    "LabelledRows",
    "class_codes",
    "figures",
    "label_signal",
    "labelled_rows",
    "latency_signals",
    "performance_signals",
]

HIGHER_IS_BETTER = {
    "accuracy": True,
    "error": False,
    "log_loss": False,
    "roc_auc": True,
    "calibration_gap": False,
}


def performance_signals(
    frame: pd.DataFrame,
    classes: Sequence[Value],
    thresholds: Sequence[Threshold],
    baseline: Mapping[str, float],
    *,
    confidence: float = 0.95,
    minimum_labels: int = 200,
    seed: int = 0,
    resamples: int = 1_000,
) -> tuple[Signal, ...]:
    """One signal per threshold on a metric of labelled rows, and log loss in any case.

    `frame` has the columns `label` (None or NaN where it has not come) and `proba` (a sequence of
    probabilities in the order of `classes`); rows without a label are left out, and rows whose
    label or probabilities cannot be read are counted in `detail["set_aside"]`. Accuracy and error
    have Wilson intervals, log loss, ROC AUC (one class against the rest, macro) and the calibration
    gap bootstrap percentiles over rows. `baseline` holds the champion's figures at the gate, for
    `worse_by`; they are taken as they are, without an interval of their own. Thresholds on other
    metrics are passed over. Raises WindowFault when a column is missing.
    """
    rows = labelled_rows(frame, list(classes))
    count = len(rows.codes)
    wanted: list[tuple[str, Threshold | None]] = [
        (t.metric, t) for t in thresholds if t.metric in HIGHER_IS_BETTER
    ]
    if all(metric != "log_loss" for metric, _ in wanted):
        wanted.append(("log_loss", None))  # for the record: no threshold, so never a breach
    enough = count >= max(minimum_labels, 1)
    names = [metric for metric, _ in wanted]
    found = figures(rows, names, confidence, seed, resamples) if enough else {}
    signals = []
    for number, (metric, threshold) in enumerate(wanted):
        before = names[:number].count(metric)
        interval, breached, reason, detail = found.get(metric), None, "", dict[str, Any]()
        if not enough:
            reason = f"{count:,} labelled rows; at least {minimum_labels:,} are needed"
        elif interval is None:
            reason = f"the labels of {count:,} rows are all of one class, so it is not defined"
        elif threshold is None:
            breached = False
        else:
            better = HIGHER_IS_BETTER[metric]
            breached, reason, detail = judge(
                interval, threshold, baseline.get(metric), higher_is_better=better
            )
        if metric in baseline:
            detail["baseline"] = baseline[metric]
        if rows.set_aside:
            detail["set_aside"] = rows.set_aside
        signals.append(
            Signal(
                metric if not before else f"{metric}-{before + 1}",
                Kind.PERFORMANCE,
                breached,
                value=interval and interval.value,
                low=interval and interval.low,
                high=interval and interval.high,
                threshold=str(threshold or ""),
                rows=count,
                reason=reason,
                detail=detail,
            )
        )
    return tuple(signals)


class LabelledRows(NamedTuple):
    """Probabilities and true classes of the rows whose label could be read."""

    proba: NDArray[np.float64]  # (n, k)
    codes: NDArray[np.int64]  # (n,)
    set_aside: int  # labelled rows that could not be read


def class_codes(labels: Iterable[Value], classes: Sequence[Value]) -> list[int | None]:
    """Each label's place in `classes`, by value or by its text; None for another value.

    >>> class_codes([1, "0", 2], (0, 1))
    [1, 0, None]
    """
    codes_of: dict[Value, int] = {str(value): code for code, value in enumerate(classes)}
    codes_of |= {value: code for code, value in enumerate(classes)}
    return [codes_of.get(label, codes_of.get(str(label))) for label in labels]


def labelled_rows(frame: pd.DataFrame, classes: Sequence[Value]) -> LabelledRows:
    """The rows of `frame` with a label (columns `label` and `proba`), made ready to be measured."""
    missing = [name for name in ("label", "proba") if name not in frame]
    if missing:
        raise WindowFault(
            f"a frame of predictions has the columns label and proba; {missing} missing, got "
            f"{list(frame.columns)[:10]}: read it with TelemetryStore.rows"
        )
    codes, probabilities, set_aside = [], [], 0
    labelled = frame.loc[frame["label"].notna(), ["label", "proba"]]
    found = class_codes(labelled["label"].tolist(), classes)
    for code, row in zip(found, labelled["proba"].tolist(), strict=True):
        if code is None or row is None or np.size(row) != len(classes):
            set_aside += 1
        else:
            codes.append(code)
            probabilities.append(row)
    proba = np.asarray(probabilities, dtype=np.float64).reshape(-1, len(classes))
    read = np.isfinite(proba).all(axis=1)
    return LabelledRows(
        proba[read], np.asarray(codes, dtype=np.int64)[read], set_aside + int((~read).sum())
    )


def figures(
    rows: LabelledRows, metrics: Sequence[str], confidence: float, seed: int, resamples: int
) -> dict[str, Interval]:
    """Each of `metrics` with its interval; one that the rows do not define is left out."""
    n = len(rows.codes)
    right = int((rows.proba.argmax(axis=1) == rows.codes).sum())
    found = {"accuracy": wilson(right, n, confidence), "error": wilson(n - right, n, confidence)}
    sampled = [m for m in dict.fromkeys(metrics) if m not in found]
    if not sampled:
        return found
    return found | bootstrap(
        rows.proba, rows.codes, sampled, confidence=confidence, seed=seed, resamples=resamples
    )


def label_signal(
    coverage: float,
    new_labels: int,
    trained_rows: int,
    last_arrival: datetime | None,
    now: datetime,
    rules: Rules,
    *,
    rows: int = 0,
    thresholds: Sequence[Threshold] = (),
    confidence: float = 0.95,
) -> Signal:
    """How the labels come in: breached when none has come for longer than `rules.label_silence`.

    `coverage` is the share of the window's `rows` whose label has come, `new_labels` the labelled
    rows that the champion has not learnt from, `trained_rows` those that it has. A threshold on
    `label_coverage` is held against Wilson's interval of the coverage.
    """
    silent_for = None if last_arrival is None else (now - last_arrival).total_seconds()
    detail: dict[str, Any] = {
        "new_labels": new_labels,
        "trained_rows": trained_rows,
        "growth": new_labels / trained_rows if trained_rows else None,
        "silent_for_seconds": silent_for,
    }
    found = wilson(round(coverage * rows), rows, confidence) if rows else None
    limits = [t for t in thresholds if t.metric == "label_coverage"]
    low = [t for t in limits if found and judge(found, t, None, higher_is_better=True)[0]]
    silence, breached, reason = rules.label_silence, False, ""
    if silence is not None and last_arrival is not None and now - last_arrival > silence:
        breached = True
        reason = f"no label for {span(now - last_arrival)}; at most {span(silence)} are allowed"
    elif low:
        breached, reason = True, f"label coverage {coverage:.1%} of {rows:,} rows: {low[0]}"
    silent = silence is not None and last_arrival is None
    return Signal(
        "labels",
        Kind.LABELS,
        None if silent and not breached else breached,
        value=coverage,
        low=found and found.low,
        high=found and found.high,
        threshold=" or ".join(
            ([f"no label for {span(silence)}"] if silence else []) + [str(t) for t in limits]
        ),
        rows=rows,
        reason=reason or ("no label has ever come" if silent else ""),
        detail=detail,
    )
