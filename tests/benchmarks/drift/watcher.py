"""everfit's hourly check, replayed: the error budget, three windows, one sequential test each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from monitoring.schedule import DAY, HOUR, WEEK, ErrorBudget, Spent
from tests.benchmarks.drift.stream import WEEK_HOURS, Stream

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Plan:
    """What is replayed. `block` rows in a row are permuted together; 1 for independent rows.

    Counting to a p-value of 1e-7 takes millions of permutations, which a service spends once, when
    it alarms, and a benchmark at every episode. So for delays, and where alarms are many, p-values
    below `floor` are read off the tail of the test's statistic (10 ** -statistic, which lies above
    the counted p-value in the tail for independent rows); with 0 all are counted.
    """

    hours: int = 8_760
    per_hour: int = 100
    phi: float = 0.0
    reference: int = 500
    most: int = 500  # rows of a window that enter a test
    block: int = 1
    probability: float = 0.01
    naive: float = 0.05
    floor: float = 0.0


def watch(
    plan: Plan, seed: int, *, change: float = 0.0, until_alarm: bool = False
) -> dict[str, Any]:
    """One stream of `plan.hours` after a stationary week, which fills the windows.

    {"alarms", "tests", "permutations", "seconds", "first" (hours until the first alarm, None
    without), "window" (the one that saw it), "naive" and "naive_first" (tests of an hour with
    p <= plan.naive)}. With `until_alarm` it ends when both have spoken.
    """
    stream = Stream(seed, plan.per_hour, plan.phi)
    reference = stream.reference(plan.reference)
    rows = stream.rows(WEEK_HOURS + plan.hours, change, WEEK_HOURS)
    budget = ErrorBudget(plan.probability)
    rng = np.random.default_rng((seed, 3))
    # the checks go on from a week before: every length was tested at some time within its period
    state = Spent(
        {HOUR: START, DAY: START - 3 * HOUR * rng.random(), WEEK: START - 21 * HOUR * rng.random()}
    )
    found: dict[str, Any] = dict.fromkeys(("alarms", "naive", "tests", "permutations"), 0)
    found |= dict.fromkeys(("first", "naive_first", "window"))
    began = time.perf_counter()
    for hour in range(1, plan.hours + 1):
        now = START + hour * HOUR
        due = budget.levels(state, now)
        state = budget.spend(state, now)
        for length, level in due.items():
            stop = (WEEK_HOURS + hour) * plan.per_hour
            window = rows[stop - round(length / HOUR) * plan.per_hour : stop]
            p, permutations = _test(plan, reference, window, level, rng)
            found["tests"] += 1
            found["permutations"] += permutations
            if length == HOUR and p <= plan.naive:
                found["naive"] += 1
                found["naive_first"] = found["naive_first"] or hour
            if p <= level:
                found["alarms"] += 1
                if found["first"] is None:
                    found["first"], found["window"] = hour, str(length)
        if until_alarm and found["first"] and found["naive_first"]:
            break
    return {**found, "seconds": time.perf_counter() - began}


def _test(
    plan: Plan, reference: np.ndarray, window: np.ndarray, level: float, rng: np.random.Generator
) -> tuple[float, int]:
    """p-value and permutations of one window, at most `plan.most` of its rows by whole blocks."""
    from monitoring.shift import shift_test

    window, blocks = sample(window, plan.block, plan.most, rng)
    of_reference = np.arange(len(reference)) // plan.block
    counted = max(level, plan.floor)
    result = shift_test(
        reference,
        window,
        level=counted,
        seed=int(rng.integers(2**31)),
        blocks=None if plan.block == 1 else (of_reference, blocks),
        explain=False,
    )
    if level < counted and result.p_value <= counted:
        return min(counted, 10.0**-result.statistic), result.permutations
    return result.p_value, result.permutations


def sample(
    rows: np.ndarray, block: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of the rows, whole runs of `block` of them, and the block of each."""
    count, wanted = len(rows) // block, max(1, most // block)
    chosen = np.arange(count)
    if count > wanted:
        chosen = np.sort(rng.choice(count, size=wanted, replace=False))
    places = (chosen[:, None] * block + np.arange(block)).ravel()
    return rows[places], np.repeat(np.arange(len(chosen)), block)
