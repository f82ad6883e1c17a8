"""The questions of a schema check about one column, each answered by an exact test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.bursts import design_effect, window_effect, worth
from monitoring.embedding import numbers, texts
from monitoring.estimates import Interval
from monitoring.exact import beyond, difference, more, named, percent, unseen

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("missing_values", "new_categories", "out_of_range", "type_changes", "absent_columns")

_MISSING, _NEW, _RANGE, _TYPE, _ABSENT = NAMES
SHOWN = 20  # columns in a signal's detail


@dataclass(frozen=True, slots=True)
class Check:
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


class Sides(NamedTuple):
    reference: pd.DataFrame
    current: pd.DataFrame
    spans: NDArray[np.int64] | None = None  # of the current rows, in time
    periods: NDArray[np.int64] | None = None  # of the reference's rows, each as long as the window

    @property
    def rows(self) -> tuple[int, int]:
        return len(self.reference), len(self.current)


def checks(sides: Sides, name: str, kind: str, widen: float) -> Iterator[Check]:
    """Every test of one column. A test that cannot speak is not one, and costs no correction.

    Of a text it is asked whether it is there: a blank one is missing, and words are watched apart.
    """
    n1, n2 = sides.rows
    old = sides.reference[name]
    if name not in sides.current:
        gaps = int(_gone(old, kind).sum())
        p_value = float(more(gaps, n1, n2, n2))
        yield Check(_ABSENT, name, gaps, n1, n2, n2, p_value, "is not in the rows; missing")
        return
    new = sides.current[name]
    gone = _gone(old, kind), _gone(new, kind)
    yield _share(_MISSING, name, *gone, "missing", sides)
    if kind == "text":
        return
    spans = sides.spans
    if kind == "category":
        known = None if spans is None else spans[~gone[1]]
        yield from _categories(name, texts(old.dropna()), texts(new.dropna()), known)
        return
    before, now = numbers(old), numbers(new)
    unread = [np.isnan(v) & s.notna().to_numpy() for v, s in ((before, old), (now, new))]
    words = [str(v) for v in new[unread[1]].unique()[:10]]
    what = "text where numbers were" + (f" ({named(words)})" if words else "")
    yield _share(_TYPE, name, unread[0], unread[1], what, sides)
    if np.isinf(before).any() or np.isinf(now).any():
        yield _share(_RANGE, name, np.isinf(before), np.isinf(now), "infinite", sides)
    finite = np.isfinite(now)
    known = None if spans is None else spans[finite]
    yield from _outside(name, before[np.isfinite(before)], now[finite], widen, known)


def _gone(column: pd.Series, kind: str) -> NDArray[np.bool_]:
    gaps = column.isna().to_numpy(dtype=bool, copy=True)
    if kind == "text":
        gaps[~gaps] = column[~gaps].astype(str).str.strip().eq("").to_numpy(dtype=bool)
    return gaps


def _share(
    signal: str,
    name: str,
    old: NDArray[np.bool_],
    new: NDArray[np.bool_],
    what: str,
    sides: Sides,
) -> Check:
    k1, k2 = int(old.sum()), int(new.sum())
    before, now = 1.0, 1.0
    if sides.periods is not None:
        before = design_effect(old, sides.periods)
    if sides.spans is not None:
        now = window_effect(new, sides.spans, old, sides.periods)
    old_worth = worth(k1, len(old), before, up=True)
    p_value = float(more(*old_worth, *worth(k2, len(new), now, up=False)))
    detail = {"design_effect": now} if now > 1 else {}
    return Check(signal, name, k1, len(old), k2, len(new), p_value, what, detail)


def _categories(
    name: str, old: pd.Series, new: pd.Series, spans: NDArray[np.int64] | None
) -> Iterator[Check]:
    if old.empty or new.empty:
        return
    values = sorted({*old.unique(), *new.unique()})  # so that the order of rows decides nothing
    known, met = (_counts(side, values) for side in (old, new))
    p_value = unseen(known, met)
    if spans is not None and p_value < 1:
        pairs = new.reset_index(drop=True)[~_repeated(new, spans)]
        p_value = max(p_value, unseen(known, _counts(pairs, values)))
    fresh = {v: int(n) for v, k, n in zip(values, known, met, strict=True) if not k}
    ranked = sorted(fresh.items(), key=lambda item: (-item[1], item[0]))
    # Good (1953): the share of values seen once is the share of rows still unseen
    singletons = int((known == 1).sum())
    what = "new values" + (f" {named([v for v, _ in ranked])}" if ranked else "")
    yield Check(
        _NEW,
        name,
        singletons,
        len(old),
        sum(fresh.values()),
        len(new),
        p_value,
        what,
        {"new": dict(ranked[:SHOWN]), "new_values": len(fresh)},
        max(fresh.values(), default=0),
    )


def _counts(values: pd.Series, distinct: list[str]) -> NDArray[np.int64]:
    found = values.value_counts().reindex(distinct, fill_value=0)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _repeated(values: pd.Series, spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows repeat a value that their span has already."""
    import pandas as pd

    pairs = pd.DataFrame({"span": spans, "value": values.to_numpy()})
    return np.asarray(pairs.duplicated())


def _outside(
    name: str,
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    widen: float,
    spans: NDArray[np.int64] | None,
) -> Iterator[Check]:
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
        if spans is not None and count:
            met = len(np.unique(spans[far]))
            p_value = max(p_value, float(beyond(met, len(old), len(np.unique(spans)))))
        said = what + (f" (as far as {worst:g})" if count else "")
        yield Check(
            _RANGE, name, 0, len(old), count, len(new), p_value, said, {"range": [low, high]}
        )
