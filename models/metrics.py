"""Losses of predicted probabilities, in plain NumPy.

`y` is int (n,), positions in the classes; `proba` is float (n, k), rows summing to one. All losses
are means per row and smaller is better; accuracy and ROC AUC: larger is better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataFault

_EPS = float(np.finfo(np.float64).eps)  # as scikit-learn clips: a sure miss costs 36 nats


def checked(y: ArrayLike, proba: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pair as arrays, or a DataFault: shapes, codes out of range, no distribution, NaN."""
    p = np.asarray(proba, dtype=np.float64)
    codes = np.asarray(y)
    if p.ndim != 2 or codes.ndim != 1 or len(codes) != len(p) or not len(p):
        raise DataFault(
            f"metrics need y (n,) and proba (n, k) with n > 0, got {codes.shape} and {p.shape}: "
            "give one row of probabilities per label"
        )
    if codes.dtype.kind not in "biu" or codes.min() < 0 or codes.max() >= p.shape[1]:
        raise DataFault(
            f"labels are codes from 0 to {p.shape[1] - 1}, got {codes.dtype} from {codes.min()} "
            f"to {codes.max()}: translate them first"
        )
    bad = ~(np.isfinite(p).all(1) & (p >= -1e-9).all(1) & (np.abs(p.sum(1) - 1) < 1e-3))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataFault(
            f"each row of probabilities is finite, not negative and sums to 1, got {p[row]} in "
            f"row {row} ({int(bad.sum()):,} such rows): the model that gave them is broken"
        )
    return codes.astype(np.int64), p


def per_row_log_loss(y: ArrayLike, proba: ArrayLike) -> NDArray[np.float64]:
    """-ln of the probability given to the true class, nats (n,)."""
    codes, p = checked(y, proba)
    true: NDArray[np.float64] = p[np.arange(len(codes)), codes]
    return -np.log(np.clip(true, _EPS, 1.0))


def per_row_error(y: ArrayLike, proba: ArrayLike) -> NDArray[np.float64]:
    """1 where the most probable class is not the true one, else 0 (n,)."""
    codes, p = checked(y, proba)
    return np.asarray(p.argmax(1) != codes, dtype=np.float64)


def log_loss(y: ArrayLike, proba: ArrayLike) -> float:
    """Mean log loss, nats per row."""
    return float(per_row_log_loss(y, proba).mean())


def error(y: ArrayLike, proba: ArrayLike) -> float:
    """Share of rows whose most probable class is wrong."""
    return float(per_row_error(y, proba).mean())


def accuracy(y: ArrayLike, proba: ArrayLike) -> float:
    """Share of rows whose most probable class is right."""
    return 1.0 - error(y, proba)


def roc_auc(y: ArrayLike, proba: ArrayLike) -> float:
    """Area under the ROC curve; with more than two classes the mean of one against the rest.

    Classes that `y` does not hold are left out of the mean. Raises DataFault if `y` holds one
    class only, since then nothing can be ranked.
    """
    codes, p = checked(y, proba)
    areas = [float(weighted_auc(codes == c, p[:, c])[0]) for c in ranked_classes(codes, p.shape[1])]
    if not areas:
        raise DataFault(
            f"ROC AUC ranks two or more classes, got only class {codes[0]} in {len(codes):,} rows: "
            "wait for more labels, or use log_loss"
        )
    return float(np.mean(areas))


def ranked_classes(codes: NDArray[np.int64], k: int) -> list[int]:
    """Classes whose one-against-rest area is defined; of two classes, the last alone."""
    there = np.bincount(codes, minlength=k)
    candidates = [1] if k == 2 else range(k)
    return [c for c in candidates if 0 < there[c] < len(codes)]


def weighted_auc(
    positive: NDArray[np.bool_], score: NDArray[np.float64], weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Area under the ROC curve for each row of `weights` (b, n); ties count one half.

    It is the Mann-Whitney statistic (Hanley and McNeil, 1982). NaN where the weights leave one
    class empty, which happens in resamples. Without weights, one area (1,).
    """
    w = np.ones((1, len(score))) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    w = w[:, order]
    ups = np.add.reduceat(w * positive[order], starts, axis=1)  # weight of positives per tie group
    downs = np.add.reduceat(w * ~positive[order], starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    pairs = ups.sum(1) * downs.sum(1)
    wins = (ups * (below + downs / 2)).sum(1)
    result: NDArray[np.float64] = np.divide(
        wins, pairs, out=np.full(len(w), np.nan), where=pairs > 0
    )
    return result


def one_minus_auc(y: ArrayLike, proba: ArrayLike) -> float:
    """1 - ROC AUC, so that smaller is better."""
    return 1.0 - roc_auc(y, proba)


OBJECTIVES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "log_loss": log_loss,
    "error": error,
    "one_minus_auc": one_minus_auc,
}


def objective(name: str) -> Callable[[ArrayLike, ArrayLike], float]:
    """The loss of that name, smaller is better."""
    try:
        return OBJECTIVES[name]
    except KeyError:
        raise DataFault(
            f"an objective is one of {', '.join(OBJECTIVES)}, got {name!r}: use one of them"
        ) from None


def measure(y: ArrayLike, proba: ArrayLike) -> dict[str, float]:
    """log_loss, error, accuracy, and roc_auc unless `y` holds one class only."""
    result = {
        "log_loss": log_loss(y, proba),
        "error": error(y, proba),
        "accuracy": accuracy(y, proba),
    }
    codes, p = checked(y, proba)
    if ranked_classes(codes, p.shape[1]):
        result["roc_auc"] = roc_auc(codes, p)
    return result
