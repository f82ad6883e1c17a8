"""Metrics of rows whose labels are not known, only how probable each class is.

`q` are calibrated probabilities, by which the labels fall, and `p` the model's own, which are
judged; both (rows, classes).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CERTAIN = 1e-12  # as for realised log loss: one confident miss stays finite
_BLOCKS = 10  # stretches of the reference between which calibration may wander


def expected(q: Array, p: Array) -> dict[str, float]:
    """Accuracy, error, log loss and ROC AUC (one against the rest, macro) to expect.

    The area is that of the expected shares, NaN when they leave one class only.
    """
    right = float(q[np.arange(len(p)), p.argmax(axis=1)].mean())
    areas = [_Ranked(p[:, k]).area(q[None, :, k])[0] for k in _ranked(p.shape[1])]
    return {
        "accuracy": right,
        "error": 1 - right,
        "log_loss": float(-(q * np.log(np.clip(p, _CERTAIN, 1.0))).sum(axis=1).mean()),
        "roc_auc": _mean(np.array(areas)[:, None])[0],
    }


def simulated(
    q: Array, p: Array, wanders: tuple[float, ...], rng: np.random.Generator
) -> dict[str, Array]:
    """The same metrics for labels drawn from each of `q` (b, m, k), shifted by `wanders`: (b,)."""
    b, m, k = q.shape
    if any(wanders):
        odds = np.log(np.clip(q, _CERTAIN, None)) - np.log(np.clip(1 - q, _CERTAIN, None))
        shift = rng.normal(size=(b, 1, len(wanders))) * np.asarray(wanders)
        if k == 2:
            shift = np.concatenate([-shift, shift], axis=2)
        q = 1 / (1 + np.exp(-np.clip(odds + shift, -40, 40)))
        q /= q.sum(axis=2, keepdims=True)
    uniform = rng.random((b, m))
    if k == 2:
        codes = (uniform < q[:, :, 1]).astype(np.int64)
    else:
        codes = np.minimum((uniform[:, :, None] > np.cumsum(q, axis=2)).sum(axis=2), k - 1)
    right = (codes == p.argmax(axis=1)).mean(axis=1)
    losses = -np.log(np.clip(p, _CERTAIN, 1.0))
    areas = [_Ranked(p[:, c]).area((codes == c).astype(np.float64)) for c in _ranked(k)]
    return {
        "accuracy": right,
        "error": 1 - right,
        "log_loss": losses[np.arange(m), codes].mean(axis=1),
        "roc_auc": _mean(np.array(areas)),
    }


def wander(q: Array, codes: NDArray[np.int64]) -> tuple[float, ...]:
    """Standard deviation, in log odds, by which calibration wanders beyond chance; one a class.

    Rows are in order of time. The shift of each stretch is one Newton step, and the variance
    between stretches the moment estimate for random effects (DerSimonian and Laird 1986). One value
    for two classes, since the other class's is the same.
    """
    k = q.shape[1]
    found = []
    for code in [1] if k == 2 else range(k):
        blocks = np.array_split(np.arange(len(codes)), min(_BLOCKS, len(codes)))
        gap = (codes == code) - q[:, code]
        mass = q[:, code] * (1 - q[:, code])
        weight = np.array([mass[block].sum() for block in blocks])
        shift = np.array([gap[block].sum() for block in blocks]) / np.maximum(weight, 1e-9)
        solid = weight > 4.0  # one Newton step means little where hardly any variation is expected
        weight, shift = weight[solid], shift[solid]
        if len(weight) < 2:
            found.append(0.0)
            continue
        centre = weight @ shift / weight.sum()
        excess = weight @ (shift - centre) ** 2 - (len(weight) - 1)
        scale = weight.sum() - weight @ weight / weight.sum()
        found.append(float(np.sqrt(max(0.0, excess / scale))))
    return tuple(found)


def _ranked(classes: int) -> list[int]:
    return [1] if classes == 2 else list(range(classes))


def _mean(areas: Array) -> Array:
    """Mean over the classes whose area is defined, (classes, b) -> (b,)."""
    defined = np.isfinite(areas)
    total = np.where(defined, areas, 0.0).sum(axis=0)
    return np.asarray(total / np.where(defined.any(axis=0), defined.sum(axis=0), np.nan))


class _Ranked:
    """Rows sorted by score once; each area is then two cumulative sums."""

    def __init__(self, score: Array) -> None:
        self.order = np.argsort(score, kind="stable")
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of tied groups

    def area(self, positive: Array) -> Array:
        """Area under the ROC curve per row of shares of positives (b, m); NaN with one class."""
        ups = np.add.reduceat(positive[:, self.order], self.starts, axis=1)
        downs = np.add.reduceat(1 - positive[:, self.order], self.starts, axis=1)
        beaten = np.cumsum(downs, axis=1) - downs / 2
        pairs = ups.sum(axis=1) * downs.sum(axis=1)
        won = (ups * beaten).sum(axis=1)
        return np.asarray(won / np.where(pairs > 1e-12, pairs, np.nan))
