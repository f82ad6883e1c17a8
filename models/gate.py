"""The gate: champion against challenger on the newest labelled rows that neither was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataFault
from models.groups import Groups, grouped, resampled
from models.metrics import (
    OBJECTIVES,
    checked,
    measure,
    per_row_error,
    per_row_log_loss,
    ranked_classes,
    weighted_auc,
)
from models.records import Verdict

_SLICES = 12  # values of one slicing column that are reported, the most frequent first


@dataclass(frozen=True, slots=True)
class GateRule:
    """What a challenger must show. `margin` is in the objective's unit, per row."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rows: int = 2_000  # newest labelled rows held back from training
    minimum_rows: int = 200
    confidence: float = 0.95  # one-sided, of the paired bootstrap
    margin: float = 0.0  # the lower bound of the gain must exceed this; negative: non-inferiority
    resamples: int = 2_000
    refit: bool = False  # after passing, fit the same configuration on the gate's rows too
    slice_rows: int = 100  # slices of fewer rows are not reported
    slice_tolerance: float | None = None  # no slice may be worse than this for certain; None: any
    block: timedelta | None = None  # rows of so long a stretch of time are resampled together

    def __post_init__(self) -> None:
        for name, value, good in (
            ("rows", self.rows, self.rows >= 1),
            ("minimum_rows", self.minimum_rows, self.minimum_rows >= 2),
            ("confidence", self.confidence, 0.5 < self.confidence < 1),
            ("margin", self.margin, np.isfinite(self.margin)),
            ("resamples", self.resamples, self.resamples >= 100),
            ("slice_rows", self.slice_rows, self.slice_rows >= 2),
            (
                "slice_tolerance",
                self.slice_tolerance,
                self.slice_tolerance is None or self.slice_tolerance >= 0,
            ),
            ("block", self.block, self.block is None or self.block > timedelta(0)),
        ):
            if not good:
                raise ValueError(f"gate.{name} is out of its range, got {value!r}: see GateRule")


