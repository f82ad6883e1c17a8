"""Is the service itself well: requests that it could not answer, and how many come at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.estimates import Interval, judge, wilson
from monitoring.outputs import prediction_signal
from monitoring.records import Kind, RequestCount, Signal
from monitoring.rules import Threshold

__all__ = ["prediction_signal", "service_signals"]

_LABELS = "labels"  # the route that brings labels; the others ask the model
_INSIDE = ("shadow", "canary")  # counts of a roll-out: the callers were answered by the champion
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)


def service_signals(
    counts: Sequence[RequestCount],
    history: Sequence[RequestCount],
    thresholds: Sequence[Threshold] = (),
    *,
    start: datetime,
    end: datetime,
    confidence: float = 0.95,
    minimum_requests: int = 30,
    minimum_periods: int = 7,
) -> tuple[Signal, ...]:
    """Signals `error_rate` and `throughput` of the window `start` <= minute < `end`.

    `counts` are the window's, `history` those before it (earlier and later ones are passed over);
    `TelemetryStore.counts_between` gives both, the history by hour where `start` and `end` are
    whole hours. One signal per threshold on either metric, or one for the record without.

    error_rate: the share of the model's requests answered with 5xx, with Wilson's interval. 4xx are
    the senders' and stand in the detail, as do requests that brought labels.

    throughput: requests against what is usual, 1 where all is as usual. What is usual is the median
    of the same span of the day in earlier weeks on the same weekday, where at least
    `minimum_periods` of these were recorded, else on the days before. `low`..`high` compare with
    the busiest and the quietest tenth of them, so a threshold below 0.5 is breached only when the
    window has less than half of a quiet period's requests. The range is of periods, not of the
    median: one quiet Sunday among the days before widens it, one outage in ten weeks does not. Days
    before the first count are no history, and too few of them give a signal that says so.
    """
    if start >= end:
        raise WindowFault(f"a window ends after it starts, got {start}..{end}: swap them")
    counts = [c for c in counts if c.route not in _INSIDE]
    asked = [c for c in counts if start <= c.minute < end and c.route != _LABELS]
    brought = [c for c in counts if start <= c.minute < end and c.route == _LABELS]
    requests = sum(c.requests for c in asked)
    mine: dict[str, list[Threshold | None]] = {
        metric: [t for t in thresholds if t.metric == metric] or [None]
        for metric in ("error_rate", "throughput")
    }
    signals = [
        _error_rate(asked, brought, threshold, number, confidence, minimum_requests)
        for number, threshold in enumerate(mine["error_rate"], start=1)
    ]
    earlier = [c for c in history if c.minute < start and c.route not in (_LABELS, *_INSIDE)]
    usual, unit = _usual(earlier, start, end, minimum_periods)
    signals += [
        _throughput(requests, usual, unit, end - start, threshold, number, minimum_periods)
        for number, threshold in enumerate(mine["throughput"], start=1)
    ]
    return tuple(signals)


def _name(metric: str, number: int) -> str:
    return metric if number == 1 else f"{metric}-{number}"


def _error_rate(
    asked: Sequence[RequestCount],
    brought: Sequence[RequestCount],
    threshold: Threshold | None,
    number: int,
    confidence: float,
    minimum: int,
) -> Signal:
    requests, errors = _sums(asked)
    detail: dict[str, Any] = {
        "server_errors": errors,
        "client_errors": sum(c.client_errors for c in asked),
        "answered_rows": sum(c.rows for c in asked),
        "label_requests": _sums(brought)[0],
        "label_server_errors": _sums(brought)[1],
    }
    if errors:
        worst = max(asked, key=lambda c: c.server_errors)
        detail["worst_minute"] = worst.minute.isoformat()
        detail["worst_minute_errors"] = worst.server_errors
    found, breached, reason = None, None, ""
    if requests < max(minimum, 1):
        reason = f"{requests:,} requests; at least {max(minimum, 1):,} are needed"
    else:
        found = wilson(errors, requests, confidence)
        breached = False
        if threshold:
            breached, reason, said = judge(found, threshold, None, higher_is_better=False)
            detail |= said
    return Signal(
        _name("error_rate", number),
        Kind.SERVICE,
        breached,
        value=found and found.value,
        low=found and found.low,
        high=found and found.high,
        threshold=str(threshold or ""),
        rows=requests,
        reason=reason,
        detail=detail,
    )


def _sums(counts: Iterable[RequestCount]) -> tuple[int, int]:
    counts = list(counts)
    return sum(c.requests for c in counts), sum(c.server_errors for c in counts)


def _usual(
    earlier: Sequence[RequestCount], start: datetime, end: datetime, minimum: int
) -> tuple[NDArray[np.int64], str]:
    """Requests of the window's span in earlier weeks or, with too few of these, days."""
    if not earlier:
        return np.zeros(0, dtype=np.int64), "days"
    first = min(c.minute for c in earlier)
    totals = np.zeros(0, dtype=np.int64)
    for unit, step in (("weeks", _WEEK), ("days", _DAY)):
        shift = step * max(1, -((start - end) // step))  # periods do not overlap the window
        periods = (start - first) // shift
        totals = np.zeros(max(periods, 0), dtype=np.int64)
        for count in earlier:
            # the period whose span, moved on by so many shifts, holds this minute
            back = -((count.minute - end) // shift) - 2
            at = count.minute + (back + 1) * shift
            if start <= at < end and back < periods:
                totals[back] += count.requests
        if periods >= minimum:
            return totals, unit
    return totals, "days"


def _throughput(
    requests: int,
    usual: NDArray[np.int64],
    unit: str,
    length: timedelta,
    threshold: Threshold | None,
    number: int,
    minimum: int,
) -> Signal:
    detail: dict[str, Any] = {
        "requests": requests,
        "requests_per_second": requests / length.total_seconds(),
        "periods": len(usual),
        "compared_with": unit,
    }
    found, breached, reason = None, None, ""
    median = float(np.median(usual)) if len(usual) else 0.0
    if len(usual) < max(minimum, 1):
        reason = (
            f"{len(usual)} earlier {unit} to compare with; at least {max(minimum, 1)} are needed"
        )
    elif not median:
        reason = f"no request is usual at this time: the median of {len(usual)} {unit} is 0"
    else:
        quiet = float(np.quantile(usual, 0.1, method="lower"))
        busy = float(np.quantile(usual, 0.9, method="higher"))
        detail |= {"usual": median, "quiet": quiet, "busy": busy}
        high = requests / quiet if quiet else (None if requests else 0.0)
        found = Interval(requests / median, requests / busy, high)
        breached = False
        if threshold:
            breached, reason, said = judge(found, threshold, None, higher_is_better=True)
            detail |= said
    return Signal(
        _name("throughput", number),
        Kind.SERVICE,
        breached,
        value=found and found.value,
        low=found and found.low,
        high=found and found.high,
        threshold=str(threshold or ""),
        rows=requests,
        reason=reason,
        detail=detail,
    )
