"""Runs to lines: means over seeds, what was lost against the full size, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_FULL = "full size"


def lines(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each data set and method, then one for each method over all data sets.

    `lost` are points of accuracy, each seed against the full size with the same seed, with half of
    a 95 % interval (Student's t over seeds; over all data sets, of their means by seed).
    """
    found = [_line(runs, data, method) for data in _each(runs, "data") for method in _each(
        [run for run in runs if run["data"] == data], "method")]  # fmt: skip
    return [*found, *(_over_all(runs, method) for method in _each(runs, "method"))]


def _each(runs: Sequence[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(run[key] for run in runs))


def _line(runs: Sequence[dict[str, Any]], data: str, method: str) -> dict[str, Any]:
    own = [r for r in runs if r["data"] == data and r["method"] == method]
    full = {r["seed"]: r for r in runs if r["data"] == data and r["method"] == _FULL}
    lost = [full[r["seed"]]["accuracy"] - r["accuracy"] for r in own]

    def ratio(key: str) -> float:
        return float(np.exp(np.mean([np.log(full[r["seed"]][key] / r[key]) for r in own])))

    return {
        "data": data,
        "method": method,
        "accuracy": round(_mean(own, "accuracy"), 2),
        "lost": round(float(np.mean(lost)), 2),
        "+-": round(half(lost), 2),
        "log_loss": round(_mean(own, "log_loss"), 4),
        "removed %": round(100 * (1 - _mean(own, "left") / _mean(own, "total")), 1),
        "bundle kB": round(_mean(own, "bundle_kb"), 1),
        "smaller": round(ratio("bundle_kb"), 2),
        "served kB": round(_mean(own, "served_kb"), 1),
        "row us": round(_mean(own, "row_us"), 1),
        "100 rows us": round(_mean(own, "hundred_us"), 1),
        "faster": round(ratio("hundred_us"), 2),
    }


def _over_all(runs: Sequence[dict[str, Any]], method: str) -> dict[str, Any]:
    own = [r for r in runs if r["method"] == method]
    datas = _each(own, "data")
    parts = [_line(runs, data, method) for data in datas]
    full = {(r["data"], r["seed"]): r["accuracy"] for r in runs if r["method"] == _FULL}
    seeds = sorted({r["seed"] for r in own})
    lost = [
        float(np.mean([full[r["data"], seed] - r["accuracy"] for r in own if r["seed"] == seed]))
        for seed in seeds
    ]
    return {
        "data": f"all {len(datas)}",
        "method": method,
        "accuracy": round(float(np.mean([p["accuracy"] for p in parts])), 2),
        "lost": round(float(np.mean(lost)), 2),
        "+-": round(half(lost), 2),
        "log_loss": round(float(np.mean([p["log_loss"] for p in parts])), 4),
        "removed %": round(float(np.mean([p["removed %"] for p in parts])), 1),
        "smaller": round(_geometric([p["smaller"] for p in parts]), 2),
        "faster": round(_geometric([p["faster"] for p in parts]), 2),
    }


def half(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean; NaN of one value.

    >>> round(half([1.0, 2.0, 3.0]), 2)
    2.48
    """
    from scipy.stats import t

    if len(values) < 2:
        return math.nan
    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def _mean(runs: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([run[key] for run in runs]))


def _geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
