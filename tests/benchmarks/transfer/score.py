"""Studies of pairs to tables: means over seeds with intervals, and distances against drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.clusters import t_quantile

Record = Mapping[str, Any]  # Study.to_json, with `pair` and `seed`

DISTANCES: Mapping[str, Callable[[Record], float]] = {
    "MMD": lambda one: one["apart"]["mmd"],
    "effect of the MMD": lambda one: one["apart"]["effect"],
    "proxy A-distance": lambda one: one["apart"]["a_distance"],
    "foretold drop": lambda one: one["source"]["value"] - one["foretold"]["accuracy"]["value"],
}


def drop(one: Record) -> float:
    """Accuracy lost against a model of the target's own labels: how hard the target itself is does
    not count."""
    return float(one["own"]["value"] - one["target"]["value"])


def plain_drop(one: Record) -> float:
    """Accuracy lost between the source and the target."""
    return float(one["source"]["value"] - one["target"]["value"])


def mean(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean, and half of Student's interval; NaN of one value.

    >>> mean([1.0, 3.0])[0]
    2.0
    """
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.nan
    spread = float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)), t_quantile(confidence, n - 1) * spread


def told(values: Sequence[float]) -> str:
    """In per cent.

    >>> told([0.5, 0.52])
    '51.0 ± 12.7'
    """
    value, half = mean(values)
    return f"{100 * value:.1f}" + ("" if math.isnan(half) else f" ± {100 * half:.1f}")


def table(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row per pair and one of all: accuracy in per cent, mean and 95 % interval over seeds."""
    pairs = list(dict.fromkeys(one["pair"] for one in records))
    rows = [_row(pair, [one for one in records if one["pair"] == pair]) for pair in pairs]
    return [*rows, _row("all pairs", _by_seed(records))] if len(pairs) > 1 else rows


def _row(name: str, records: Sequence[Record]) -> dict[str, Any]:
    ways = list(dict.fromkeys(a["way"] for one in records for a in one["adapted"]))
    row: dict[str, Any] = {
        "pair": name,
        "source": told([one["source"]["value"] for one in records]),
        "source only": told([one["target"]["value"] for one in records]),
    }
    for way in ways:
        row[way] = told([_way(one, way)["measured"]["value"] for one in records])
    row |= {
        "target": told([one["own"]["value"] for one in records]),
        "foretold": told([one["foretold"]["accuracy"]["value"] for one in records]),
        "off": told([one["off"] for one in records]),
        "MMD": round(float(np.mean([one["apart"]["mmd"] for one in records])), 3),
        "A-dist": round(float(np.mean([one["apart"]["a_distance"] for one in records])), 2),
    }
    return row


def _by_seed(records: Sequence[Record]) -> list[Record]:
    """One record per seed, each figure the mean of its pairs: seeds are what intervals are over."""
    return [_averaged([r for r in records if r["seed"] == s])
            for s in dict.fromkeys(one["seed"] for one in records)]  # fmt: skip


def _averaged(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _averaged([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_averaged(list(part)) for part in zip(*values, strict=False)]
    if isinstance(first, int | float) and not isinstance(first, bool):
        return float(np.mean(values))
    return first


def _way(one: Record, way: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(a for a in one["adapted"] if a["way"] == way)
    return found


def correlations(records: Sequence[Record], draws: int = 2_000) -> list[dict[str, Any]]:
    """Of each distance with the drop over pairs (Pearson's, of means over seeds; and Spearman's).

    Intervals are percentiles of a bootstrap over pairs, which of so few are wide.
    """
    from scipy.stats import pearsonr, spearmanr

    pairs = list(dict.fromkeys(one["pair"] for one in records))
    if len(pairs) < 3:
        return []
    grouped = [[one for one in records if one["pair"] == pair] for pair in pairs]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(pairs), (draws, len(pairs)))
    rows = []
    for name, distance in DISTANCES.items():
        x = np.array([np.mean([distance(one) for one in group]) for group in grouped])
        row: dict[str, Any] = {"distance": name, "pairs": len(pairs)}
        for what, lost in (("drop to target-trained", drop), ("drop from source", plain_drop)):
            y = np.array([np.mean([lost(one) for one in group]) for group in grouped])
            low, high = np.quantile(_pearson(x[drawn], y[drawn]), [0.025, 0.975])
            row[what] = f"{pearsonr(x, y)[0]:.2f} ({low:.2f} to {high:.2f})"
            row[f"{what}, ranks"] = round(float(spearmanr(x, y)[0]), 2)
        rows.append(row)
    return rows


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row of (b, n), where neither is constant."""
    x, y = (side - side.mean(axis=1, keepdims=True) for side in (x, y))
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray((x * y).sum(axis=1)[size > 0] / size[size > 0])


def honesty(records: Sequence[Record]) -> list[dict[str, Any]]:
    """How far off the foretold accuracy was, how often its interval held, and what was advised."""
    off = [one["off"] for one in records]
    held = [
        one["foretold"]["accuracy"]["low"] <= one["target"]["value"]
        <= one["foretold"]["accuracy"]["high"]
        for one in records
    ]  # fmt: skip
    calibrated = [
        one["foretold"]["calibrated"]["value"] - one["target"]["value"] for one in records
    ]
    unchanged = [one["source"]["value"] - one["target"]["value"] for one in records]
    agreed = [
        one["foretold"]["agreement"] - one["target"]["value"]
        for one in records
        if one["foretold"]["agreement"] is not None
    ]
    rows = [
        ("foretold", off), ("calibrated alone", calibrated), ("agreement alone", agreed),
        ("'as on the source'", unchanged),
    ]  # fmt: skip
    return [
        {
            "estimate": name,
            "mean absolute error": round(100 * float(np.mean(np.abs(values))), 1),
            "bias": round(100 * float(np.mean(values)), 1),
            "interval held": f"{sum(held)} of {len(held)}" if name == "foretold" else "",
        }
        for name, values in rows
        if values
    ]


def chosen(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What each way gains, measured and by reverse validation, which sees no label of the target;
    and what would be served if that chose."""
    ways = list(dict.fromkeys(a["way"] for one in records for a in one["adapted"]))
    rows = [
        {
            "way": way,
            "gain": told([_way(one, way)["gain"]["value"] for one in records]),
            "better in": sum(_way(one, way)["gain"]["value"] > 0 for one in records),
            "proven by reverse validation in": sum(
                _way(one, way)["reverse"]["low"] > 0 for one in records
            ),
            "studies": len(records),
        }
        for way in ways
    ]
    best = [max(one["adapted"], key=lambda a: a["reverse"]["value"]) for one in records]
    taken = [a["gain"]["value"] if a["reverse"]["value"] > 0 else 0.0 for a in best]
    rows.append(
        {
            "way": "best by reverse validation",
            "gain": told(taken),
            "better in": sum(gain > 0 for gain in taken),
            "studies": len(records),
        }
    )
    return rows
