"""Time of the MMD test beside a loop that sums the permuted kernel anew for each permutation.

Both make one kernel matrix per bandwidth on the same rows and the same number of threads; the loop
is NumPy in float64 and gathers the permuted matrix, as a plain implementation does. Run it alone
for times that mean something: `python -m tests.benchmarks.bench_mmd`, or `everfit bench mmd`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.mmd import MMDResult, mmd_test

SIZES = (200, 500, 1_000)


def naive(x: np.ndarray, y: np.ndarray, bandwidths: Sequence[float], permutations: int) -> float:
    """p-value of the largest MMD² over the bandwidths, one permutation at a time."""
    pooled, m, n = np.concatenate([x, y]), len(x), len(y)
    squares = (pooled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pooled @ pooled.T, 0)
    kernels = [np.exp(-distances / (2 * b * b)) for b in bandwidths]
    for kernel in kernels:
        np.fill_diagonal(kernel, 0.0)
    rng = np.random.default_rng(0)

    def statistic(order: np.ndarray) -> float:
        values = []
        for kernel in kernels:
            mixed = kernel[np.ix_(order, order)]
            within = mixed[:m, :m].sum() / (m * (m - 1)) + mixed[m:, m:].sum() / (n * (n - 1))
            values.append(within - 2 * mixed[:m, m:].mean())
        return max(values)

    observed = statistic(np.arange(m + n))
    exceed = sum(statistic(rng.permutation(m + n)) >= observed for _ in range(permutations))
    return (1 + exceed) / (1 + permutations)


def run(
    json_path: str | Path | None = None,
    *,
    sizes: Sequence[int] = SIZES,
    columns: int = 10,
    permutations: int = 999,
    naive_permutations: int = 49,
    repeats: int = 3,
    threads: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Print and return one row per size; the loop's time is scaled up from fewer permutations."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            rows = [
                _row(size, columns, permutations, naive_permutations, repeats, seed)
                for size in sizes
            ]
    finally:
        torch.set_num_threads(before)
    sys.stdout.write(table(rows, threads))
    if json_path is not None:
        Path(json_path).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def table(rows: Sequence[dict[str, Any]], threads: int) -> str:
    first = rows[0]
    lines = [
        f"MMD test, {first['columns']} columns, {first['permutations']} permutations, "
        f"{first['bandwidths']} bandwidths, {threads} thread{'s' * (threads != 1)}",
        f"{'rows a side':>11} {'everfit s':>10} {'loop s':>10} {'times':>7} {'GFLOP/s':>8}",
    ]
    lines += [
        f"{row['rows']:>11,} {row['seconds']:>10.3f} {row['naive_seconds']:>10.2f} "
        f"{row['speedup']:>7.0f} {row['gflops']:>8.1f}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _row(
    size: int, columns: int, permutations: int, few: int, repeats: int, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(size, columns)), rng.normal(size=(size, columns))
    found: MMDResult = mmd_test(x, y, permutations=9)  # loads torch before the clock starts
    seconds = _best(lambda: mmd_test(x, y, permutations=permutations, seed=seed), repeats)
    loop = _best(lambda: naive(x, y, found.bandwidths, few), 1) * permutations / few
    work = (2 * size) ** 2 * (permutations + 1) * len(found.bandwidths)  # half the matrix, 2 a pair
    return {
        "rows": size,
        "columns": columns,
        "permutations": permutations,
        "bandwidths": len(found.bandwidths),
        "seconds": seconds,
        "naive_seconds": loop,
        "naive_permutations_timed": few,
        "speedup": loop / seconds,
        "gflops": work / seconds / 1e9,
    }


def _best(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    run()
