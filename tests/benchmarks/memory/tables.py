"""What remembering saves: trials and seconds a retrain, at which loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.memory.arms import COLD, WARM, Searched

_DRAWS = 2_000


def table(rows: Sequence[Searched], *, seed: int = 0) -> list[dict[str, Any]]:
    """One row per way to search.

    best, later: mean over seeds and retrains of the validation loss and of the loss on the next
    blocks; low, high: 95 % interval of `later` minus that of the search from memory, by a bootstrap
    of whole retrains (their seeds share rows).
    """
    ways = sorted({(r.arm, r.mark) for r in rows}, key=lambda way: (way[0] != WARM, -way[1]))
    by = {(r.arm, r.mark, r.retrain, r.seed): r for r in rows}
    mine = next(way for way in ways if way[0] == WARM)
    out = []
    for way in ways:
        here = [r for r in rows if (r.arm, r.mark) == way]
        losses: dict[int, list[float]] = {}
        for r in here:
            losses.setdefault(r.retrain, []).append(r.later - by[*mine, r.retrain, r.seed].later)
        low, high = _interval([float(np.mean(v)) for v in losses.values()], seed)
        out.append(
            {
                "search": f"{way[0]}, {way[1]} trials",
                "trials": _mean(here, lambda r: r.trials),
                "cpu_s": _mean(here, lambda r: r.cpu),
                "best": _mean(here, lambda r: r.best),
                "later": _mean(here, lambda r: r.later),
                "later - memory's": _mean(
                    here, lambda r: r.later - by[*mine, r.retrain, r.seed].later
                ),
                "low": low,
                "high": high,
                "best first in": _firsts(way, rows),
            }
        )
    return out


def _mean(rows: Sequence[Searched], of: Callable[[Searched], float]) -> float:
    return float(np.mean([of(r) for r in rows]))


def _interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    drawn = rng.choice(values, size=(_DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _firsts(way: tuple[str, int], rows: Sequence[Searched]) -> str:
    """In how many searches its validation loss was at or below that of the longest cold search."""
    longest = max(r.mark for r in rows if r.arm == COLD)
    cold = {(r.retrain, r.seed): r.best for r in rows if (r.arm, r.mark) == (COLD, longest)}
    mine = {(r.retrain, r.seed): r.best for r in rows if (r.arm, r.mark) == way}
    return f"{sum(mine[cell] <= cold[cell] for cell in cold)} of {len(cold)}"
