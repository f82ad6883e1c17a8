"""What came in against what may come in: missing values, new categories, numbers out of range.

These are changes that a test of distributions can be blind to, and that it should not have to find.
Each column is held against the reference by exact tests of two samples, and all of them, over all
columns and kinds, share one level (Holm 1979): one gap in a window is normal, sixty in a hundred
where there were none are not, and neither takes a threshold that a person would have to choose.

New categories are held against how many unseen values chance brings, since in a column of many rare
values a window always has some; numbers against the reference's range, widened, since a window's
largest number is often the largest so far.

The tests take rows as exchangeable under no change. Where gaps come in bursts, such as the weather
of one hour that many rows share, a window is worth fewer rows than it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.embedding import numbers, texts
from monitoring.errors import WindowFault
from monitoring.estimates import Interval
from monitoring.exact import beyond, difference, holm, more, named, percent, unseen
from monitoring.records import Kind, Signal

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("missing_values", "new_categories", "out_of_range", "type_changes", "absent_columns")

_MISSING, _NEW, _RANGE, _TYPE, _ABSENT = NAMES
_SHOWN = 20  # columns in a signal's detail


@dataclass(frozen=True, slots=True)
class _Test:
    """One question about one column: rows concerned before and now, and the p-value."""

    signal: str
    column: str
    before: int  # of `rows_before`
    rows_before: int
    now: int  # of `rows`
    rows: int
    p_value: float
    what: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    commonest: int = 0  # rows of one new value: it counts though rare ones have become fewer

    @property
    def increase(self) -> float:
        return max(self.now / self.rows - self.before / self.rows_before, self._commonest)

    @property
    def _commonest(self) -> float:
        return self.commonest / self.rows if self.commonest else -1.0

    @property
    def interval(self) -> Interval:
        if self._commonest >= self.increase:
            return difference(0, self.rows_before, self.commonest, self.rows)
        return difference(self.before, self.rows_before, self.now, self.rows)

    def sentence(self) -> str:
        before, now = percent(self.before / self.rows_before), percent(self.now / self.rows)
        return f"{self.column}: {self.what} {before} -> {now}"


class _Sides(NamedTuple):
    reference: pd.DataFrame
    current: pd.DataFrame

    @property
    def rows(self) -> tuple[int, int]:
        return len(self.reference), len(self.current)


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
    """One signal per name in `NAMES` over `columns` (name -> 'number' or 'category').

    `level` bounds the chance that any of the signals is breached where nothing changed, for any
    number of rows. A breach is also an increase of at least `floor`, a share of the rows, so that a
    window of a million rows does not speak of trifles. A number is out of range beyond the
    reference's smallest and largest by more than `widen` of the range between them, but a range of
    numbers without a sign is not widened across zero; infinities are out of any range.

    `value` is the largest increase of a share, `low`..`high` its interval (Newcombe 1998),
    `p_value` the smallest one, corrected; `reason` names the columns, before -> now, when breached,
    `detail["columns"]` the figures. A column counts as absent when the window does not have it at
    all and the reference's own gaps do not explain that. Too few rows give signals that say so.
    Raises WindowFault when a column is neither number nor category.
    """
    wrong = {name: kind for name, kind in columns.items() if kind not in ("number", "category")}
    if wrong:
        raise WindowFault(f"a column is a 'number' or a 'category', got {wrong}: correct it")
    threshold = f"p <= {level:g}"
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
    sides = _Sides(reference, current)
    tests = [
        test
        for name, kind in columns.items()
        if name not in unknown
        for test in _column(sides, name, kind, widen)
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
    tests: list[tuple[_Test, float]],
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
        threshold=f"p <= {level:g} and {percent(floor)} more",
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
                for t, p in ranked[:_SHOWN]
                if t.now or t in found
            },
        },
    )


def _column(sides: _Sides, name: str, kind: str, widen: float) -> Iterator[_Test]:
    """Every test of one column. A test that cannot speak is not one, and costs no correction."""
    n1, n2 = sides.rows
    old = sides.reference[name]
    if name not in sides.current:
        gaps = int(old.isna().sum())
        p_value = float(more(gaps, n1, n2, n2))
        yield _Test(_ABSENT, name, gaps, n1, n2, n2, p_value, "is not in the rows; missing")
        return
    new = sides.current[name]
    yield _share(_MISSING, name, old.isna().to_numpy(), new.isna().to_numpy(), "missing")
    if kind == "category":
        yield from _categories(name, texts(old.dropna()), texts(new.dropna()))
        return
    before, now = numbers(old), numbers(new)
    unread = [np.isnan(v) & s.notna().to_numpy() for v, s in ((before, old), (now, new))]
    words = [str(v) for v in new[unread[1]].unique()[:10]]
    what = "text where numbers were" + (f" ({named(words)})" if words else "")
    yield _share(_TYPE, name, unread[0], unread[1], what)
    if np.isinf(before).any() or np.isinf(now).any():
        yield _share(_RANGE, name, np.isinf(before), np.isinf(now), "infinite")
    yield from _outside(name, before[np.isfinite(before)], now[np.isfinite(now)], widen)


def _share(
    signal: str, name: str, old: NDArray[np.bool_], new: NDArray[np.bool_], what: str
) -> _Test:
    k1, k2 = int(old.sum()), int(new.sum())
    p_value = float(more(k1, len(old), k2, len(new)))
    return _Test(signal, name, k1, len(old), k2, len(new), p_value, what)


def _categories(name: str, old: pd.Series, new: pd.Series) -> Iterator[_Test]:
    if old.empty or new.empty:
        return
    values = sorted({*old.unique(), *new.unique()})  # so that the order of rows decides nothing
    known, met = (
        side.value_counts().reindex(values, fill_value=0).to_numpy(dtype=np.int64)
        for side in (old, new)
    )
    fresh = {v: int(n) for v, k, n in zip(values, known, met, strict=True) if not k}
    ranked = sorted(fresh.items(), key=lambda item: (-item[1], item[0]))
    # Good (1953): the share of values seen once is the share of rows still unseen
    singletons = int((known == 1).sum())
    what = "new values" + (f" {named([v for v, _ in ranked])}" if ranked else "")
    yield _Test(
        _NEW,
        name,
        singletons,
        len(old),
        sum(fresh.values()),
        len(new),
        unseen(np.asarray(known), np.asarray(met)),
        what,
        {"new": dict(ranked[:_SHOWN]), "new_values": len(fresh)},
        max(fresh.values(), default=0),
    )


def _outside(
    name: str, old: NDArray[np.float64], new: NDArray[np.float64], widen: float
) -> Iterator[_Test]:
    if not len(old) or not len(new):
        return
    low, high = float(old.min()), float(old.max())
    margin = widen * (high - low) if np.isfinite(high - low) else 0.0
    least = max(low - margin, 0.0) if low >= 0 else low - margin
    most = min(high + margin, 0.0) if high <= 0 else high + margin
    for what, far, worst in (
        (f"above {most:g}", new > most, float(new.max())),
        (f"below {least:g}", new < least, float(new.min())),
    ):
        count = int(far.sum())
        # fewer lie beyond the widened range than beyond the range itself, whose test is exact
        p_value = float(beyond(count, len(old), len(new))) if count else 1.0
        said = what + (f" (as far as {worst:g})" if count else "")
        yield _Test(
            _RANGE, name, 0, len(old), count, len(new), p_value, said, {"range": [low, high]}
        )
