"""Means over the seeds, and what each arm changes against the single metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from models.search.objectives import value_of
from models.search.pareto import hypervolume, points
from tests.benchmarks.objectives.arms import ONE, Made

PAIR = ("log_loss", "latency_ms")  # the front whose size is told of every arm
CORNER = (0.7, math.log(1.0))  # what is worse counts nothing: guessing, and a millisecond
SHOWN = {
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "1_row_p50_ms": "1 row: p50 ms",
    "1_row_p95_ms": "p95 ms",
    "1_row_cpu_share": "CPU share",
    "100_rows_p50_ms": "100 rows: p50 ms",
    "100_rows_p95_ms": "p95 ms ",
    "100_rows_cpu_share": "CPU share ",
    "model_ms_1": "model, 1 row ms",
    "model_ms_100": "100 rows ms",
    "bundle_mb": "model MB",
    "fit_s": "fit s",
    "front": "front",
    "volume": "its volume",
}


@dataclass(frozen=True)
class Figures:
    """One search: what it chose and what that took."""

    arm: str
    seed: int
    family: str
    chosen: str
    why: str
    values: dict[str, float]

    @classmethod
    def of(cls, made: Made, asked: dict[str, float], seed: int) -> Figures:
        losses = points(made.trials, PAIR)
        losses[:, 1] = np.log(losses[:, 1])
        goal = made.config.train.goal
        values = {
            **{name: value_of(name, made.later) for name in ("log_loss", "accuracy")},
            **asked,
            "model_ms_1": made.model_ms[1],
            "model_ms_100": made.model_ms[100],
            "bundle_mb": made.bundle_mb,
            "fit_s": made.fit_s,
            "front": float(_front(losses)),
            "volume": hypervolume(losses, np.array(CORNER)),
            "screened": float(made.screened),
            "within": float(goal.feasible(made.chosen.metrics)),
        }
        told = ", ".join(
            f"{name.split('.')[-1]} {value:.3g}"
            for name, value in made.chosen.params.items()
            if isinstance(value, int | float)
        )
        return cls(made.arm, seed, str(made.chosen.params["family"]), told, made.why, values)


def _front(losses: np.ndarray) -> int:
    from models.search.pareto import non_dominated

    return int(non_dominated(losses).sum())


def means(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """One line for each arm."""
    rows = []
    for arm in dict.fromkeys(one.arm for one in found):
        own = [one for one in found if one.arm == arm]
        families = [one.family for one in own]
        rows.append(
            {
                "search for": arm,
                "chose": ", ".join(f"{f} {families.count(f)}" for f in dict.fromkeys(families)),
                **{
                    label: _told([one.values.get(name, math.nan) for one in own])
                    for name, label in SHOWN.items()
                },
            }
        )
    return rows


def changes(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """Differences to the single metric for quality, and factors for effort, paired by seed."""
    base = {one.seed: one.values for one in found if one.arm == ONE}
    rows = []
    for arm in dict.fromkeys(one.arm for one in found if one.arm != ONE):
        own = {one.seed: one.values for one in found if one.arm == arm}
        line: dict[str, Any] = {"search for": arm, "against": ONE}
        for name, label in SHOWN.items():
            pairs = [(own[s].get(name, math.nan), base[s].get(name, math.nan)) for s in own]
            if name in ("log_loss", "accuracy", "volume", "front"):
                line[label] = _told([a - b for a, b in pairs], sign="+")
            else:
                logs = [math.log(a / b) for a, b in pairs if a > 0 and b > 0]
                line[label] = _factor(logs)
        rows.append(line)
    return rows


def _told(values: Sequence[float], sign: str = "") -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    half = _half(known)
    return f"{np.mean(known):{sign}.4g}" + (f" ({half:.2g})" if half else "")


def _factor(logs: Sequence[float]) -> str:
    if not logs:
        return ""
    mean, half = float(np.mean(logs)), _half(logs)
    ends = f" ({math.exp(mean - half):.2f} to {math.exp(mean + half):.2f})" if half else ""
    return f"x {math.exp(mean):.2f}{ends}"


def _half(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
