"""Probabilities that keep their promise, learnt from labelled rows that the model did not train on.

Two curves are fitted for each class against the rest and their mean is used: Platt's logistic curve
(1999), steady with few rows but stiff, and isotonic regression (Zadrozny and Elkan 2002), the other
way round. On the streams and tables of the benchmark the mean was ahead of either alone and of
picking one by cross-validation. The beta curve (Kull, Silva Filho and Flach 2017) is there too, but
strays where the reference holds few rows of a kind. Cross-validation only guards against harm:
where the probabilities as they came do better, they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault

Array = NDArray[np.float64]
CURVES = ("platt", "beta", "isotonic")
MIXED = ("platt", "isotonic")  # whose mean is taken

_EDGE = 1e-9  # log odds end here: boosted trees rank rows well below one in a million
_STEPS = 25
_LONGEST = 4.0  # of a Newton step, in standard deviations of the log odds
_RIDGE = 1e-3  # keeps a perfectly separated reference finite; far below the weight of one row


@dataclass(frozen=True, slots=True)
class Choice:
    """Which curve was taken, and the cross-validated log loss of each, nats per row."""

    curve: str  # 'mean' or 'none'
    losses: Mapping[str, float]
    error: float  # expected calibration error of the probabilities as they came, in [0, 1]


def choose(
    proba: Array, codes: NDArray[np.int64], *, weights: Array | None = None, folds: int = 5
) -> Choice:
    """Whether calibrating helps on rows that it was not fitted on.

    `proba` (n, k), `codes` (n,) in 0..k-1, `weights` (n,). Rows are dealt to the folds within each
    class, so the answer does not depend on a seed. 'none' is taken only when its log loss is lower
    by more than two standard errors: a curve costs little, an uncalibrated model much.
    """
    n, k = proba.shape
    w = np.ones(n) if weights is None else weights
    fold = np.empty(n, dtype=np.int64)
    for code in range(k):
        there = np.flatnonzero(codes == code)
        fold[there] = np.arange(len(there)) % folds
    held: dict[str, Array] = {name: np.zeros((n, k)) for name in ("none", "mean", *MIXED)}
    held["none"] = proba
    for number in range(folds):
        out = fold == number
        if out.all() or not out.any():
            continue
        parts = _curves(proba[~out], codes[~out], proba[out], w[None, ~out])
        for name, part in parts.items():
            held[name][out] = _shares(part)[0]
        held["mean"][out] = _shares(np.mean(list(parts.values()), axis=0))[0]
    rows = np.arange(n)
    per_row = {
        name: -w / w.mean() * np.log(np.clip(q[rows, codes], 1 / (4 * n), 1.0))
        for name, q in held.items()
    }
    gain = per_row["mean"] - per_row["none"]
    worse = gain.mean() > 2 * gain.std() / np.sqrt(n)
    losses = {name: float(values.mean()) for name, values in per_row.items()}
    return Choice("none" if worse else "mean", losses, calibration_error(proba, codes))


def calibrate(
    proba: Array,
    codes: NDArray[np.int64],
    current: Array,
    *,
    weights: Array | None = None,
    curve: str = "mean",
) -> Array:
    """Calibrated probabilities of `current` (m, k), one fit per row of `weights` (b, n): (b, m, k).

    `proba` (n, k) and `codes` (n,) are the labelled rows. All fits of a smooth curve are one
    batch of Newton steps, O(b n) each; isotonic regression is linear in n per fit. With more than
    two classes the one-against-rest probabilities are scaled to sum to one. Raises WindowFault for
    shapes that do not fit, an unknown curve, or rows of one class only.
    """
    _check(proba, codes, current)
    w = np.ones((1, len(codes))) if weights is None else np.atleast_2d(weights)
    if w.shape[1] != len(codes):
        raise WindowFault(
            f"weights are (fits, rows), got {w.shape} for {len(codes):,} rows: one a labelled row"
        )
    if curve == "none":
        return np.broadcast_to(current, (len(w), *current.shape))
    if curve not in (*CURVES, "mean"):
        raise WindowFault(f"a curve is one of {(*CURVES, 'mean', 'none')}, got {curve!r}: use one")
    if len(np.unique(codes)) < 2:
        raise WindowFault(
            f"the labels of all {len(codes):,} rows are one class: wait for rows of another"
        )
    parts = _curves(proba, codes, current, w, (curve,) if curve != "mean" else MIXED)
    return _shares(np.mean(list(parts.values()), axis=0))


def calibration_error(proba: Array, codes: NDArray[np.int64], bins: int = 10) -> float:
    """Expected calibration error of the most probable class, bins of equal size (Guo et al. 2017).

    The noise of the bins is not taken off, so it is not 0 for perfect probabilities.
    """
    top = proba.argmax(axis=1)
    sure, right = proba[np.arange(len(codes)), top], (top == codes).astype(float)
    order = np.argsort(sure, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(float(sure[p].sum() - right[p].sum())) for p in parts if len(p)]
    return float(sum(gaps)) / max(len(codes), 1)


def _check(proba: Array, codes: NDArray[np.int64], current: Array) -> None:
    if (
        proba.ndim != 2
        or current.ndim != 2
        or codes.shape != (len(proba),)
        or proba.shape[1] != current.shape[1]
        or proba.shape[1] < 2
    ):
        raise WindowFault(
            f"probabilities are (rows, classes) with one code a row, got {proba.shape}, "
            f"{codes.shape} and {current.shape}: give both windows the same classes, two or more"
        )


def _curves(
    proba: Array,
    codes: NDArray[np.int64],
    current: Array,
    weights: Array,
    names: tuple[str, ...] = MIXED,
) -> dict[str, Array]:
    """Each curve's one-against-rest probabilities (b, m, k); with two classes of the last one."""
    k = proba.shape[1]
    found: dict[str, Array] = {}
    for name in names:
        out = np.empty((len(weights), len(current), k))
        for code in [1] if k == 2 else range(k):
            positive = (codes == code).astype(float)
            if not positive.any() or positive.all():
                # never seen in the reference: at most as often as one row more would have shown
                rare = (positive.sum() + 0.5) / (len(positive) + 1)
                share = current[:, code] * min(1.0, rare / max(proba[:, code].mean(), _EDGE))
                out[:, :, code] = share if not positive.any() else rare
            elif name == "isotonic":
                out[:, :, code] = _isotonic(proba[:, code], positive, current[:, code], weights)
            else:
                basis = _platt if name == "platt" else _beta
                shape = (basis(proba[:, code]), basis(current[:, code]))
                out[:, :, code] = _smooth(*shape, positive, weights)
        if k == 2:
            out[:, :, 0] = 1 - out[:, :, 1]
        found[name] = out
    return found


