"""The guards of a roll-out: challenger against champion, with bounds that hold however often asked.

Errors and latency are of the requests that each answered itself; disagreement, drift of the answers
and the realised loss are of rows that both have answered (one of them as shadow), so a harder hour
is harder for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitoring import sequential
from monitoring.rollout import Guards, Plan, Reading
from monitoring.sequential import Bounds

SLOW = 0.05  # share of requests above a p95
_LEAST = 0.01  # a probability below it costs as much as it: losses have a bound, as bounds need
_WORST = float(-np.log(_LEAST))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version was asked itself."""

    requests: int = 0
    errors: int = 0  # of these
    latencies: Floats = field(default_factory=lambda: np.zeros(0))  # ms, one for each request


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that both have answered."""

    champion: Floats  # (n, k)
    challenger: Floats  # (n, k)
    codes: NDArray[np.int64]  # (n,) the true class, -1 where its label has not come

    @classmethod
    def none(cls, classes: int) -> Pairs:
        nothing = np.zeros((0, classes))
        return cls(nothing, nothing, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of a stage. `stage` holds pairs of this stage, `whole` of the whole roll-out."""

    champion: Arm
    challenger: Arm
    usual_p95: float | None  # ms: the champion's, on requests before the stage
    stage: Pairs
    whole: Pairs
    loss: str = "log_loss"  # or error
    alone: bool = False  # nobody answers beside it now: the champion's arm is of before


def read(plan: Plan, seen: Seen) -> tuple[Reading, ...]:
    """Each watched guard's word, its share of the level spent as `Plan.alpha` says."""
    once, anew = plan.alpha(restarts=False), plan.alpha(restarts=True)
    guards = plan.guards
    found = (
        _errors(guards, seen, anew),
        _latency(guards, seen, anew),
        _disagreement(guards, seen.whole, once),
        _drift(guards, seen.stage, anew),
        _metric(guards, seen.whole, seen.loss, once),
    )
    return tuple(reading for reading in found if reading is not None)


def _errors(guards: Guards, seen: Seen, alpha: float) -> Reading | None:
    if guards.error_rate is None:
        return None
    arms = [
        sequential.rate(arm.errors, arm.requests, alpha / 2)
        for arm in (seen.challenger, seen.champion)
    ]
    if not (seen.challenger.requests and seen.champion.requests):
        return _silent("error_rate", guards.error_rate, "no requests to both versions yet")
    return _judged("error_rate", sequential.difference(*arms), guards.error_rate)


def _latency(guards: Guards, seen: Seen, alpha: float) -> Reading | None:
    ratio = guards.latency_p95_ratio
    if ratio is None:
        return None
    name, times = "latency_p95_ratio", seen.challenger.latencies
    if seen.usual_p95 is None or not len(times):
        return _silent(name, ratio, "the champion's or the challenger's latency is not known yet")
    # The challenger's p95 is beyond `ratio` times the usual one just when more than 5 % of its
    # requests are slower than that; and they must be more than of the champion's, beside it, so
    # that a machine which slows down for both is nobody's fault. With nobody beside it that cannot
    # be told, so it is given twice the time.
    ratio *= 2 if seen.alone else 1
    border = ratio * seen.usual_p95
    own = sequential.rate(int((times > border).sum()), len(times), alpha / 2)
    beside = seen.champion.latencies
    other = sequential.rate(int((beside > border).sum()), len(beside), alpha / 2)
    worse = own.low > SLOW and own.low > other.high
    fine = own.high < SLOW or own.high - other.low < SLOW
    p95 = float(np.quantile(times, 0.95))
    return Reading(
        name,
        worse,
        fine and not worse,
        value=p95 / seen.usual_p95 if seen.usual_p95 > 0 else None,
        limit=ratio,
        rows=len(times),
        reason=f"{own.value:.3g} of requests above {border:.3g} ms ({own.low:.3g} to "
        f"{own.high:.3g}), beside it {_figure(other)}",
    )


def _disagreement(guards: Guards, pairs: Pairs, alpha: float) -> Reading | None:
    limit = guards.disagreement
    if limit is None:
        return None
    if not len(pairs.codes):
        return _silent("disagreement", limit, "no row was answered by both yet")
    other = pairs.champion.argmax(axis=1) != pairs.challenger.argmax(axis=1)
    return _judged("disagreement", sequential.rate(int(other.sum()), len(other), alpha), limit)


def _drift(guards: Guards, pairs: Pairs, alpha: float) -> Reading | None:
    limit = guards.prediction_drift
    if limit is None:
        return None
    if not len(pairs.codes):
        return _silent("prediction_drift", limit, "no row was answered by both yet")
    moved = pairs.challenger - pairs.champion
    classes = moved.shape[1] if moved.shape[1] > 2 else 1  # of two, one says it all
    bounds = [sequential.mean(moved[:, k], -1.0, 1.0, alpha / classes / 2) for k in range(classes)]
    far = max(bounds, key=lambda b: max(abs(b.low), abs(b.high)))
    worse = any(b.low > limit or b.high < -limit for b in bounds)
    fine = all(-limit < b.low and b.high < limit for b in bounds)
    return Reading("prediction_drift", worse, fine, far.value, far.low, far.high, limit, len(moved))


def _metric(guards: Guards, pairs: Pairs, loss: str, alpha: float) -> Reading | None:
    limit = guards.metric
    if limit is None:
        return None
    known = pairs.codes >= 0
    if not known.any():
        return _silent("metric", limit, "no label of a row that both answered has come yet")
    codes = pairs.codes[known]
    worse = _losses(pairs.challenger[known], codes, loss) - _losses(
        pairs.champion[known], codes, loss
    )
    most = 1.0 if loss == "error" else _WORST
    return _judged("metric", sequential.mean(worse, -most, most, alpha), limit)


def _losses(proba: Floats, codes: NDArray[np.int64], loss: str) -> Floats:
    if loss == "error":
        return np.asarray(proba.argmax(axis=1) != codes, dtype=np.float64)
    picked = proba[np.arange(len(codes)), codes]
    return np.asarray(-np.log(np.clip(picked, _LEAST, 1.0)))


def _judged(name: str, found: Bounds, limit: float) -> Reading:
    return Reading(
        name,
        found.low > limit,
        found.high < limit,
        found.value,
        found.low,
        found.high,
        limit,
        found.rows,
    )


def _silent(name: str, limit: float, reason: str) -> Reading:
    return Reading(name, None, None, limit=limit, reason=reason)


def _figure(bounds: Bounds) -> str:
    return "nothing" if bounds.value is None else f"{bounds.value:.3g}"


def usual_p95(latencies: Sequence[float] | Floats) -> float | None:
    """The p95 of requests before a stage; None of fewer than 20."""
    return float(np.quantile(latencies, 0.95)) if len(latencies) >= 20 else None
