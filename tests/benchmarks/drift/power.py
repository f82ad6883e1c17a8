"""Rejections where something changed, each change as faint as a test may be asked to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.drift import counts, methods, samples
from tests.benchmarks.peers import environment

TESTS = tuple(
    name
    for name in (*methods.OWN, *methods.TEXTBOOK, *methods.PEERS)
    if "100 permutations" not in name  # what peers get here anyway
)


def run(
    *,
    tests: Sequence[str] = TESTS,
    cases: Sequence[samples.Case] = samples.CASES,
    repetitions: int = 500,
    peer_repetitions: int | None = None,
    rows: int = 200,
    permutations: int = 299,
    peer_permutations: int = 100,
    level: float = 0.05,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """One row per change, one column per test: the share of rejections at `level`.

    `short` is how far the first test, everfit's, stays behind the best other one.
    """
    table = []
    for number, case in enumerate(cases):
        row: dict[str, Any] = {"change": case.name}
        for test in tests:
            peer = test in methods.PEERS
            count = (peer_repetitions or repetitions) if peer else repetitions
            rng = np.random.default_rng((seed, number))  # every test sees the same rows
            pairs = [case.draw(rng, rows, rows) for _ in range(count)]
            say(f"{case.name}: {test}")
            values = methods.p_values(
                test, pairs, case.category, peer_permutations if peer else permutations, seed
            )
            row[test] = (
                environment.missing(methods.PEERS[test][0])
                if values is None
                else float((values <= level).mean())
            )
        rates = [v for k, v in row.items() if isinstance(v, float) and k != tests[0]]
        if rates and isinstance(row[tests[0]], float):
            row["short"] = max(0.0, max(rates) - row[tests[0]])
        row["error"] = counts.standard_error(0.5, repetitions)
        table.append(row)
    return table
