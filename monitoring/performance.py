"""Realised performance from late labels, and how the labels themselves come in.

An interval goes with every figure, and a threshold is breached only when the whole interval lies
beyond it. Too few labels is an answer of its own: `breached` is None and `reason` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring.estimates import Interval, judge, wilson
from monitoring.harm import GUESS, guessing
from monitoring.labelled import (
    HIGHER_IS_BETTER,
    LabelledRows,
    at_the_gate,
    class_codes,
    figures,
    labelled_rows,
)
from monitoring.latency import latency_signals
from monitoring.records import Kind, Signal, Value
from monitoring.rules import Rules, Threshold
from monitoring.wording import short, span

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
    block: timedelta | None = None,
    proof: pd.DataFrame | None = None,
    label_delay: timedelta = timedelta(0),
) -> tuple[Signal, ...]:
    """One signal per threshold on a metric of labelled rows, and log loss in any case.

    `frame` has the columns `label` (None or NaN where it has not come) and `proba` (a sequence of
    probabilities in the order of `classes`); rows without a label are left out, and rows whose
    label or probabilities cannot be read are counted in `detail["set_aside"]`. Accuracy and error
    have Wilson intervals, log loss, ROC AUC (one class against the rest, macro) and the calibration
    gap bootstrap percentiles over rows. Thresholds on other metrics are passed over.

    With a `block`, rows of so long a stretch of the frame's `time` may be alike, as those of a day
    are, and the intervals are over whole stretches: wider, often several times, and with fewer than
    eight of them wider still (`estimates.bootstrap`, `share_of`): of a week of flights with days as
    blocks, the log loss has an interval nine times as wide as of rows, and of three days sixteen
    times. Where there are no times, or only one stretch, no signal can say.

    `baseline` holds the champion's figures at the gate, for `worse_by`. Without `proof` they are
    taken as they are, as if they had no uncertainty. `proof`, a frame of the gate's rows as `frame`
    is of the window's, gives them an interval: then the difference between now and the gate must
    lie beyond `worse_by` with its whole interval, which both sides widen (`estimates.difference`;
    by stretches of `block` where `proof` has times). `value`, `low` and `high` are the metric's own
    all the same; `detail` has `change`, `change_low` and `change_high`.

    `label_delay` is how old the frame's rows are at least, said where there are too few of them.

    Raises WindowFault when a column is missing.
    """
    rows = labelled_rows(frame, list(classes), block)
    count = len(rows.codes)
    then = at_the_gate(proof, list(classes), thresholds, block, confidence, seed, resamples)
    wanted: list[tuple[str, Threshold | None]] = [
        (t.metric, t) for t in thresholds if t.metric in HIGHER_IS_BETTER
    ]
    if all(metric != "log_loss" for metric, _ in wanted):
        wanted.append(("log_loss", None))  # for the record: no threshold, so never a breach
    enough = count >= max(minimum_labels, 1)
    names = [metric for metric, _ in wanted]
    found = figures(rows, names, confidence, seed, resamples) if enough else {}
    unsure = rows.unbounded(block) if enough else ""
    signals = []
    for number, (metric, threshold) in enumerate(wanted):
        before = names[:number].count(metric)
        interval, breached, reason, detail = found.get(metric), None, "", dict[str, Any]()
        if not enough:
            due = f" asked for {short(label_delay)} ago or earlier" if label_delay else ""
            reason = f"{count:,} labelled rows{due}; at least {minimum_labels:,} are needed"
        elif interval is None:
            reason = f"the labels of {count:,} rows are all of one class, so it is not defined"
        elif unsure:
            reason, interval = unsure, Interval(interval.value, None, None)
        elif threshold is None:
            breached = False
        else:
            past = then.get(metric, baseline.get(metric))
            breached, reason, detail = judge(
                interval, threshold, past, higher_is_better=HIGHER_IS_BETTER[metric]
            )
            if breached is None and metric in then:
                reason = _too_few_at_the_gate(block)
        if metric == "log_loss" and interval is not None:
            detail[GUESS] = guessing(rows.codes)
        if metric in baseline:
            detail.setdefault("baseline", baseline[metric])
        if block is not None and rows.groups is not None:
            detail |= {"block": short(block), "blocks": rows.blocks}
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


def _too_few_at_the_gate(block: timedelta | None) -> str:
    return (
        f"the gate's rows lie in one block of {short(block or timedelta(0))}, so the change since "
        "cannot be bounded: raise gate.rows, or shorten the block"
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
