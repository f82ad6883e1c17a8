"""Rejections where nothing changed: is 0.05 five in a hundred, and 0.001 one in a thousand?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.drift import counts, methods, samples
from tests.benchmarks.peers import environment

LEVELS = (0.05, 0.01, 0.001)
TESTS = (*methods.OWN, *methods.TEXTBOOK, *methods.PEERS)
CHUNK = 500


def run(
    *,
    tests: Sequence[str] = TESTS,
    repetitions: int = 2_000,
    peer_repetitions: int | None = None,
    rows: int = 100,
    permutations: int = 999,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """One row per test: the share of rejections at every level, and whether it may be chance."""
    return [
        _row(
            test,
            (peer_repetitions or repetitions) if test in methods.PEERS else repetitions,
            rows,
            permutations,
            seed,
            say,
        )
        for test in tests
    ]


def _row(
    test: str,
    repetitions: int,
    rows: int,
    permutations: int,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    row: dict[str, Any] = {"test": test, "repetitions": repetitions}
    found: list[np.ndarray] = []
    for start in range(0, repetitions, CHUNK):
        count = min(CHUNK, repetitions - start)
        rng = np.random.default_rng((seed, start))  # every test sees the same rows
        pairs = [samples.NONE.draw(rng, rows, rows) for _ in range(count)]
        values = methods.p_values(test, pairs, False, permutations, seed + start)
        if values is None:
            return row | {"note": environment.missing(methods.PEERS[test][0])}
        found.append(values)
        say(f"{test}: {start + count:,} of {repetitions:,}")
    values = np.concatenate(found)
    decides = np.isin(values, (0.0, 1.0)).all()  # says yes or no, at its own rule
    outside = []
    for level in LEVELS:
        rejections = int((values <= level).sum())
        row[f"at {level:g}"] = rejections / repetitions
        flag = "" if decides else counts.verdict(rejections, level, repetitions)
        if flag:
            low, high = counts.chance(level, repetitions)
            outside.append(
                f"{flag} at {level:g}: {rejections} of {repetitions}, chance is {low} to {high}"
            )
    row["note"] = "; ".join(outside) or ("a rule without a level" if decides else "")
    if not decides and (values == 0).any():
        row["note"] = "; ".join(filter(None, [row["note"], f"p = 0 {(values == 0).sum()} times"]))
    return row
