"""How often a report calls windows drifted that did not move: ours, and Evidently left to itself.

Ten columns, a reference of 5,000 rows, windows of 60, 200 and 500, everything drawn anew from one
distribution for each repetition. Evidently picks its tests by the size of the reference alone: from
1,000 rows on it takes a distance with a fixed threshold, which small windows exceed by chance.

    python -m tests.benchmarks.drift.evidently_level

Gaussian columns, evidently 0.7.23, ours at level 0.01 in 2,000 repetitions: any column at all is
called drifted in 1.1, 0.7 and 0.9 % of windows of 60, 200 and 500 rows, by Evidently's defaults in
100, 99 and 36 %; drift of the window is said in 0, 0 and 0 %, by the defaults in 100, 22 and 0 %.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from monitoring.estimates import wilson
from monitoring.reports import drift_report, kit

COLUMNS = {
    "gaussian": dict.fromkeys([f"n{i}" for i in range(10)], "number"),
    "mixed": {f"n{i}": "number" for i in range(6)} | {f"c{i}": "category" for i in range(4)},
}


def draw(kind: str, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Gaussian columns; or heavy tails, whole numbers, gaps, and categories common and rare."""
    if kind == "gaussian":
        return pd.DataFrame({name: rng.normal(size=rows) for name in COLUMNS[kind]})
    frame = {
        "n0": rng.normal(size=rows),
        "n1": rng.exponential(size=rows),
        "n2": rng.standard_t(2, size=rows),
        "n3": rng.integers(0, 5, rows).astype(float),
        "n4": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "n5": np.where(rng.random(rows) < 0.9, 0.0, rng.gamma(2.0, size=rows)),
        "c0": rng.choice(list("ab"), rows),
        "c1": rng.choice(list("abcd"), rows, p=[0.7, 0.2, 0.09, 0.01]),
        "c2": np.array([f"v{int(v)}" for v in rng.exponential(20, rows)]),
        "c3": np.where(rng.random(rows) < 0.05, None, rng.choice(list("ab"), rows)),
    }
    return pd.DataFrame(frame)


def ours(reference: pd.DataFrame, current: pd.DataFrame, kind: str) -> tuple[float, bool]:
    """Share of drifted columns, and whether the report says drift."""
    found = drift_report(reference, current, COLUMNS[kind], minimum_rows=2)
    if found.value is None:
        raise ValueError(found.reason)
    return found.value, bool(found.breached)


def defaults(reference: pd.DataFrame, current: pd.DataFrame, kind: str) -> tuple[float, bool]:
    """The same from Evidently's DriftedColumnsCount with no option set: half the columns."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount

    numbers = [name for name, k in COLUMNS[kind].items() if k == "number"]
    categories = [name for name, k in COLUMNS[kind].items() if k == "category"]
    as_they_are = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    with kit.quiet(), np.errstate(all="ignore"):
        sides = [Dataset.from_pandas(f, data_definition=as_they_are) for f in (current, reference)]
        metric = Report([DriftedColumnsCount()]).run(*sides).dict()["metrics"][0]
    share = float(metric["value"]["share"])
    return share, share >= metric["config"]["drift_share"]


def run(
    json_path: str | None = None,
    *,
    sizes: Sequence[int] = (60, 200, 500),
    reference_rows: int = 5_000,
    repetitions: int = 2_000,
    peer_repetitions: int = 100,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Print and return one row per distribution, window size and report."""
    methods: dict[str, tuple[Callable[..., tuple[float, bool]], int]] = {
        "everfit": (ours, repetitions),
        "evidently": (defaults, peer_repetitions),
    }
    table = []
    for kind in COLUMNS:
        for size in sizes:
            for name, (method, times) in methods.items():
                rng = np.random.default_rng([seed, size])
                start = time.perf_counter()
                found = [
                    method(draw(kind, reference_rows, rng), draw(kind, size, rng), kind)
                    for _ in range(times)
                ]
                any_column = [share > 0 for share, _ in found]
                drift = [said for _, said in found]
                table.append(
                    {
                        "columns": kind,
                        "rows": size,
                        "report": name,
                        "repetitions": times,
                        "drift": float(np.mean(drift)),
                        "drift_interval": _interval(drift),
                        "any_column": float(np.mean(any_column)),
                        "any_column_interval": _interval(any_column),
                        "seconds_each": (time.perf_counter() - start) / times,
                    }
                )
                _say(table[-1])
    if json_path is not None:
        import json
        from pathlib import Path

        Path(json_path).write_text(json.dumps(table, indent=2), encoding="utf-8")
    return table


def _interval(flags: Sequence[bool]) -> tuple[float, float]:
    found = wilson(sum(flags), len(flags), 0.95)
    return found.low, found.high


def _say(row: dict[str, Any]) -> None:
    low, high = row["any_column_interval"]
    sys.stdout.write(
        f"{row['columns']:<9} {row['rows']:>4} rows  {row['report']:<10}"
        f" says drift {row['drift']:>7.2%}"
        f"   any column {row['any_column']:>7.2%} ({low:.2%} to {high:.2%})"
        f"   {row['repetitions']:>5} repetitions, {row['seconds_each']:.3f} s each\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    run()
