"""Roll-outs simulated by the thousand requests: how often the guards are wrong, and how soon right.

    everfit bench rollout
    everfit bench rollout --set runs=200 --set peeks=30

Each run is one canary stage of 5,000 requests to each version, looked at again and again while they
come; half of the labels have come. 'rolled back': some guard was ever clearly worse. 'went on
early': all were clearly within their limits before the end. 'requests': to each version, at the
median decision. The level is that of a roll-out with the standard stages, 5 % over all guards and
looks together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monitoring import guards
from monitoring.guards import Arm, Pairs, Seen
from monitoring.rollout import STANDARD, Plan

PLAN = Plan(STANDARD)
REQUESTS = 5_000

# What is wrong with the challenger: errors are shares of requests, the champion has 0.2 %.
WORLDS: dict[str, dict[str, Any]] = {
    "as good as the champion": {},
    "errors 1.2 %, at the limit": {"errors": 0.012},
    "loss at the limit": {"worse": 0.05},
    "loss better by 0.05": {"worse": -0.05},
    "errors 3 %": {"errors": 0.03},
    "errors 10 %": {"errors": 0.10},
    "latency x 1.5, at the limit": {"slow": 1.5},
    "latency x 2": {"slow": 2.0},
    "loss worse by 0.15": {"worse": 0.15},
    "loss worse by 0.4": {"worse": 0.4},
}


def run(
    json_path: Path | None = None, *, runs: int = 60, peeks: int = 15, seed: int = 0
) -> list[dict[str, Any]]:
    """One row for each kind of challenger."""
    rows = []
    for number, (name, faults) in enumerate(WORLDS.items()):
        rng = np.random.default_rng([seed, number])
        ends = [_end(rng, peeks, **faults) for _ in range(runs)]
        decided = [requests for what, requests in ends if what]
        rows.append(
            {
                "challenger": name,
                "runs": runs,
                "looks": peeks,
                "rolled back %": round(100 * _share(ends, "rolled back"), 1),
                "went on early %": round(100 * _share(ends, "went on"), 1),
                "requests": int(np.median(decided)) if decided else None,
            }
        )
    return rows


def _share(ends: list[tuple[str, int]], what: str) -> float:
    return sum(end == what for end, _ in ends) / len(ends)


def _end(rng: np.random.Generator, peeks: int, **faults: float) -> tuple[str, int]:
    """What the stage comes to, and after how many requests; '' when nothing is ever clear."""
    whole, errors = _world(rng, **faults)
    for upto in np.linspace(100, REQUESTS, peeks).astype(int):
        readings = guards.read(PLAN, _cut(whole, errors, upto))
        if any(reading.worse for reading in readings):
            return "rolled back", int(upto)
        if all(reading.fine for reading in readings):
            return "went on", int(upto)
    return "", REQUESTS


def _world(
    rng: np.random.Generator, *, errors: float = 0.002, slow: float = 1.0, worse: float = 0.0
) -> tuple[Seen, list[np.ndarray]]:
    n = REQUESTS
    truth = rng.beta(0.8, 0.8, n).clip(0.02, 0.98)  # P(late): often sure, as real models are
    codes = (rng.random(n) < truth).astype(np.int64)
    own = _noisy(rng, truth, worse)
    codes[rng.random(n) < 0.5] = -1
    arms = [Arm(n, 0, rng.gamma(4.0, 0.5 * s, n)) for s in (1.0, slow)]
    both = [np.column_stack([1 - p, p]) for p in (_noisy(rng, truth, 0.0), own)]
    pairs = Pairs(*both, codes)
    return (
        Seen(*arms, float(np.quantile(rng.gamma(4.0, 0.5, 2_000), 0.95)), pairs, pairs),
        [rng.random(n) < share for share in (0.002, errors)],
    )


def _noisy(rng: np.random.Generator, truth: np.ndarray, worse: float) -> np.ndarray:
    """Answers whose log loss is above that of an ordinary model by `worse`, on average.

    An ordinary model is the truth with noise of 0.55 on the scale of log odds.
    """
    logit = np.log(truth / (1 - truth))
    noise = 0.55
    if worse:
        z = np.random.default_rng(0).normal(size=len(truth))
        grid = np.linspace(0.0, 4.0, 81)
        losses = np.array([_loss(truth, logit + scale * z) for scale in grid])
        usual = np.interp(noise, grid, losses)
        noise = float(np.interp(usual + worse, losses, grid))
    return np.asarray(1 / (1 + np.exp(-(logit + noise * rng.normal(size=len(truth))))))


def _loss(truth: np.ndarray, logit: np.ndarray) -> float:
    """Expected log loss of answers with these log odds, probabilities below 0.01 as the guard
    takes them."""
    p = (1 / (1 + np.exp(-logit))).clip(0.01, 0.99)
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


def _cut(whole: Seen, errors: list[np.ndarray], upto: int) -> Seen:
    arms = [
        Arm(upto, int(bad[:upto].sum()), arm.latencies[:upto])
        for arm, bad in zip((whole.champion, whole.challenger), errors, strict=True)
    ]
    some = whole.stage
    pairs = Pairs(some.champion[:upto], some.challenger[:upto], some.codes[:upto])
    return Seen(*arms, whole.usual_p95, pairs, pairs)
