"""Trials that no other trial beats in everything, and the rule that picks one of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.records import Trial
from models.search.base import ordered
from models.search.objectives import METRICS, Limit, Objective, known, value_of

Floats = NDArray[np.float64]

_RULE = re.compile(r"\s*best\s+(\w+)(?:\s+with\s+(.+?))?\s*")
_BOUND = re.compile(r"(\w+)\s*(<=|>=)\s*([0-9.eE+-]+)")


def points(trials: Sequence[Trial], metrics: Sequence[str]) -> Floats:
    """Losses (n, m) of the metrics, smaller is better; NaN where a trial failed or lacks one."""
    rows = [
        [known(name).turned(value_of(name, trial.metrics)) for name in metrics]
        if trial.status == "complete"
        else [math.nan] * len(metrics)
        for trial in trials
    ]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(metrics))


def non_dominated(losses: Floats) -> NDArray[np.bool_]:
    """Which rows of `losses` (n, m), smaller is better, no other row dominates.

    A row dominates another when it is nowhere worse and somewhere better; of equal rows the first
    stays. A row with a NaN is never in front.
    """
    out: NDArray[np.bool_] = np.asarray(np.isfinite(losses).all(axis=1))
    for i in np.flatnonzero(out):
        others = losses[out]
        better = (others <= losses[i]).all(axis=1) & (others < losses[i]).any(axis=1)
        twin = out[:i] & (losses[:i] == losses[i]).all(axis=1)
        out[i] = not better.any() and not twin.any()
    return out


def front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """The non-dominated trials, best first in the first metric."""
    trials = ordered(trials)
    losses = points(trials, metrics)
    kept = [i for i, here in enumerate(non_dominated(losses)) if here]
    return [trials[i] for i in sorted(kept, key=lambda i: tuple(losses[i]))]


def hypervolume(losses: Floats, reference: Floats) -> float:
    """The volume between the rows of `losses` (n, m) and `reference` (m,), smaller is better.

    Rows that are not better than the reference in everything add nothing. The exclusive volumes of
    While, Bradstreet and Barone (2012), exact; meant for fronts of up to some hundred rows.
    """
    inside = losses[np.isfinite(losses).all(axis=1) & (losses < reference).all(axis=1)]
    return _volume(inside[non_dominated(inside)], reference)


def _volume(rows: Floats, reference: Floats) -> float:
    if rows.shape[1] == 2:  # a staircase
        rows = rows[np.argsort(rows[:, 0])]
        tops = np.concatenate([reference[1:], rows[:-1, 1]])
        return float(((reference[0] - rows[:, 0]) * (tops - rows[:, 1])).sum())
    total = 0.0
    for i, row in enumerate(rows):
        shared = np.maximum(rows[i + 1 :], row)  # what the rows after it cover of its box
        total += float(np.prod(reference - row)) - _volume(shared[non_dominated(shared)], reference)
    return total


@dataclass(frozen=True, slots=True)
class Pick:
    """How one trial is picked from the front: the best of `metric` among those within `limits`."""

    metric: str
    limits: tuple[Limit, ...] = ()

    @classmethod
    def read(cls, rule: str) -> Pick:
        """Read 'best accuracy with latency_ms <= 20 and size_mb <= 5'. Raises SpaceFault."""
        found = _RULE.fullmatch(rule)
        if found is None:
            raise SpaceFault(
                f"a pick rule is 'best METRIC', then maybe 'with METRIC <= NUMBER and ...', got "
                f"{rule!r}: write it like 'best accuracy with latency_ms <= 20'"
            )
        known(found[1])
        parts = re.split(r"\s+and\s+", found[2]) if found[2] else []
        return cls(found[1], tuple(_limit(part) for part in parts))

    @property
    def objective(self) -> Objective:
        """What to search for, so that the rule finds much to pick from."""
        return Objective(self.metric, limits=self.limits)

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.objective.named

    def __str__(self) -> str:
        bounds = " and ".join(str(limit) for limit in self.limits)
        return f"best {self.metric}" + (f" with {bounds}" if bounds else "")

    def choose(self, trials: Sequence[Trial]) -> tuple[Trial, str]:
        """The trial that the rule picks, and the reason.

        When none keeps the limits, it is the one that exceeds them least. Raises SpaceFault when no
        trial has the metrics.
        """
        found = front(trials, self.metrics)
        if not found:
            raise SpaceFault(
                f"a front needs a complete trial with {', '.join(self.metrics)}, got none of "
                f"{len(trials)}: read the trials' errors, or pick by other metrics"
            )
        within = [t for t in found if self.objective.feasible(t.metrics)]
        if within:
            best = min(within, key=lambda t: (self.objective.loss(t.metrics), t.number))
            return best, f"{self}: {len(within)} of {len(found)} on the front keep to it"
        least = min(
            found, key=lambda t: (sum(lim.excess(t.metrics) for lim in self.limits), t.number)
        )
        return least, f"{self}: none of {len(found)} on the front keeps to it, the nearest is taken"


def _limit(text: str) -> Limit:
    found = _BOUND.fullmatch(text.strip())
    try:
        value = float(found[3]) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or math.isnan(value):
        raise SpaceFault(
            f"a bound is METRIC <= NUMBER or METRIC >= NUMBER, got {text!r}: write it like "
            "'latency_ms <= 20'"
        )
    known(found[1])
    sign = ">=" if METRICS[found[1]].larger_is_better else "<="
    if found[2] != sign:
        raise SpaceFault(
            f"a bound keeps the worse side out, so {found[1]} has {sign}, got {text!r}: turn it"
        )
    return Limit(found[1], value)