def judge(
    champion: ArrayLike | None,
    challenger: ArrayLike,
    y: ArrayLike,
    rule: GateRule,
    *,
    metric: str = "log_loss",
    seed: int = 0,
    slices: Mapping[str, Any] | None = None,
    baseline: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Verdict:
    """Whether the challenger is better by more than `rule.margin` for certain.

    `champion` and `challenger` are probabilities (n, k) for the same rows, `y` their labels as
    codes (n,). Rows are resampled in pairs (Efron and Tibshirani 1993, ch. 13); the challenger
    passes if the lower percentile bound of its gain exceeds the margin. Without a champion it is
    held against `baseline` (k,), the base rates of the training labels. `slices` are columns (n,)
    by which the gain is reported too.

    With `groups`, integer ids (n,) such as the day of each row, whole groups are resampled
    (Cameron, Gelbach and Miller 2008) and bounded by Student's t (see `models.groups`); measured at
    95 % on log loss and error, 2 to 5 of 100 challengers without a gain passed with 3 to 30 groups,
    where rows alone let 10 to 25 pass. One group bounds nothing.

    Anything that cannot be compared is refused with the reason,
    never raised, but for a metric that does not exist.
    """
    if metric not in OBJECTIVES:
        raise DataFault(
            f"an objective is one of {', '.join(OBJECTIVES)}, got {metric!r}: use one of them"
        )
    codes = np.asarray(y)
    rows = len(codes) if codes.ndim == 1 else 0
    try:
        codes, old, new = _comparable(codes, champion, challenger, baseline, rule, metric)
        opponent = "base rate" if champion is None else "champion"
        parts = grouped(groups, rows)
        if parts is not None and len(parts.sizes) < 2:
            raise DataFault(
                f"all {rows:,} rows came together, in one group, so the gain cannot be bounded: "
                "raise gate.rows, or shorten gate.block"
            )
        return _compared(codes, old, new, rule, metric, seed, slices or {}, opponent, parts)
    except DataFault as fault:
        return _refused(str(fault), rows, metric, rule)


def _comparable(
    codes: NDArray[Any],
    champion: ArrayLike | None,
    challenger: ArrayLike,
    baseline: ArrayLike | None,
    rule: GateRule,
    metric: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Labels, champion and challenger of one shape, or a DataFault that says why not."""
    rows = len(codes) if codes.ndim == 1 else 0
    if rows < rule.minimum_rows:
        raise DataFault(
            f"too few labelled rows to compare on: {rows:,} of the {rule.minimum_rows:,} needed"
        )
    if champion is None:
        if baseline is None:
            raise DataFault("there is neither a champion nor a base rate to compare with")
        champion = np.tile(np.asarray(baseline, dtype=np.float64), (rows, 1))
    pair = []
    for name, proba in (("champion", champion), ("challenger", challenger)):
        try:
            codes, checked_proba = checked(codes, proba)
        except DataFault as fault:
            raise DataFault(f"the {name} cannot be judged: {fault}") from None
        pair.append(checked_proba)
    old, new = pair
    if old.shape != new.shape:
        raise DataFault(
            f"champion and challenger answer different classes: {old.shape[1]} and {new.shape[1]}"
        )
    if metric == "one_minus_auc" and not ranked_classes(codes, new.shape[1]):
        raise DataFault(f"ROC AUC needs labels of two classes, the {rows:,} rows hold one")
    return codes, old, new


def _compared(
    codes: NDArray[np.int64],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    rule: GateRule,
    metric: str,
    seed: int,
    slices: Mapping[str, Any],
    opponent: str,
    groups: Groups | None,
) -> Verdict:
    rng = np.random.default_rng(seed)
    gain, low, high = _interval(codes, old, new, metric, rule, rng, groups)
    rows = len(codes)
    parts = tuple(_slices(codes, old, new, metric, rule, rng, slices, groups))
    unit = "1 - AUC" if metric == "one_minus_auc" else f"{metric.replace('_', ' ')} per row"
    side = "better" if gain >= 0 else "worse"
    level = f"{100 * rule.confidence:g} %"
    words = (
        f"challenger {side} than the {opponent} by {abs(gain):.4f} {unit} ({level} "
        f"lower bound {low:.4f}) on {rows:,} rows"
    )
    if groups is not None:
        words += f" of {len(groups.sizes):,} groups"
    if opponent == "champion":
        words = words.replace(" than the champion", "")
    harmed = [
        part
        for part in parts
        if rule.slice_tolerance is not None and part["high"] < -rule.slice_tolerance
    ]
    if not np.isfinite([gain, low, high]).all():
        passed, reason = False, f"the gain on {rows:,} rows cannot be bounded: too few of a class"
    elif not low > rule.margin:
        passed = False
        reason = f"{words}: the bound must exceed {rule.margin:g}"
    elif harmed:
        passed = False
        names = ", ".join(f"{p['slice']} = {p['value']}" for p in harmed[:5])
        reason = f"{words}, but certainly worse where {names}"
    else:
        passed, reason = True, words
    known = bool(np.isfinite([gain, low, high]).all())
    return Verdict(
        passed=passed,
        reason=reason,
        rows=rows,
        metric=metric,
        champion=measure(codes, old),
        challenger=measure(codes, new),
        gain=gain if known else None,
        low=low if known else None,
        high=high if known else None,
        confidence=rule.confidence,
        slices=parts,
    )


def _refused(reason: str, rows: int, metric: str, rule: GateRule) -> Verdict:
    return Verdict(
        passed=False,
        reason=reason,
        rows=rows,
        metric=metric,
        champion={},
        challenger={},
        gain=None,
        low=None,
        high=None,
        confidence=rule.confidence,
    )


def _interval(
    codes: NDArray[np.int64],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    metric: str,
    rule: GateRule,
    rng: np.random.Generator,
    groups: Groups | None,
) -> tuple[float, float, float]:
    """(gain, lower bound, upper bound), each bound one-sided at the rule's confidence."""
    n = len(codes)
    if metric == "one_minus_auc":
        classes = ranked_classes(codes, new.shape[1])

        def gains(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
            areas = [
                weighted_auc(codes == c, new[:, c], weights)
                - weighted_auc(codes == c, old[:, c], weights)
                for c in classes
            ]
            return np.asarray(np.mean(areas, axis=0))

        gain = float(gains(None)[0])
    else:
        per_row = per_row_log_loss if metric == "log_loss" else per_row_error
        difference = per_row(codes, old) - per_row(codes, new)

        def gains(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
            assert weights is not None
            return np.asarray(weights @ difference / weights.sum(axis=1))

        gain = float(difference.mean())
    drawn = np.concatenate([gains(w) for w in resampled(n, rule.resamples, rng, groups)])
    drawn = drawn[np.isfinite(drawn)]  # a resample may hold one class only
    if len(drawn) < 0.9 * rule.resamples:
        return gain, float("nan"), float("nan")
    if groups is not None:
        half = groups.widened(rule.confidence) * float(np.sqrt(((drawn - gain) ** 2).mean()))
        return gain, gain - half, gain + half
    low, high = np.quantile(drawn, [1 - rule.confidence, rule.confidence])
    return gain, float(low), float(high)


def _slices(
    codes: NDArray[np.int64],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    metric: str,
    rule: GateRule,
    rng: np.random.Generator,
    slices: Mapping[str, Any],
    groups: Groups | None,
) -> Iterator[dict[str, Any]]:
    """Gain and bounds in each large enough slice of each column."""
    for name, values in slices.items():
        texts = _binned(values)
        if len(texts) != len(codes):
            raise DataFault(
                f"a slice has one value per row, got {len(texts)} of {name!r} for {len(codes)} "
                "rows: align it"
            )
        found, counts = np.unique(texts, return_counts=True)
        order = np.lexsort((found, -counts))[:_SLICES]
        for value, count in zip(found[order], counts[order], strict=True):
            inside = texts == value
            one_class = not ranked_classes(codes[inside], new.shape[1])
            if count < rule.slice_rows or (metric == "one_minus_auc" and one_class):
                continue
            own = None if groups is None else groups.among(inside)
            if own is not None and len(own.sizes) < 2:
                continue
            gain, low, high = _interval(
                codes[inside], old[inside], new[inside], metric, rule, rng, own
            )
            if np.isfinite([gain, low, high]).all():
                yield {
                    "slice": name,
                    "value": str(value),
                    "rows": int(count),
                    "gain": gain,
                    "low": low,
                    "high": high,
                }


def _binned(values: Any) -> NDArray[np.object_]:
    """Slicing values as text; numbers with many values as the quarter they fall into."""
    column = np.asarray(values)
    if column.ndim == 1 and column.dtype.kind in "iuf" and len(np.unique(column)) > _SLICES:
        numbers = column.astype(np.float64)
        cuts = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
        names = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
        place = np.clip(np.searchsorted(cuts, numbers, side="right") - 1, 0, len(names) - 1)
        texts = [
            "missing" if gone else names[i]
            for i, gone in zip(place, np.isnan(numbers), strict=True)
        ]
    else:
        texts = [str(value) for value in values]
    return np.array(texts, dtype=object)