def _shares(values: Array) -> Array:
    total = values.sum(axis=-1, keepdims=True)
    flat = np.full_like(values, 1 / values.shape[-1])
    return np.asarray(np.divide(values, total, out=flat, where=total > 1e-12))


def _platt(p: Array) -> Array:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.stack([np.ones_like(p), np.log(p) - np.log1p(-p)], axis=1)


def _beta(p: Array) -> Array:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.stack([np.ones_like(p), np.log(p), np.log1p(-p)], axis=1)


def _smooth(x: Array, at: Array, y: Array, weights: Array) -> Array:
    """Logistic regressions of y (n,) on x (n, d), one per row of weights, at `at` (m, d): (b, m).

    The first row is fitted from nothing, the others by Newton's method from there: resamples of the
    same rows have their optimum close by.
    """
    spread = np.maximum(x.std(axis=0), 1e-9)
    spread[0] = 1.0
    x, at = x / spread, at / spread
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    start = _newton(np.zeros((1, x.shape[1])), x, products, y, weights[:1], _STEPS)
    beta = _newton(np.repeat(start, len(weights), axis=0), x, products, y, weights, 2)
    beta[0] = start[0]
    return sigmoid(beta @ at.T)


def _newton(beta: Array, x: Array, products: Array, y: Array, w: Array, steps: int) -> Array:
    d = x.shape[1]
    ridge = _RIDGE * np.eye(d) * w.sum(axis=1).mean() / len(y)
    for _ in range(steps):
        p = sigmoid(beta @ x.T)
        slope = (w * (p - y)) @ x + beta @ ridge
        curve = ((w * p * (1 - p)) @ products).reshape(-1, d, d) + ridge
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        beta = beta - step * np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-12))
        if longest.max() < 1e-8:
            break
    return beta


def _isotonic(score: Array, y: Array, at: Array, weights: Array) -> Array:
    """Isotonic regressions of y on score, one per row of weights, interpolated at `at`: (b, m)."""
    from scipy.optimize import isotonic_regression

    levels, place = np.unique(score, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(levels)))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    hits = np.add.reduceat((weights * y)[:, order], starts, axis=1)
    out = np.empty((len(weights), len(at)))
    for b in range(len(weights)):
        drawn = mass[b] > 0
        fit = isotonic_regression(hits[b, drawn] / mass[b, drawn], weights=mass[b, drawn]).x
        out[b] = np.interp(at, levels[drawn], fit)
    return out


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -40, 40))))
