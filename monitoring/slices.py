"""Realised performance by slice: a model that is fine on the whole may fail where few look.

A slice is a part of the matured rows: one value of a category, or a quarter of a number's range. It
is defined on the reference, so that the same name means the same rows in every window. There are
many of them, so each interval is widened until all of them hold together (Bonferroni, valid though
slices overlap), and without a threshold that names the column they are only recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.embedding import numbers, texts
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, judge
from monitoring.labelled import HIGHER_IS_BETTER, LabelledRows, figures, labelled_rows
from monitoring.records import Kind, Signal, Value
from monitoring.rules import Threshold

if TYPE_CHECKING:
    import pandas as pd

_TAIL_DRAWS = 5  # resamples beyond each bound of an interval, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceThreshold(Threshold):
    """A limit on a metric in every slice of one column.

    It is a class of its own, so that what holds the rows as a whole against thresholds never takes
    it for one of its own. `worse_by` is relative to the same slice of the reference, whose figure
    has an interval too.
    """

    slice: str  # the column

    def __str__(self) -> str:
        return f"{Threshold.__str__(self)} in a slice of {self.slice}"


@dataclass(frozen=True, slots=True)
class _Slice:
    column: str
    name: str  # 'origin=JFK'
    member: Callable[[pd.DataFrame], NDArray[np.bool_]]


def slice_signals(
    matured: pd.DataFrame,
    reference: pd.DataFrame,
    columns: Mapping[str, str],
    slices: Sequence[str],
    classes: Sequence[Value],
    thresholds: Sequence[SliceThreshold] = (),
    *,
    metrics: Sequence[str] = ("log_loss",),
    confidence: float = 0.95,
    minimum_labels: int = 50,
    values: int = 5,
    seed: int = 0,
    resamples: int = 1_000,
    block: timedelta | None = None,
) -> tuple[Signal, ...]:
    """A signal per metric and slice, named as 'log_loss[origin=JFK]', Kind.PERFORMANCE.

    `matured` are rows whose label is due, with `label`, `proba` and the columns to slice by.
    `slices` names columns of `columns` (name -> 'number' or 'category'); those that `thresholds`
    name are added. A category gives its `values` most frequent values in the reference, the others
    together, and missing; a number the quarters between the reference's quartiles, and missing.

    Each metric of `metrics`, and of a threshold on the column, has a Wilson or bootstrap interval
    at a confidence divided by the number of slices and metrics. Breached when the whole interval
    lies beyond a threshold on the column, and never without one. With a `block`, rows of so long a
    stretch of `time` may be alike, and the intervals are over whole stretches (see
    `performance_signals`); a slice of one stretch says so. `detail` says how the slice
    compares: `overall` (the metric over all matured rows) and `stands_out`, whether its interval
    lies on the bad side of that; `baseline` is the slice's figure in the reference, where that has
    `label` and `proba`. A slice of fewer than `minimum_labels` labelled rows says so. Raises
    WindowFault for a column that is not there, or a metric that is not one of rows.
    """
    wanted = list(dict.fromkeys([*slices, *(t.slice for t in thresholds)]))
    _check(wanted, columns, reference, matured, [*metrics, *(t.metric for t in thresholds)])
    parts = [s for name in wanted for s in _slices(name, columns[name], reference, matured, values)]
    asked = {
        name: list(dict.fromkeys([*metrics, *(t.metric for t in thresholds if t.slice == name)]))
        for name in wanted
    }
    number = sum(len(asked[part.column]) for part in parts)
    if not number:
        return ()
    each = 1 - (1 - confidence) / number
    draws = max(resamples, int(np.ceil(2 * _TAIL_DRAWS / (1 - each))))
    every = labelled_rows(matured, classes)
    names = list(dict.fromkeys(m for part in asked.values() for m in part))
    overall = _points(every, names)
    known = "label" in reference and "proba" in reference
    signals = []
    for part in parts:
        rows = labelled_rows(matured[part.member(matured)], classes, block)
        enough = len(rows.codes) >= max(minimum_labels, 1)
        found = figures(rows, asked[part.column], each, seed, draws) if enough else {}
        before: dict[str, float] = {}
        gate: dict[str, Interval] = {}
        held = [t.metric for t in thresholds if t.slice == part.column and t.worse_by is not None]
        if known:
            past = labelled_rows(reference[part.member(reference)], classes, block)
            if len(past.codes) >= max(minimum_labels, 1):
                before = _points(past, asked[part.column])
                gate = figures(past, held, each, seed + 1, draws) if held and enough else {}
        for metric in asked[part.column]:
            limits = [t for t in thresholds if (t.slice, t.metric) == (part.column, metric)]
            signals.append(
                _signal(
                    part,
                    metric,
                    rows,
                    found.get(metric),
                    limits,
                    {"overall": overall.get(metric), "baseline": before.get(metric)},
                    minimum=0 if enough else max(minimum_labels, 1),
                    number=number,
                    unsure=rows.unbounded(block),
                    gate=gate.get(metric),
                )
            )
    return tuple(signals)


def _signal(
    part: _Slice,
    metric: str,
    rows: LabelledRows,
    interval: Interval | None,
    limits: Sequence[SliceThreshold],
    compared: Mapping[str, float | None],
    *,
    minimum: int,
    number: int,
    unsure: str,
    gate: Interval | None,
) -> Signal:
    better = HIGHER_IS_BETTER[metric]
    count = len(rows.codes)
    detail: dict[str, Any] = {
        "slice": part.name,
        "column": part.column,
        "metric": metric,
        "slices": number,
        **{key: value for key, value in compared.items() if value is not None},
    }
    if rows.set_aside:
        detail["set_aside"] = rows.set_aside
    breached, reason = None, ""
    if minimum:
        reason = f"{count:,} labelled rows; at least {minimum:,} are needed"
    elif interval is None:
        reason = f"the labels of {count:,} rows are all of one class, so it is not defined"
    elif unsure:
        reason, interval = unsure, Interval(interval.value, None, None)
    else:
        overall, worst = compared["overall"], interval.high if better else interval.low
        if overall is not None and worst is not None:
            detail["stands_out"] = worst < overall if better else worst > overall
        breached = False
        for limit in limits:
            past = compared["baseline"] if gate is None else gate
            beyond, why, said = judge(interval, limit, past, higher_is_better=better)
            if beyond:
                breached, reason = True, ""
                detail |= said
                break
            detail |= {key: value for key, value in said.items() if key.startswith("change")}
            if beyond is None:
                breached, reason = None, why.replace("the gate left", "the reference has")
    return Signal(
        f"{metric}[{part.name}]",
        Kind.PERFORMANCE,
        breached,
        value=interval and interval.value,
        low=interval and interval.low,
        high=interval and interval.high,
        threshold=" or ".join(str(limit) for limit in limits),
        rows=count,
        reason=reason,
        detail=detail,
    )


def _points(rows: LabelledRows, metrics: Sequence[str]) -> dict[str, float]:
    """Figures without intervals."""
    if not len(rows.codes):
        return {}
    return {name: f.value for name, f in figures(rows, metrics, 0.5, 0, 1).items()}


def _slices(
    name: str, kind: str, reference: pd.DataFrame, matured: pd.DataFrame, values: int
) -> Iterator[_Slice]:
    if kind == "number":
        yield from _quarters(name, numbers(reference[name]))
    else:
        yield from _values(name, texts(reference[name]), texts(matured[name]), values)

    def missing(frame: pd.DataFrame) -> NDArray[np.bool_]:
        column = frame[name]
        gaps = np.isnan(numbers(column)) if kind == "number" else column.isna().to_numpy()
        return np.asarray(gaps)

    if missing(reference).any() or missing(matured).any():
        yield _Slice(name, f"{name} missing", missing)


def _quarters(name: str, known: NDArray[np.float64]) -> Iterator[_Slice]:
    known = known[np.isfinite(known)]
    if not len(known):
        return
    # rounded, so that the name says exactly what is in it; equal quartiles leave fewer quarters
    edges = sorted({float(f"{e:.4g}") for e in np.quantile(known, [0.25, 0.5, 0.75])})
    edges = [edge for edge in edges if known.min() < edge]
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        if low is None and high is None:
            label = name
        elif low is None:
            label = f"{name}<{high:g}"
        elif high is None:
            label = f"{name}>={low:g}"
        else:
            label = f"{low:g}<={name}<{high:g}"
        yield _Slice(name, label, _between(name, low, high))


def _between(
    name: str, low: float | None, high: float | None
) -> Callable[[pd.DataFrame], NDArray[np.bool_]]:
    def member(frame: pd.DataFrame) -> NDArray[np.bool_]:
        column = numbers(frame[name])
        inside = ~np.isnan(column)
        if low is not None:
            inside &= column >= low
        if high is not None:
            inside &= column < high
        return np.asarray(inside)

    return member


def _equal(name: str, value: str) -> Callable[[pd.DataFrame], NDArray[np.bool_]]:
    return lambda frame: np.asarray(texts(frame[name]) == value)


def _values(name: str, known: pd.Series, current: pd.Series, most: int) -> Iterator[_Slice]:
    counts = known.value_counts()
    ranked = [str(v) for v, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept = ranked[:most]
    for value in kept:
        yield _Slice(name, f"{name}={value}", _equal(name, value))
    if len(ranked) > most or not current.dropna().isin(kept).all():

        def other(frame: pd.DataFrame) -> NDArray[np.bool_]:
            column = texts(frame[name])
            return np.asarray(column.notna() & ~column.isin(kept))

        yield _Slice(name, f"other {name}", other)


def _check(
    wanted: Sequence[str],
    columns: Mapping[str, str],
    reference: pd.DataFrame,
    matured: pd.DataFrame,
    metrics: Sequence[str],
) -> None:
    strange = [name for name in wanted if columns.get(name) not in ("number", "category")]
    if strange:
        raise WindowFault(
            f"slices are of number or category columns, got {strange}: name some of {list(columns)}"
        )
    odd = [metric for metric in metrics if metric not in HIGHER_IS_BETTER]
    if odd:
        raise WindowFault(
            f"a slice has one of {', '.join(HIGHER_IS_BETTER)}, got {odd}: correct the metric"
        )
    for side, frame in (("reference", reference), ("matured", matured)):
        missing = [name for name in wanted if name not in frame]
        if missing:
            raise WindowFault(
                f"the {side} rows lack {missing} to slice by, they have {list(frame.columns)[:20]}:"
                " record them, or take them out of the slices"
            )
