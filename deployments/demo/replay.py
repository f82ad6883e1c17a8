"""A world again, day by day under a simulated clock, against whatever answers like a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from deployments.demo.client import Served
from deployments.demo.comparators import Frozen, Weekly
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY, Scoreboard
from deployments.demo.world import DAY, ID, KNOWN, World, between
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
    world: World,
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
    """Serve `days` days of a world from `start` on.

    Every hour the rows due in it are asked for in one request, after the labels that have come by
    then are told; at the end of every day `watch` is called with the day's last moment. `rows` is
    what `world.load` gives; `board` gets the answers of the three.
    """
    end = start + days * DAY
    replayed = between(rows, start, end)
    labels = replayed[replayed[KNOWN].notna()].sort_values([KNOWN, ID])
    due = labels[KNOWN]
    told, totals, version = 0, Totals(), ""

    def tell(now: datetime) -> None:
        """Labels that have come by `now`; rows that were not asked for yet have none."""
        nonlocal told
        upto = int(due.searchsorted(pd.Timestamp(now), side="right"))
        if upto > told:
            served.tell(labels.iloc[told:upto])
            told = upto

    for number in range(days):
        morning = start + number * DAY
        evening = morning + DAY
        weekly.turn(number, rows, morning)
        today = between(rows, morning, evening)
        answers = []
        for hour in range(24):
            now = morning + hour * HOUR
            tell(now)
            asked = between(today, now, now + HOUR)
            if not len(asked):
                continue
            answer = served.ask(asked)
            answers.append(answer.positive)
            version = answer.versions[-1]
            totals.requests += 1
        tell(evening)
        totals.rows += len(today)
        totals.unlabelled += int(today[world.target].isna().sum())
        served.settle(morning, evening, len(today))
        board.add(
            number,
            today[world.target].to_numpy(dtype=float),
            {
                FROZEN: frozen.predict(today),
                WEEKLY: weekly.predict(today),
                EVERFIT: np.concatenate(answers) if answers else np.zeros(0),
            },
        )
        decision = await watch(evening)
        on_day(Day(number, board.week_of(number), evening, len(today), version, decision))
    return totals
