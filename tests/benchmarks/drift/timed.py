"""One test, timed in a process of its own: `python -m tests.benchmarks.drift.timed JOB`.

A fresh process, so that the memory of one measurement does not hide in another's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.meter import measure

ROOT = Path(__file__).resolve().parents[3]


def timed(
    test: str,
    *,
    rows: int,
    columns: int,
    permutations: int,
    repeats: int = 1,
    threads: int = 1,
    timeout: float = 900,
) -> dict[str, Any]:
    """{"seconds", "cpu", "extra_mb", ...} of `test` on Gaussian float32 rows, or {"fault"}."""
    job = {
        "test": test,
        "rows": rows,
        "columns": columns,
        "permutations": permutations,
        "repeats": repeats,
        "threads": threads,
    }
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(job)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, **dict.fromkeys(limits, str(threads))},
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"over {timeout:g} s"}
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _call(job: dict[str, Any]) -> Callable[[Any, Any], Any]:
    permutations = job["permutations"]
    if job["test"] == "everfit shift_test":
        from monitoring.shift import shift_test

        return lambda x, y: shift_test(x, y, permutations=permutations)
    if job["test"] == "everfit mmd_test":
        from monitoring.mmd import mmd_test

        return lambda x, y: mmd_test(x, y, permutations=permutations)
    from tests.benchmarks.drift import sketch

    if job["test"] == "sketch":
        return lambda x, y: sketch.sketch_test(x, y, permutations)
    if job["test"] == "plain loop":
        return lambda x, y: sketch.loop_test(x, y, permutations)
    return lambda x, y: sketch.binned_test(x, y, permutations)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The measurement itself, in this process."""
    import numpy as np
    import torch

    torch.set_num_threads(job["threads"])
    if job["test"] == "matrix product":
        return {"gflops": _limit(2 * job["rows"], job["permutations"] + 1)}
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(job["rows"], job["columns"])).astype(np.float32) for _ in range(2))
    call = _call(job)
    call(x[:60], y[:60])  # what is imported and compiled once is not the test's
    found: list[Any] = []
    seconds, cpu, extra = measure(lambda: found.append(call(x, y)), job["repeats"])
    return {
        "seconds": seconds,
        "cpu": cpu,
        "extra_mb": extra,
        "route": " ".join(
            filter(None, (getattr(found[0], "route", ""), getattr(found[0], "note", "")))
        ),
        "units": _units(job, found[0]),
        "kernels": len(getattr(found[0], "bandwidths", (1,))),
    }


def _units(job: dict[str, Any], found: Any) -> int | None:
    """What was permuted: the sketch's rows, or what the result says; None where it does not."""
    if job["test"].startswith("sketch"):
        return 2 * int(job["rows"])
    return sum(found.units) if hasattr(found, "units") else None


def _limit(total: int, width: int) -> float:
    """GFLOP/s of a float32 product of the shape that the permutations have, of CPU time."""
    import torch

    height = min(total, 1_024)
    a, b = torch.rand(height, total), torch.rand(total, width)
    seconds = min(measure(lambda: a @ b)[1] for _ in range(5))
    return 2.0 * height * total * width / seconds / 1e9


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(json.loads(sys.argv[1]))) + "\n")
