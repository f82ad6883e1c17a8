"""Years of daily checks of texts by everfit's own check: false alarms, and days until a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tests.benchmarks.drift.texts import corpus

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
CHANGES = (0.1, 0.2, 0.5)  # share of the texts that are about films from then on
LIMIT = 28  # days after which a change counts as missed
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    days: int = 365
    per_day: int = 200  # texts
    reference: int = 2_000
    probability: float = 0.01
    naive: float = 0.05


def watch(plan: Plan, seed: int, share: float = 0.0, until: bool = False) -> dict[str, Any]:
    """One stream of days: alarms of the first witness and of both, and the first day of each.

    With a `share`, so many of the texts are about films after the first week; `until` both have
    alarmed. Windows of a day and of a week are tested as their error budget says; a fixed `naive`
    level of the same test on the day alone is counted beside them.
    """
    import pandas as pd

    from monitoring import causes
    from monitoring.evidence import Settings
    from monitoring.records import Signals, Window
    from monitoring.rules import Rules
    from monitoring.schedule import ErrorBudget, Spent
    from monitoring.witnesses import drift

    rng = np.random.default_rng((seed, 5))
    books, films = corpus("books")[0], corpus("dvd")[0]

    def drawn(count: int, of_films: float) -> list[str]:
        other = rng.random(count) < of_films
        return list(np.where(other, rng.choice(films, count), rng.choice(books, count)))

    def frame(days: list[list[str]]) -> pd.DataFrame:
        return pd.DataFrame({"body": [text for day in days for text in day]})

    reference = pd.DataFrame({"body": drawn(plan.reference, 0.0)})
    budget = ErrorBudget(plan.probability, shares={DAY: 0.5, WEEK: 0.5})
    spent = Spent({DAY: START, WEEK: START - 3 * DAY})
    days = [drawn(plan.per_day, 0.0) for _ in range(7)]
    found: dict[str, Any] = dict.fromkeys(("mmd", "both", "naive", "checks"), 0)
    found |= {"first mmd": None, "first both": None}
    began = time.perf_counter()
    rules = Rules()
    for day in range(1, plan.days + 1):
        now = START + day * DAY
        days = [*days[1:], drawn(plan.per_day, share)]
        levels = budget.levels(spent, now)
        spent = budget.spend(spent, now)
        settings = Settings(
            {}, (0, 1), levels=levels, texts=("body",), seed=seed * 1_000 + day, explain="never"
        )
        items = [
            *drift(reference, frame(days[-1:]), settings, DAY),
            *drift(reference, frame(days), settings, WEEK, "@7d"),
        ]
        said = {s.name: s for s in items}
        window = Window("w", "m", "1", now - DAY, now, plan.per_day, 0)
        seen = causes.words(Signals(window, tuple(items)), rules)["drift"]
        alone = any(s.breached for name, s in said.items() if name.startswith("mmd"))
        found["checks"] += 1
        found["mmd"] += alone
        found["both"] += bool(seen)
        p_value = said["mmd"].p_value
        found["naive"] += p_value is not None and p_value <= plan.naive
        if alone and found["first mmd"] is None:
            found["first mmd"] = day
        if seen and found["first both"] is None:
            found["first both"] = day
        if until and seen:
            break
    return {**found, "seconds": time.perf_counter() - began}


def run(plan: Plan, *, years: int, episodes: int, seed: int, say: Say) -> list[dict[str, Any]]:
    """Alarms a year where nothing changes, and the median day on which a change was told."""
    table = []
    quiet = []
    for number in range(years):
        quiet.append(watch(plan, seed + number))
        say(f"year {number + 1}: {quiet[-1]['both']} false alarms")
    if quiet:
        table.append(
            {
                "stream": f"{years} years of {plan.days} daily checks, nothing changes",
                "alarms a year": sum(q["both"] for q in quiet) / years,
                "of the shift test alone": sum(q["mmd"] for q in quiet) / years,
                f"the same test at {plan.naive:g}": sum(q["naive"] for q in quiet) / years,
                "seconds a check": round(
                    sum(q["seconds"] for q in quiet) / sum(q["checks"] for q in quiet), 3
                ),
            }
        )
    for share in CHANGES:
        limited = Plan(LIMIT, plan.per_day, plan.reference, plan.probability, plan.naive)
        ends = [
            watch(limited, seed + 10_000 + e, share, until=True)["first both"]
            for e in range(episodes)
        ]
        told = sorted(end if end is not None else LIMIT + 1 for end in ends)
        missed = sum(end is None for end in ends)
        if not told:
            continue
        median = told[len(told) // 2]
        table.append(
            {
                "stream": f"{share:.0%} of the texts are about films from one day on",
                "days until it is told": str(median) if median <= LIMIT else "missed",
                "missed": f"{missed} of {episodes}",
            }
        )
        say(f"{share:.0%}: {told}")
    return table
