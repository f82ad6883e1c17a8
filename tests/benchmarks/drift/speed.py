"""Seconds and memory of two-sample tests beside the peers', and the matrix product's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.benchmarks.drift.timed import timed
from tests.benchmarks.peers import environment

SIZES = ((500, 1_000), (2_000, 1_000), (5_000, 100), (10_000, 1_000))  # rows a side, permutations
LARGE = ((1_000_000, 10), (1_000_000, 50))  # rows a side, columns
PEERS = ("alibi MMD", "frouros MMD")
BINNED = "sketch, binned features"
LOOP, LOOPS, LOOP_ROWS = "plain loop", 20, 2_000  # its kernels are kept: not at every size
TESTS = ("everfit shift_test", "everfit mmd_test", "sketch", BINNED, LOOP, *PEERS)
PEER_SECONDS = 60.0  # a peer's one measurement; what would take longer is scaled


def run(
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    large: Sequence[tuple[int, int]] = LARGE,
    tests: Sequence[str] = TESTS,
    columns: int = 10,
    repeats: int = 3,
    threads: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """One row per size and test.

    The share of the limit is the arithmetic of `flops` over the CPU time, as a share of what a
    matrix product of that shape reaches on this machine. A test that needs less than that
    arithmetic can be above 1.
    """
    rows = []
    for size, permutations in sizes:
        limit = timed(
            "matrix product", rows=size, columns=columns, permutations=permutations, threads=threads
        ).get("gflops")
        for test in tests:
            if test == BINNED or (test == LOOP and size > LOOP_ROWS):
                continue
            say(f"{test}, {size:,} rows a side")
            if test in PEERS:
                found = _peer(test, size, columns, permutations)
            else:
                found = timed(
                    test,
                    rows=size,
                    columns=columns,
                    permutations=LOOPS if test == LOOP else permutations,
                    repeats=repeats if size <= 2_000 and test != LOOP else 1,
                    threads=threads,
                )
            if test == LOOP and "seconds" in found:
                found["seconds"] *= permutations / LOOPS
                found["cpu"] *= permutations / LOOPS
                found["note"] = f"scaled from {LOOPS} permutations"
            rows.append(_row(test, size, columns, permutations, found, limit))
    rows += _linear(large, tests, threads, say)
    return rows


def _linear(
    large: Sequence[tuple[int, int]], tests: Sequence[str], threads: int, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    for size, columns in large:
        for test in ("everfit shift_test", BINNED):
            if test not in tests:
                continue
            say(f"{test}, {size:,} x {columns} rows a side")
            found = timed(test, rows=size, columns=columns, permutations=999, threads=threads)
            yield _row(test, size, columns, 999, found)


def _row(
    test: str,
    size: int,
    columns: int,
    permutations: int,
    found: dict[str, Any],
    limit: float | None = None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rows a side": size,
        "columns": columns,
        "permutations": permutations,
        "test": test,
        "seconds": found.get("seconds"),
        "CPU s": found.get("cpu"),
        "extra MB": found.get("extra_mb"),
        "GFLOP/s": None,
        "share of limit": None,
        "note": found.get("fault") or found.get("note") or found.get("route", ""),
    }
    if limit and row["CPU s"] and found.get("units"):
        work = flops(2 * size, found["units"], columns, permutations, found["kernels"])
        row["GFLOP/s"] = work / row["CPU s"] / 1e9
        row["share of limit"] = row["GFLOP/s"] / limit
    return row


def flops(rows: int, units: int, columns: int, permutations: int, kernels: int) -> float:
    """Of the two products, 2 a multiply-add: distances of all rows, permutations of all units.

    A unit is what is permuted, a row or a random bin of rows. Triangles count as whole squares.

    >>> flops(1_000, 1_000, 10, 999, 1) / 1e9
    2.02
    """
    return 2.0 * rows**2 * columns + 2.0 * units**2 * (permutations + 1) * kernels


def _peer(test: str, size: int, columns: int, permutations: int) -> dict[str, Any]:
    """A peer's time: as asked where it is short, else from two smaller numbers of permutations."""
    name = "alibi"
    few = 2
    job = {"task": "speed", "test": test, "rows": size, "columns": columns}
    try:
        first = environment.ask(name, "two_sample", {**job, "permutations": [few]}, timeout=600)
        if first is None:
            return {"fault": environment.missing(name)}
        few_seconds, few_cpu, extra = first[str(few)]
        each = max(few_seconds / (few + 1), 1e-4)
        many = int(min(permutations, max(few + 2, PEER_SECONDS / each)))
        second = environment.ask(name, "two_sample", {**job, "permutations": [many]}, timeout=900)
    except environment.PeerFault as fault:
        return {"fault": str(fault).splitlines()[-1][:120]}
    seconds, cpu, more = second[str(many)]
    found = {"seconds": seconds, "cpu": cpu, "extra_mb": max(extra, more)}
    if many < permutations:
        rest = (permutations - many) / (many - few)
        found["seconds"] += max(0.0, seconds - few_seconds) * rest
        found["cpu"] += max(0.0, cpu - few_cpu) * rest
        found["note"] = f"scaled from {many} permutations"
    return found
