"""Importance weights: which reference rows look like the current ones.

Under covariate shift the columns move and P(label | columns) stays. A calibration curve fitted on
all reference rows is then off wherever the model's faults depend on more than its score; fitted
with weights p_current(x) / p_reference(x) it is right where the current rows live (Shimodaira 2000;
Sugiyama, Krauledat and Mueller 2007). Weights cost rows, so they are used only where three things
hold, and shrunk towards 1 in between:

- the two windows can be told apart, yet overlap: beyond an AUC of 0.8 there is little to weight,
- the model's residuals go along with the weights on the reference rows, by a score test; where they
  do not, weights change nothing but the variance,
- at least half of the reference rows stay effective: weights are tempered until they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.calibration import sigmoid

Array = NDArray[np.float64]

_RIDGES = (10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
_WIDTH = 400  # coordinates beyond are projected, so that the fit stays a fraction of a second
_HIGHEST = 10.0  # a weight is cut off at so many times the mean
_EFFECTIVE = 0.5  # share of the reference rows that stay effective
_OVERLAP = (0.70, 0.80)  # AUC up to which weights count in full, and from which not at all
_BLOCKS = 20  # of following reference rows, for the variance of the score test
_TREND = (2.0, 3.0)  # deviations of the score test, likewise


@dataclass(frozen=True, slots=True)
class Weights:
    """One weight a reference row with mean 1, and why they are as they are."""

    values: Array  # (n,)
    auc: float  # of telling the windows apart, leave-one-out
    share: float  # of the weighting that was kept, in [0, 1]; 0 is no weighting
    trend: float  # deviations by which the residuals go along with the weights
    reason: str = ""  # why there is no weighting

    @property
    def effective(self) -> float:
        """Effective rows, (sum w)² / sum w² (Kish 1965)."""
        return float(self.values.sum() ** 2 / (self.values @ self.values))


def importance_weights(
    reference: Array, current: Array, residuals: Array, variances: Array, *, seed: int = 0
) -> Weights:
    """Weights of `reference` (n, d) as seen from `current` (m, d); points, finite throughout.

    `residuals` (n,) are label minus calibrated probability and `variances` (n,) their variances,
    q (1 - q). The classifier is a ridge discriminant whose penalty and scores come from its closed
    leave-one-out form, so that it cannot believe what it has merely memorised; one logistic curve
    over those scores makes them odds. O((n + m) d²).
    """
    n, m = len(reference), len(current)
    plain = np.ones(n)
    reference, current = _placed(reference, current, seed)
    if reference.shape[1] == 0 or min(n, m) < 2:
        return Weights(plain, 0.5, 0.0, 0.0, "no column varies")
    odds = _log_odds(reference, current)
    if odds is None:
        return Weights(plain, 0.5, 0.0, 0.0, "the windows cannot be told apart")
    auc = _area(odds[:n], odds[n:])
    values = _tempered(odds[:n])
    lean = values - values.mean()
    trend = _trend(lean, residuals, variances)
    overlap = _ramp(-auc, -_OVERLAP[1], -_OVERLAP[0])
    share = overlap * _ramp(abs(trend), *_TREND)
    reason = ""
    if not share:
        reason = (
            f"the windows hardly overlap (AUC {auc:.2f})"
            if not overlap
            else "the model's faults do not go along with the shift on the reference rows"
        )
    return Weights(1 + share * (values - 1), auc, share, trend, reason)


def _trend(lean: Array, residuals: Array, variances: Array) -> float:
    """Score test of residuals that go along with `lean`, in deviations.

    Rows that follow one another may err together, so the variance is the larger of the one under
    independence and the one over blocks of following rows.
    """
    blocks = np.array_split(lean * residuals, min(_BLOCKS, len(lean)))
    together = sum(float(block.sum()) ** 2 for block in blocks)
    spread = np.sqrt(max(float((lean * lean) @ variances), together))
    return float(lean @ residuals) / float(spread) if spread > 1e-12 else 0.0


def _ramp(value: float, start: float, end: float) -> float:
    return float(np.clip((value - start) / (end - start), 0.0, 1.0))


def _placed(reference: Array, current: Array, seed: int) -> tuple[Array, Array]:
    """Centred on the reference, without coordinates that it never varies, of bounded width."""
    spread = reference.std(axis=0)
    kept = spread > 1e-6
    centre = reference[:, kept].mean(axis=0)
    x, y = reference[:, kept] - centre, current[:, kept] - centre
    if x.shape[1] > _WIDTH:
        rng = np.random.default_rng(seed)
        turn = rng.normal(size=(x.shape[1], _WIDTH)) / np.sqrt(_WIDTH)
        x, y = x @ turn, y @ turn
    return x, y


def _log_odds(reference: Array, current: Array) -> Array | None:
    """Leave-one-out log odds of being a current row, (n + m,); None if the scores say nothing."""
    n, m = len(reference), len(current)
    x = np.concatenate([reference, current])
    side = np.r_[np.full(n, -1.0), np.full(m, 1.0)]
    mass = np.r_[np.full(n, 0.5 / n), np.full(m, 0.5 / m)] * (n + m)  # both windows count alike
    root = np.sqrt(mass)
    design = np.column_stack([root, x * root[:, None]])
    target = side * root
    values, vectors = np.linalg.eigh(design.T @ design)
    turned = design @ vectors
    along, squares = turned.T @ target, turned * turned
    best: tuple[float, Array] | None = None
    for ridge in _RIDGES:
        shrink = 1 / (np.maximum(values, 0.0) + ridge)
        lever = np.minimum(squares @ shrink, 1 - 1e-9)
        left_out = (turned @ (shrink * along) - lever * target) / (1 - lever)
        loss = float(np.mean((target - left_out) ** 2))
        if best is None or loss < best[0]:
            best = loss, left_out / root
    assert best is not None
    score = best[1] - best[1].mean()
    deviation = float(score.std())
    if deviation < 1e-9:
        return None
    score, y = score / deviation, (side + 1) / 2
    a, b = 0.0, 0.0
    for _ in range(25):
        p = sigmoid(a + b * score)
        gap, curve = mass * (p - y), mass * p * (1 - p) + 1e-9
        g = np.array([gap.sum(), gap @ score + 1e-3 * b])
        h = np.array(
            [
                [curve.sum(), curve @ score],
                [curve @ score, curve @ (score * score) + 1e-3],
            ]
        )
        step = np.linalg.solve(h, g)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        a, b = a - step[0], b - step[1]
        if np.abs(step).max() < 1e-8:
            break
    return (
        None if b <= 0 else np.asarray(a + b * score)
    )  # left out, a score of noise points the wrong way


def _tempered(log_odds: Array) -> Array:
    """Weights exp(t log_odds) with the largest t up to 1 that keeps enough rows effective."""
    for power in np.arange(1.0, 0.0, -0.1):
        w = np.exp(power * (log_odds - log_odds.max()))
        w = np.minimum(w / w.mean(), _HIGHEST)
        w /= w.mean()
        if len(w) / float(w @ w) >= _EFFECTIVE:
            return np.asarray(w)
    return np.ones(len(log_odds))


def _area(low: Array, high: Array) -> float:
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    upto = np.searchsorted(ordered, high, side="right")
    return float(np.mean(below + upto)) / (2 * len(low))
