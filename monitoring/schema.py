"""What came in against what may come in: missing values, new categories, numbers out of range.

These are changes that a test of distributions can be blind to, and that it should not have to find.
Each column is held against the reference by exact tests of two samples, and all of them, over all
columns and kinds, share one level (Holm 1979): one gap in a window is normal, sixty in a hundred
where there were none are not, and neither takes a threshold that a person would have to choose.

New categories are held against how many unseen values chance brings, since in a column of many rare
values a window always has some; numbers against the reference's range, widened, since a window's
largest number is often the largest so far.

The tests take rows as exchangeable under no change, and rows that share an hour's weather are not:
one outage of a sensor is one event, however many rows it meets. Where the rows have a `time`, a
window is therefore cut into spans of time, shares are tested on as many rows as the spans are worth
(design effect), and new categories and far numbers must also be too many when each span counts
once. Where the reference has a `time` too, it says how much shares vary from one period as long as
the window to the next, such as between calm days and windy ones, and a window is worth no more than
that leaves. What no period of the reference shows, such as another season, is a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from monitoring.bursts import blocks_in_time, periods_like, seconds
from monitoring.column_checks import NAMES, SHOWN, Check, Sides, checks
from monitoring.errors import WindowFault
from monitoring.exact import holm, percent
from monitoring.records import Kind, Signal

__all__ = ["NAMES", "schema_signals"]

if TYPE_CHECKING:
    import pandas as pd

_KINDS = ("number", "category", "text")


def schema_signals(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    level: float = 0.001,
    minimum_rows: int = 20,
    floor: float = 0.005,
    widen: float = 0.1,
) -> tuple[Signal, ...]:
    """One signal per name in `NAMES` over `columns` (name -> 'number', 'category' or 'text').

    `level` bounds the chance that any of the signals is breached where nothing changed, for any
    number of rows. A column `time` of the window, or of both, says which rows came together. A
    breach is also an increase of at least `floor`, a share of the rows, so that a window of a
    million rows does not speak of trifles. A number is out of range beyond the reference's smallest
    and largest by more than `widen` of the range between them, but a range of numbers without a
    sign is not widened across zero; infinities are out of any range.

    `value` is the largest increase of a share, `low`..`high` its interval (Newcombe 1998),
    `p_value` the smallest one, corrected; `reason` names the columns, before -> now, when breached,
    `detail["columns"]` the figures. A column counts as absent when the window does not have it at
    all and the reference's own gaps do not explain that. Too few rows give signals that say so.
    Raises WindowFault when a column is of another kind.
    """
    wrong = {name: kind for name, kind in columns.items() if kind not in _KINDS}
    if wrong:
        raise WindowFault(f"a column is a 'number', a 'category' or a 'text', got {wrong}: correct")
    threshold = f"p <= {level:.3g}"
    counted = {name: int((reference.columns == name).sum()) for name in columns}
    doubled = {name for name in columns if (current.columns == name).sum() > 1}
    unknown = [name for name in columns if counted[name] != 1 or name in doubled]
    reason = ""
    for name, frame in (("current", current), ("reference", reference)):
        if len(frame) < max(minimum_rows, 1) and not reason:
            reason = f"{len(frame):,} {name} rows; at least {max(minimum_rows, 1):,} are needed"
    if not reason and len(unknown) == len(columns):
        reason = f"none of the columns {unknown[:10]} is there once in the reference"
    if reason:
        return tuple(
            Signal(name, Kind.SCHEMA, None, threshold=threshold, rows=len(current), reason=reason)
            for name in NAMES
        )
    spans = periods = None
    if "time" in current:
        times = seconds(current["time"])
        spans = blocks_in_time(times)
        if "time" in reference:
            periods = periods_like(seconds(reference["time"]), times)
    sides = Sides(reference, current, spans, periods)
    tests = [
        test
        for name, kind in columns.items()
        if name not in unknown
        for test in checks(sides, name, kind, widen)
    ]
    adjusted = holm([test.p_value for test in tests])
    shared: dict[str, Any] = {"level": level, "tests": len(tests), "reference_rows": len(reference)}
    if unknown:
        shared["unknown"] = unknown
    signals = []
    for name in NAMES:
        mine = [(t, float(p)) for t, p in zip(tests, adjusted, strict=True) if t.signal == name]
        signals.append(_signal(name, mine, level, floor, len(current), shared))
    return tuple(signals)


def _signal(
    name: str,
    tests: list[tuple[Check, float]],
    level: float,
    floor: float,
    rows: int,
    shared: Mapping[str, Any],
) -> Signal:
    ranked = sorted(tests, key=lambda item: (item[1], -item[0].increase, item[0].column))
    found = [t for t, p in ranked if p <= level and t.increase >= floor]
    largest = max(found or [t for t, _ in ranked], key=lambda t: t.increase, default=None)
    interval = largest.interval if largest else None
    said = "; ".join(t.sentence() for t in found[:5])
    return Signal(
        name,
        Kind.SCHEMA,
        bool(found),
        value=interval.value if interval else 0.0,
        p_value=ranked[0][1] if ranked else 1.0,
        low=interval and interval.low,
        high=interval and interval.high,
        threshold=f"p <= {level:.3g} and {percent(floor)} more",
        rows=rows,
        reason=said + (f"; and {len(found) - 5} more" if len(found) > 5 else ""),
        detail={
            **shared,
            "moved": [t.column for t in found],
            "columns": {
                t.column: {
                    "before": t.before / t.rows_before,
                    "now": t.now / t.rows,
                    "p_value": p,
                    "sentence": t.sentence(),
                    **t.detail,
                }
                for t, p in ranked[:SHOWN]
                if t.now or t in found
            },
        },
    )
