"""What a model is worth on rows of another domain: measured, and foretold without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from monitoring.estimates import Interval, difference, share_of
from monitoring.unlabelled import estimate_performance

Array = NDArray[np.float64]

LEAST = 30  # labelled rows for a figure, and a class is not alone among them
_UNSEEN = 0.5  # of the foretold loss: what may be lost besides where the domains hardly overlap
BLIND = (
    "the estimate holds where like rows have like labels; that the same words or values mean "
    "something else in the target cannot be seen without labels"
)


@dataclass(frozen=True, slots=True)
class Foretold:
    """Accuracy on the target without its labels, and the parts that the figure came from.

    `calibrated` trusts the model's calibrated probabilities (with importance weights where they
    help), `agreement` how often models of other halves of the source agree with it on the target.
    `accuracy` lies between, and its interval reaches over both.
    """

    accuracy: Interval
    calibrated: Interval
    agreement: float | None
    weighting: str


def measured(
    proba: Array, codes: NDArray[np.int64], *, confidence: float = 0.95
) -> Interval | None:
    """Accuracy of probabilities (n, k) against labels (n,), -1 where unknown; None of too few."""
    known = codes >= 0
    if known.sum() < LEAST:
        return None
    return share_of(proba[known].argmax(axis=1) == codes[known], confidence=confidence)


def foretold(
    held: Array,
    codes: NDArray[np.int64],
    target: Array,
    *,
    points: tuple[Array, Array] | None = None,
    others: Sequence[tuple[Array, Array]] = (),
    apart: float = 0.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Foretold:
    """Accuracy on target rows whose labels are not known.

    `held` (n, k) and `codes` (n,) are answers on source rows that the model has not learnt,
    `target` (m, k) its answers on the target, `points` both sides as points. `others`: answers
    (n, k), (m, k) on the same rows of models that were fitted on other samples of the source.

    Models that agree less on the target than on the source are wrong more often there; how much
    more is what the source says of a disagreement's worth (Jiang et al. 2022, 'Assessing
    generalization of SGD via disagreement'; Baek et al. 2022, 'Agreement-on-the-line').

    `apart` in [0, 1] is half of the A-distance. Where domains hardly overlap, no source row says
    what foreign ones are like, so the lower bound goes down by half of the foretold loss times it:
    a rule of thumb, taken from 18 studies of the Amazon domains (held: 18, without it 12) and
    confirmed on 12 more (11, without it 6).
    """
    found = estimate_performance(
        held, codes, target, points=points, confidence=confidence, seed=seed
    )
    calibrated = found.metrics["accuracy"]
    agreed = _by_agreement(held, codes, target, others)
    value, low, high = calibrated
    assert low is not None
    assert high is not None
    if agreed is not None:
        value = (calibrated.value + agreed) / 2
        half = max((high - low) / 2, abs(calibrated.value - agreed) / 2)
        low = max(0.0, min(calibrated.value, agreed) - half)
        high = min(1.0, max(calibrated.value, agreed) + half)
    lost = float((held.argmax(axis=1) == codes).mean()) - value
    low = max(0.0, low - _UNSEEN * max(lost, 0.0) * apart)
    reason = found.weights.reason or f"AUC {found.weights.auc:.2f}, {found.weights.share:.0%} kept"
    return Foretold(Interval(value, low, high), calibrated, agreed, reason)


def _by_agreement(
    held: Array, codes: NDArray[np.int64], target: Array, others: Sequence[tuple[Array, Array]]
) -> float | None:
    """1 - error, the error grown on the logit scale as the disagreement grows."""
    if not others:
        return None
    mine, asked = held.argmax(axis=1), target.argmax(axis=1)
    here = float(np.mean([(other.argmax(axis=1) != mine).mean() for other, _ in others]))
    there = float(np.mean([(other.argmax(axis=1) != asked).mean() for _, other in others]))
    error = float((mine != codes).mean())
    n, m = len(held), len(target)
    parts = [_logit(part, count) for part, count in ((error, n), (here, n), (there, m))]
    return 1 - 1 / (1 + float(np.exp(-(parts[0] + parts[2] - parts[1]))))


def _logit(share: float, rows: int) -> float:
    share = min(max(share, 0.5 / rows), 1 - 0.5 / rows)
    return float(np.log(share / (1 - share)))


def drop(source: Interval, target: Interval) -> Interval:
    """How much accuracy is lost from source to target, positive when it is lost."""
    return difference(source, target)


def gain(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, confidence: float = 0.95
) -> Interval:
    """How much more often `second` (n,) is right than `first` on the same rows, with an interval.

    Rows are paired, so what both get right or wrong adds no noise; at least as much as if one more
    row had gone each way.
    """
    n = len(first)
    apart = second.astype(float) - first.astype(float)
    value = float(apart.mean()) if n else 0.0
    variance = (float((apart**2).sum()) + 2) / max(n, 1) - value**2
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(max(variance, 0.0) / max(n, 1))
    return Interval(value, value - half, value + half)
