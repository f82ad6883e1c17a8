"""Latency of answered rows as a signal, with an order-statistic bound instead of a bare p95."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from monitoring.estimates import finite, judge, quantile_bounds
from monitoring.records import Kind, Signal
from monitoring.rules import Threshold

METRIC = "latency_p95_ms"


def latency_signals(
    latencies: npt.ArrayLike,
    thresholds: Sequence[Threshold] = (),
    *,
    confidence: float = 0.95,
    minimum_rows: int = 30,
    baseline: Mapping[str, float] | None = None,
) -> tuple[Signal, ...]:
    """One signal per threshold on `latency_p95_ms`, or one for the record when there is none.

    `latencies` are milliseconds, one per row, NaN where unknown. Rows answered by the same request
    carry the same latency; the bounds take them as independent and are narrow where batches are
    large.
    """
    values = finite(np.asarray(latencies, dtype=np.float64), "latencies")
    mine: list[Threshold | None] = [t for t in thresholds if t.metric == METRIC]
    signals = []
    for number, threshold in enumerate(mine or [None], start=1):
        name = METRIC if number == 1 else f"{METRIC}-{number}"
        limit = str(threshold or "")
        if len(values) < max(minimum_rows, 2):
            why = f"{len(values):,} latencies; at least {minimum_rows:,} are needed"
            signals.append(
                Signal(name, Kind.LATENCY, None, threshold=limit, rows=len(values), reason=why)
            )
            continue
        found = quantile_bounds(values, 0.95, confidence)
        breached, reason, detail = (
            judge(found, threshold, (baseline or {}).get(METRIC), higher_is_better=False)
            if threshold
            else (False, "", {})
        )
        signals.append(
            Signal(
                name,
                Kind.LATENCY,
                breached,
                value=found.value,
                low=found.low,
                high=found.high,
                threshold=limit,
                rows=len(values),
                reason=reason,
                detail={**detail, "median": float(np.median(values)), "worst": float(values.max())},
            )
        )
    return tuple(signals)
