"""Performance before the labels come: what the model's own probabilities promise for a window.

The estimate of a metric is its mean over the labels that calibrated probabilities let expect
(confidence-based performance estimation). The calibration is learnt from reference rows with labels
that the model did not train on, and where the columns have moved, from those of them that look like
the current ones (`monitoring.importance`), which plain confidence-based estimation cannot do.

It sees a covariate shift: rows that are harder or easier than the reference's. It cannot see a pure
concept drift, where the labels of the same rows change; nothing that has no labels can. Every
signal says so, and `track_record` holds earlier estimates against the labels when they have come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.calibration import Choice, calibrate, choose
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, judge, wilson
from monitoring.expectation import Array, expected, simulated, wander
from monitoring.importance import Weights, importance_weights
from monitoring.performance import HIGHER_IS_BETTER
from monitoring.records import Kind, Signal, Value
from monitoring.rules import Threshold

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "estimated_"
METRICS = ("accuracy", "error", "log_loss", "roc_auc")
_ALWAYS = ("accuracy", "log_loss", "roc_auc")
_ROWS = 20_000  # rows a side that the intervals are drawn from
_CELLS = 2_000_000  # simulated probabilities held at once: 16 MB each array
_BLIND = "a change of the labels of like rows (concept drift) cannot be seen without labels"


class Estimate(NamedTuple):
    """Metrics of a window with prediction intervals, and how they came about."""

    metrics: Mapping[str, Interval]
    choice: Choice
    weights: Weights
    wander: tuple[float, ...]  # deviations of the log odds between stretches of the reference


def estimate_performance(
    proba: Array,
    codes: NDArray[np.int64],
    current: Array,
    *,
    points: tuple[Array, Array] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 400,
) -> Estimate:
    """Accuracy, error, log loss (nats) and ROC AUC of `current` (m, k), whose labels are not known.

    `proba` (n, k) and `codes` (n,) are the labelled reference in order of time, `points` the
    columns of both windows as finite numbers, (n, d) and (m, d), for the weighting; without them
    there is none. The interval is one for the figure that the window's own labels will give. Three
    things make it wide: the reference is resampled with Dirichlet weights (Rubin 1981) and the
    calibration fitted anew, the labels are drawn from the probabilities, and the log odds are
    shifted by as much as they wander between ten stretches of the reference beyond chance, which is
    0 where rows are independent (DerSimonian and Laird 1986). The importance weights themselves are
    taken as given. A metric that most draws leave undefined is left out. Beyond 20,000 rows a side,
    intervals come from a sample, so they are a little too wide. O(resamples (n + m) k) time.
    """
    rng = np.random.default_rng(seed)
    k = proba.shape[1]
    choice = choose(proba, codes)
    own = calibrate(proba, codes, proba, curve=choice.curve)[0]
    if points is None:
        weights = Weights(np.ones(len(codes)), 0.5, 0.0, 0.0, "no weighting was asked for")
    else:
        top = proba.argmax(axis=1)
        sure = own[np.arange(len(codes)), top]
        weights = importance_weights(*points, (top == codes) - sure, sure * (1 - sure), seed=seed)
    values = expected(
        calibrate(proba, codes, current, weights=weights.values, curve=choice.curve)[0], current
    )
    wanders = wander(own, codes)
    rows = _sample(rng, len(codes))
    base, seen, labels = weights.values[rows], proba[rows], codes[rows]
    asked = current[_sample(rng, len(current))]
    draws: dict[str, list[Array]] = {}
    step = max(1, _CELLS // (max(len(asked), len(rows)) * k))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.standard_exponential((count, len(rows)))
        drawn *= base * (len(rows) / drawn.sum(axis=1, keepdims=True))
        fits = (
            calibrate(seen, labels, asked, weights=drawn, curve=choice.curve)
            if len(np.unique(labels)) > 1
            else np.broadcast_to(asked, (count, *asked.shape))
        )
        for name, sample in simulated(fits, asked, wanders, rng).items():
            draws.setdefault(name, []).append(sample)
    metrics = {}
    for name, value in values.items():
        sample = np.concatenate(draws[name])
        sample = sample[np.isfinite(sample)]
        if math.isfinite(value) and len(sample) * 2 > resamples:
            low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
            metrics[name] = Interval(value, min(float(low), value), max(float(high), value))
    return Estimate(metrics, choice, weights, wanders)


def estimate_signals(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    classes: Sequence[Value],
    thresholds: Sequence[Threshold],
    baseline: Mapping[str, float],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    minimum_rows: int = 200,
    weighting: bool = True,
    resamples: int = 400,
) -> tuple[Signal, ...]:
    """One signal per threshold on a metric of METRICS, and accuracy, log loss and AUC in any case.

    `reference` holds rows that the model did not train on, in order of time, with the `columns`
    (name -> 'number', 'category' or 'text'), `label` and `proba`, the model's probabilities in the
    order of `classes`; `current` the same without `label`. A signal 'estimated_accuracy' is held
    against the thresholds on 'accuracy', and breached when its whole interval lies beyond;
    `baseline` holds the champion's figures at the gate. `detail` has the reference's realised
    figure, the calibration error, the effective rows and the weighting. Columns that either frame
    lacks, and rows whose label or probabilities cannot be read, are left out and counted. Raises
    WindowFault when `label` or `proba` is missing.
    """
    wanted: list[tuple[str, Threshold | None]] = [
        (t.metric, t) for t in thresholds if t.metric in METRICS
    ]
    named = {metric for metric, _ in wanted}
    wanted += [(metric, None) for metric in _ALWAYS if metric not in named]
    old, new = _read(reference, classes, labelled=True), _read(current, classes, labelled=False)
    reason = _too_little(old, new, minimum_rows)
    found: Mapping[str, Interval] = {}
    common: dict[str, Any] = {}
    if not reason:
        known = {c: kind for c, kind in columns.items() if c in reference and c in current}
        points = (
            _points(reference[old.kept], current[new.kept], known) if weighting and known else None
        )
        estimate = estimate_performance(
            old.proba,
            old.codes,
            new.proba,
            points=points,
            confidence=confidence,
            seed=seed,
            resamples=resamples,
        )
        found, common = estimate.metrics, _detail(estimate, old, new)
        if left := [c for c in columns if c not in known]:
            common["columns_left_out"] = left
        common["reference"] = expected(np.eye(len(classes))[old.codes], old.proba)
    signals = []
    for number, (metric, threshold) in enumerate(wanted):
        before = [m for m, _ in wanted[:number]].count(metric)
        signals.append(
            _signal(metric, threshold, found.get(metric), baseline, reason, common, before, new)
        )
    return tuple(signals)


def _signal(
    metric: str,
    threshold: Threshold | None,
    interval: Interval | None,
    baseline: Mapping[str, float],
    reason: str,
    common: Mapping[str, Any],
    before: int,
    rows: _Rows,
) -> Signal:
    breached: bool | None = None
    detail: dict[str, Any] = {}
    if interval is None:
        reason = reason or f"{metric} is not defined: the rows promise one class only"
    elif threshold is None:
        breached = False
    else:
        better = HIGHER_IS_BETTER[metric]
        breached, reason, detail = judge(
            interval, threshold, baseline.get(metric), higher_is_better=better
        )
    if metric in baseline:
        detail["baseline"] = baseline[metric]
    if common:
        figure = common["reference"].get(metric, math.nan)
        detail |= {**common, "reference": figure if math.isfinite(figure) else None}
    return Signal(
        PREFIX + metric + (f"-{before + 1}" if before else ""),
        Kind.ESTIMATE,
        breached,
        value=interval and interval.value,
        low=interval and interval.low,
        high=interval and interval.high,
        threshold=str(threshold or ""),
        rows=len(rows.proba),
        reason=reason,
        detail=detail,
    )


def track_record(
    estimates: Mapping[str, Iterable[Signal]],
    realised: Mapping[str, Iterable[Signal]],
    *,
    metric: str | None = None,
    confidence: float = 0.95,
    minimum_windows: int = 10,
) -> Signal:
    """Were the earlier intervals right? 'estimate_error' over windows whose labels have come.

    Both mappings go from the window's id to its signals, of `estimate_signals` and of
    `performance_signals`; a window counts when both speak and at least half of the estimated rows
    have their label. `metric` is the one most often known, without a name. `value` is the mean
    absolute error, in the metric's unit, with a normal interval over windows;
    breached when Wilson's interval of the share of windows whose realised figure lay within the
    estimate lies wholly below `confidence`, the level that the estimates were given with: then the
    model's world has a concept drift that estimates are blind to, and they are not to be trusted.
    """
    pairs: dict[str, list[tuple[Signal, Signal]]] = {name: [] for name in METRICS}
    for window, signals in estimates.items():
        known = {s.name: s for s in realised.get(window, ()) if s.value is not None}
        for said in signals:
            was = known.get(said.name.removeprefix(PREFIX))
            if (
                was is not None
                and said.name.startswith(PREFIX)
                and said.value is not None
                and was.name in pairs
                and 2 * was.rows >= said.rows
            ):
                pairs[was.name].append((said, was))
    if metric is None:
        metric = max(METRICS, key=lambda name: len(pairs[name]))
    elif metric not in METRICS:
        raise WindowFault(f"a metric is one of {METRICS}, got {metric!r}: name one that is")
    chosen = pairs[metric]
    n = len(chosen)
    detail: dict[str, Any] = {"metric": metric, "windows": n}
    level = f"share of intervals that held < {confidence:g}"
    if n < max(minimum_windows, 1):
        windows = f"{n} window{'s' * (n != 1)}"
        reason = f"{windows} with an estimate and labels; at least {minimum_windows} are needed"
        return Signal(
            "estimate_error", Kind.ESTIMATE, None, threshold=level, reason=reason, detail=detail
        )
    errors = np.array([_number(said.value) - _number(was.value) for said, was in chosen])
    held = sum(
        _number(said.low) <= _number(was.value) <= _number(said.high) for said, was in chosen
    )
    share = wilson(held, n, confidence)
    assert share.high is not None
    sizes = np.abs(errors)
    half = 1.96 * float(sizes.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    detail |= {"bias": float(errors.mean()), "held": held / n, "held_low": share.low}
    detail |= {"held_high": share.high, "worst": float(sizes.max())}
    breached = share.high < confidence
    return Signal(
        "estimate_error",
        Kind.ESTIMATE,
        breached,
        value=float(sizes.mean()),
        low=max(0.0, float(sizes.mean()) - half),
        high=float(sizes.mean()) + half,
        threshold=level,
        rows=sum(was.rows for _, was in chosen),
        reason=f"{held} of {n} estimates of {metric} held what they promised" if breached else "",
        detail=detail,
    )


class _Rows(NamedTuple):
    proba: Array  # (n, k)
    codes: NDArray[np.int64]  # (n,), empty for rows without labels
    kept: NDArray[np.bool_]  # of the frame's rows
    set_aside: int  # rows that could not be read; without a label is not a fault


def _read(frame: pd.DataFrame, classes: Sequence[Value], *, labelled: bool) -> _Rows:
    missing = [n for n in (("label", "proba") if labelled else ("proba",)) if n not in frame]
    if missing:
        raise WindowFault(
            f"an estimate wants {'reference' if labelled else 'current'} rows with the columns "
            f"{missing}, got {list(frame.columns)[:10]}: keep the rows of the gate with label and "
            "probabilities"
        )
    k = len(classes)
    nothing = np.full(k, np.nan)
    proba = np.array(
        [p if p is not None and np.size(p) == k else nothing for p in frame["proba"].tolist()],
        dtype=np.float64,
    ).reshape(-1, k)
    kept = np.isfinite(proba).all(axis=1) & (proba >= 0).all(axis=1) & (proba.sum(axis=1) > 0)
    if not labelled:
        read = proba[kept] / proba[kept].sum(axis=1, keepdims=True)
        return _Rows(read, np.empty(0, np.int64), kept, int((~kept).sum()))
    codes_of: dict[Value, int] = {str(value): code for code, value in enumerate(classes)}
    codes_of |= {value: code for code, value in enumerate(classes)}
    there = frame["label"].notna().to_numpy(dtype=bool)
    codes = np.array(
        [
            codes_of.get(label, codes_of.get(str(label), -1)) if known else -1
            for label, known in zip(frame["label"].tolist(), there, strict=True)
        ],
        dtype=np.int64,
    )
    kept &= codes >= 0
    read = proba[kept] / proba[kept].sum(axis=1, keepdims=True)
    return _Rows(read, codes[kept], kept, int((there & ~kept).sum()))


def _too_little(old: _Rows, new: _Rows, minimum: int) -> str:
    for name, rows in (("labelled reference", old), ("current", new)):
        if len(rows.proba) < max(minimum, 1):
            return f"{len(rows.proba):,} {name} rows; at least {minimum:,} are needed"
    if len(np.unique(old.codes)) < 2:
        return (
            f"the labels of the {len(old.codes):,} reference rows are all of one class, so nothing "
            "can be calibrated"
        )
    return ""


def _points(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str]
) -> tuple[Array, Array]:
    from monitoring.embedding import Embedding

    if "text" in columns.values():
        from monitoring.text.points import placed

        reference, current, columns = placed(reference, current, columns)
    embedding = Embedding.fit(reference, columns)
    return (
        embedding.transform(reference).astype(np.float64),
        embedding.transform(current).astype(np.float64),
    )


def _detail(estimate: Estimate, old: _Rows, new: _Rows) -> dict[str, Any]:
    weights = estimate.weights
    detail: dict[str, Any] = {
        "reference_rows": len(old.codes),
        "effective_rows": weights.effective,
        "calibration": estimate.choice.curve,
        "calibration_error": estimate.choice.error,
        "calibration_log_loss": dict(estimate.choice.losses),
        "weighting": {
            "share": weights.share,
            "auc": weights.auc,
            "trend": weights.trend,
            "largest": float(weights.values.max()),
            "reason": weights.reason,
        },
        "wander": max(estimate.wander),
        "blind": _BLIND,
    }
    if old.set_aside or new.set_aside:
        detail["set_aside"] = {"reference": old.set_aside, "current": new.set_aside}
    return detail


def _sample(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    if rows <= _ROWS:
        return np.arange(rows)
    return np.sort(rng.choice(rows, _ROWS, replace=False))


def _number(value: float | None) -> float:
    return math.nan if value is None else value
