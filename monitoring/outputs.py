"""Have the model's answers moved: the classes that it names and how sure it is of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.bursts import (
    blocks_in_time,
    periods_like,
    seconds_of,
    window_effect,
    worth,
)
from monitoring.errors import WindowFault
from monitoring.exact import difference, holm, moved, percent
from monitoring.records import Kind, Signal, Value

_NAME = "predictions"


def prediction_signal(
    reference_proba: ArrayLike,
    current_proba: ArrayLike,
    classes: Sequence[Value],
    *,
    level: float = 0.001,
    minimum_rows: int = 100,
    floor: float = 0.0,
    times: ArrayLike | None = None,
    reference_times: ArrayLike | None = None,
) -> Signal:
    """Drift of the predictions, Kind.PREDICTIONS, named 'predictions'.

    Both sides are probabilities (rows, classes) in the order of `classes`, the reference's from the
    same model on rows that it has not learnt: a model is surer of those that it has. Rows that are
    not finite are left out and counted. Two kinds of tests share `level` (Holm): for each class,
    the share of rows in which it is the likeliest, by Fisher's exact test, and the distribution of
    its probability, by Kolmogorov and Smirnov's two-sample test (exact below 10,000 rows, and
    conservative where scores are tied, as a tree's are). With two classes one of each is enough.
    Fisher's test is exact where chi-square would not be at the small levels of a yearly budget.

    `value` is the largest KS distance, in [0, 1], and a breach wants it, or a share's change, to be
    at least `floor`; `detail["classes"]` has the shares before and now. Raises WindowFault when a
    side does not have one column per class.
    """
    old, kept_old = _read(reference_proba, len(classes), "the reference's")
    new, kept_new = _read(current_proba, len(classes), "the current")
    spans = periods = None
    if times is not None:
        known = seconds_of(times, kept_new)
        spans = blocks_in_time(known)
        if reference_times is not None:
            periods = periods_like(seconds_of(reference_times, kept_old), known)
    threshold = f"p <= {level:.3g}"
    for side, rows in (("current", new), ("reference", old)):
        if len(rows) < max(minimum_rows, 2):
            reason = f"{len(rows):,} {side} rows; at least {max(minimum_rows, 2):,} are needed"
            return Signal(
                _NAME, Kind.PREDICTIONS, None, threshold=threshold, rows=len(new), reason=reason
            )
    codes = range(1, 2) if len(classes) == 2 else range(len(classes))
    found: list[dict[str, Any]] = []
    p_values: list[float] = []
    likeliest = old.argmax(axis=1), new.argmax(axis=1)
    for code in codes:
        before, now = (int((side == code).sum()) for side in likeliest)
        effect, score_effect = 1.0, 1.0
        if spans is not None:
            effect = window_effect(likeliest[1] == code, spans, likeliest[0] == code, periods)
            cuts = np.quantile(old[:, code], np.arange(1, 10) / 10)
            score_effect = float(
                np.mean(
                    [
                        window_effect(new[:, code] <= cut, spans, old[:, code] <= cut, periods)
                        for cut in cuts
                    ]
                )
            )
        distance, p_score = _kolmogorov(old[:, code], new[:, code], score_effect)
        share = difference(before, len(old), now, len(new))
        up = share.value < 0  # towards the reference, so that rounding makes no change larger
        p_values += [moved(before, len(old), *worth(now, len(new), effect, up=up)), p_score]
        found.append(
            {
                "class": classes[code],
                "before": before / len(old),
                "now": now / len(new),
                "low": share.low,
                "high": share.high,
                "mean_before": float(old[:, code].mean()),
                "mean_now": float(new[:, code].mean()),
                "distance": distance,
                "design_effect": max(effect, score_effect),
            }
        )
    adjusted = holm(p_values).reshape(-1, 2)
    for entry, (p_share, p_score) in zip(found, adjusted.tolist(), strict=True):
        entry |= {"share_p_value": p_share, "score_p_value": p_score}
    largest = max(found, key=lambda e: e["distance"])
    smallest = float(adjusted.min())
    size = max(max(abs(e["now"] - e["before"]), e["distance"]) for e in found)
    breached = smallest <= level and size >= floor
    return Signal(
        _NAME,
        Kind.PREDICTIONS,
        breached,
        value=largest["distance"],
        p_value=smallest,
        threshold=threshold,
        rows=len(new),
        reason="; ".join(_say(e) for e in found[:5] if _moved(e, level)) if breached else "",
        detail={
            "classes": found,
            "reference_rows": len(old),
            "level": level,
            "tests": len(p_values),
            "set_aside": int((~kept_old).sum() + (~kept_new).sum()),
        },
    )


def _moved(entry: dict[str, Any], level: float) -> bool:
    return bool(min(entry["share_p_value"], entry["score_p_value"]) <= level)


def _say(entry: dict[str, Any]) -> str:
    return (
        f"{entry['class']!r} is named in {percent(entry['before'])} -> {percent(entry['now'])} of "
        f"the rows, its mean probability {entry['mean_before']:.3g} -> {entry['mean_now']:.3g}"
    )


def _kolmogorov(
    old: NDArray[np.float64], new: NDArray[np.float64], effect: float
) -> tuple[float, float]:
    from scipy.stats import ks_2samp, kstwo

    with warnings.catch_warnings():  # where the exact p-value does not come about, the other does
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation", RuntimeWarning)
        found = ks_2samp(old, new)
    if effect <= 1:
        return float(found.statistic), float(found.pvalue)
    rows = max(1.0, len(new) / effect)
    harmonic = max(1, int(len(old) * rows / (len(old) + rows)))  # as scipy's asymptotic p-value
    return float(found.statistic), float(kstwo.sf(found.statistic, harmonic))


def _read(
    proba: ArrayLike, classes: int, side: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    try:
        rows = np.asarray(proba, dtype=np.float64)
    except (TypeError, ValueError):
        rows = np.zeros((1, 0))
    if rows.size == 0 and rows.ndim == 1:
        rows = rows.reshape(0, classes)
    if rows.ndim != 2 or rows.shape[1] != classes:
        raise WindowFault(
            f"{side} probabilities have one column per class, {classes}, got shape {rows.shape}: "
            "give them as (rows, classes)"
        )
    read = np.isfinite(rows).all(axis=1)
    return rows[read], np.asarray(read)
