"""The year again, day by day under a simulated clock, against whatever answers like a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from deployments.demo import flights
from deployments.demo.client import Served
from deployments.demo.comparators import Frozen, Weekly
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY, Scoreboard
from monitoring.records import Decision

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Day:
    """One replayed day, when its check is done."""

    number: int  # 0 is the first
    week: int
    ends: datetime
    rows: int
    version: str  # that answered last
    decision: Decision


@dataclass(slots=True)
class Totals:
    rows: int = 0
    requests: int = 0
    unlabelled: int = 0


async def replay(
    rows: pd.DataFrame,
    *,
    start: datetime,
    days: int,
    served: Served,
    watch: Callable[[datetime], Awaitable[Decision]],
    frozen: Frozen,
    weekly: Weekly,
    board: Scoreboard,
    on_day: Callable[[Day], None],
) -> Totals:
    """Serve `days` days of flights from `start` on.

    Every hour the flights due in it are asked for in one request, after the labels that have come
    by then are told; at the end of every day `watch` is called with the day's last moment. `rows`
    is what `flights.prepare` gives; `board` gets the answers of the three.
    """
    end = start + days * flights.DAY
    replayed = flights.between(rows, start, end)
    landings = replayed[replayed["arrived"].notna()].sort_values(["arrived", "id"])
    due = landings["arrived"]
    told, totals, version = 0, Totals(), ""

    def tell(now: datetime) -> None:
        """Labels that have come by `now`; rows that were not asked for yet have none."""
        nonlocal told
        upto = int(due.searchsorted(pd.Timestamp(now), side="right"))
        if upto > told:
            served.tell(landings.iloc[told:upto])
            told = upto

    for number in range(days):
        morning = start + number * flights.DAY
        evening = morning + flights.DAY
        weekly.turn(number, rows, morning)
        today = flights.between(rows, morning, evening)
        answers = []
        for hour in range(24):
            now = morning + hour * HOUR
            tell(now)
            flying = flights.between(today, now, now + HOUR)
            if not len(flying):
                continue
            answer = served.ask(flying)
            answers.append(answer.late)
            version = answer.versions[-1]
            totals.requests += 1
        tell(evening)
        totals.rows += len(today)
        totals.unlabelled += int(today[flights.TARGET].isna().sum())
        served.settle(morning, evening, len(today))
        board.add(
            number,
            today[flights.TARGET].to_numpy(dtype=float),
            {
                FROZEN: frozen.predict(today),
                WEEKLY: weekly.predict(today),
                EVERFIT: np.concatenate(answers) if answers else np.zeros(0),
            },
        )
        decision = await watch(evening)
        on_day(Day(number, board.week_of(number), evening, len(today), version, decision))
    return totals
