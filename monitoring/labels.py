"""How the truth comes in: how long it takes, and whether its classes come as often as before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.bursts import (
    blocks_in_time,
    design_effect,
    periods_like,
    seconds_of,
    window_effect,
    worth,
)
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, quantile_bounds, wilson
from monitoring.exact import difference, holm, moved, percent
from monitoring.performance import class_codes, label_signal
from monitoring.records import Kind, Signal, Value
from monitoring.wording import span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["delay_signal", "label_signal", "prior_signal"]

_SECONDS = 3_600.0  # in an hour


def delay_signal(
    frame: pd.DataFrame,
    now: datetime,
    horizon: timedelta,
    *,
    label_delay: timedelta | None = None,
    confidence: float = 0.95,
    minimum_labels: int = 30,
) -> Signal:
    """How long labels take, in hours: the median, and the 90th percentile in the detail.

    `frame` has the columns `time` and `label_arrived` (NaT before it came), as
    `TelemetryStore.rows` gives them. A row asked about an hour ago can only have a label that took
    less than an hour, so among all rows the fast labels are over-represented. Therefore only rows
    at least `horizon` old at `now` count, and of their labels only those that took at most
    `horizon`: each such row was watched for exactly so long, whatever its age. The figures are of
    labels that come within `horizon` at all; what share that is has Wilson's interval in the
    detail, `within`. A horizon of twice the label delay shows how many take longer than expected.

    Bounds are order statistics and hold for any distribution. Breached when the median's lower
    bound lies above `label_delay`, for then what counts as matured is not; None is never a breach.
    Raises WindowFault when a column is missing or the horizon is not positive.
    """
    missing = [name for name in ("time", "label_arrived") if name not in frame]
    if missing:
        raise WindowFault(
            f"label delays need the columns time and label_arrived; {missing} missing, got "
            f"{list(frame.columns)[:10]}: read the rows with TelemetryStore.rows"
        )
    if horizon <= timedelta(0):
        raise WindowFault(f"a horizon is positive, got {horizon}: give at least the label delay")
    old = frame.loc[frame["time"] <= now - horizon, ["time", "label_arrived"]]
    seconds = (old["label_arrived"] - old["time"]).dt.total_seconds().to_numpy(dtype=np.float64)
    # a label may come before its row's time: known at once
    hours = np.maximum(seconds[seconds <= horizon.total_seconds()], 0.0) / _SECONDS
    threshold = f"median > {span(label_delay)}" if label_delay else ""
    detail: dict[str, Any] = {"horizon_hours": horizon.total_seconds() / _SECONDS, "rows": len(old)}
    if len(old):
        within = wilson(len(hours), len(old), confidence)
        detail["within"] = {"value": within.value, "low": within.low, "high": within.high}
    if len(hours) < max(minimum_labels, 1):
        return Signal(
            "label_delay_hours",
            Kind.LABELS,
            None,
            threshold=threshold,
            rows=len(hours),
            reason=(
                f"{len(hours):,} labels of rows at least {span(horizon)} old; at least "
                f"{max(minimum_labels, 1):,} are needed"
            ),
            detail=detail,
        )
    median, late = (quantile_bounds(hours, share, confidence) for share in (0.5, 0.9))
    detail["p90"] = {"value": late.value, "low": late.low, "high": late.high}
    breached, reason = False, ""
    if label_delay is not None:
        limit = label_delay.total_seconds() / _SECONDS
        detail["on_time"] = float((seconds <= limit * _SECONDS).sum() / len(old))
        breached = median.low is not None and median.low > limit
        if breached:
            reason = (
                f"half of the labels take more than {median.value:.3g} hours, the label delay is "
                f"{span(label_delay)}: raise it, or rows count as matured before their labels come"
            )
    return Signal(
        "label_delay_hours",
        Kind.LABELS,
        breached,
        value=median.value,
        low=median.low,
        high=median.high,
        threshold=threshold,
        rows=len(hours),
        reason=reason,
        detail=detail,
    )


def prior_signal(
    reference: Iterable[Value],
    matured: Iterable[Value],
    classes: Sequence[Value],
    *,
    level: float = 0.001,
    confidence: float = 0.95,
    minimum_labels: int = 100,
    floor: float = 0.0,
    times: ArrayLike | None = None,
    reference_times: ArrayLike | None = None,
) -> Signal:
    """Label shift, 'label_prior': do the classes come true as often as in the reference?

    Both sides are labels, None or NaN where there is none; the current ones of matured rows only,
    since those that come early are often of one class. Each class's share is held against the
    reference's by Fisher's exact test, corrected for the number of classes (Holm); with two classes
    one test says it all. `value` is the change of the share of the class that changed most (of the
    last class where there are two), between Newcombe's bounds at a confidence divided among the
    classes. Breached when the corrected p-value is at or below `level` and the change at least
    `floor`. `detail["classes"]` has each share before and now, `detail["distance"]` the total
    variation distance, in [0, 1].

    Rows of one afternoon share its weather: with `times`, one for each of `matured`, the window is
    cut into spans of time, and each share is tested on as many rows as these are worth
    (`monitoring.bursts.window_effect`; Rao and Scott 1992). With `reference_times` too, the
    reference's periods as long as the window say how much they vary. Raises WindowFault when the
    times are not as many as the labels.
    """
    old, read_old, lost_old = _codes(reference, classes)
    new, read, lost_new = _codes(matured, classes)
    spans = periods = None
    if times is not None:
        known = seconds_of(times, read)
        spans = blocks_in_time(known)
        if reference_times is not None:
            periods = periods_like(seconds_of(reference_times, read_old), known)
    threshold = f"p <= {level:.3g}"
    for side, codes in (("matured", new), ("reference", old)):
        if len(codes) < max(minimum_labels, 1):
            reason = f"{len(codes):,} {side} labels; at least {max(minimum_labels, 1):,} are needed"
            return Signal(
                "label_prior",
                Kind.LABELS,
                None,
                threshold=threshold,
                rows=len(new),
                reason=reason,
            )
    k = len(classes)
    before, now = (np.bincount(codes, minlength=k).tolist() for codes in (old, new))
    tested = [1] if k == 2 else list(range(k))
    effects = {
        c: 1.0 if spans is None else window_effect(new == c, spans, old == c, periods)
        for c in tested
    }
    each = 1 - (1 - confidence) / len(tested)
    found, raw = {}, []
    for c in tested:
        # towards the reference, so that rounding makes no change larger
        up = now[c] / len(new) < before[c] / len(old)
        worth_now, worth_rows = worth(now[c], len(new), effects[c], up=up)
        old_effect = 1.0 if periods is None else design_effect(old == c, periods)
        old_worth = worth(before[c], len(old), old_effect, up=not up)
        raw.append(moved(*old_worth, worth_now, worth_rows))
        narrow = difference(before[c], len(old), now[c], len(new), each)
        wide = difference(*old_worth, worth_now, worth_rows, each)
        found[c] = Interval(narrow.value, *_outer(narrow, wide)) if effects[c] > 1 else narrow
    p_values = holm(raw)
    most = max(tested, key=lambda c: abs(found[c].value))
    p_value = float(p_values.min())
    shares = [
        {"class": classes[c], "before": before[c] / len(old), "now": now[c] / len(new)}
        for c in range(k)
    ]
    for c, corrected in zip(tested, p_values.tolist(), strict=True):
        shares[c]["p_value"] = corrected
    breached = p_value <= level and abs(found[most].value) >= floor
    return Signal(
        "label_prior",
        Kind.LABELS,
        breached,
        value=found[most].value,
        p_value=p_value,
        low=found[most].low,
        high=found[most].high,
        threshold=threshold,
        rows=len(new),
        reason=(
            f"label {classes[most]!r}: {percent(before[most] / len(old))} of the reference -> "
            f"{percent(now[most] / len(new))} of the matured rows"
            if breached
            else ""
        ),
        detail={
            "class": classes[most],
            "classes": shares,
            "distance": sum(abs(s["now"] - s["before"]) for s in shares) / 2,
            "reference_rows": len(old),
            "level": level,
            "design_effect": max(effects.values()),
            "set_aside": lost_old + lost_new,
        },
    )


def _outer(a: Interval, b: Interval) -> tuple[float, float]:
    """Bounds that hold both intervals."""
    lows = [x.low for x in (a, b) if x.low is not None]
    highs = [x.high for x in (a, b) if x.high is not None]
    return min(lows), max(highs)


def _codes(
    labels: Iterable[Value], classes: Sequence[Value]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
    """Codes of the labels that could be read, which of all of them these are, and how many are
    there but are no class."""
    given = list(labels)
    missing = np.array([x is None or x != x for x in given], dtype=bool)  # noqa: PLR0124
    found = class_codes(given, classes)
    read = np.array([code is not None for code in found], dtype=bool) & ~missing
    codes = [code for code, kept in zip(found, read.tolist(), strict=True) if kept]
    return np.array(codes, dtype=np.int64), read, int((~read & ~missing).sum())
