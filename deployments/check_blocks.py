"""Whether a window holds enough of the config's blocks for its drift test ever to raise an alarm,
and a probation enough for a new champion ever to be certainly worse.

A test that permutes whole blocks can find no p-value below one over the number of ways to tell the
reference's and the window's blocks apart; where that is above the level, nothing is ever seen.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from monitoring.drift import blocks_of, smallest_p
from monitoring.wording import short
from tasks.evidence import budget, lengths
from tasks.probation import block as probation_block

if TYPE_CHECKING:
    import pandas as pd

    from tasks.config import Config

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)  # schedules count from here
_TESTS, _CHECKS = 50, 3_000  # of each window, and checks that are gone through for them
_STRETCHES = 5  # Student's t at 99 % is 4.6 then, 9.9 with three and 64 with two
_MOST = 20_000  # blocks of a window, beyond which no remedy is named


def few_blocks(config: Config, frame: pd.DataFrame, *, part: bool) -> list[str]:
    """A sentence of each length of window in which the test can see no drift.

    `frame` are rows of the data, or with `part` some of them: the reference is a sample of them.
    """
    block = config.monitor.block
    if block is None:
        return []
    held = _held(config, frame, block, part)
    said = []
    for length, level in levels(config).items():
        most = math.ceil(length / block) + 1  # it may begin within a block
        least_p = smallest_p(held, most)
        if least_p <= level:
            continue
        said.append(
            f"monitor.block: a window of {short(length)} holds {most} blocks of {short(block)} at "
            f"most, and the reference {held}, so no p is below {least_p:.2g}; drift counts at p <= "
            f"{level:.2g}, so the test never sees it there: {_remedy(block, length, held, level)}"
        )
    return said


def few_stretches(config: Config) -> list[str]:
    """A sentence where a new champion's probation has too few stretches to prove anything."""
    length = config.policy.probation
    if length is None:
        return []
    block = probation_block(config)
    if length / block >= _STRETCHES:
        return []
    name = "performance_block" if config.monitor.performance_block else "block"
    return [
        f"monitor.{name}: the policy's probation of {short(length)} has {length / block:.1f} "
        f"stretches of {short(block)}, whose rows count as one; with fewer than {_STRETCHES} a "
        "worse champion is hardly ever certain to be one and stays: set policy.probation to "
        f"{short(_STRETCHES * block)} or more, or shorten the block"
    ]


def _held(config: Config, frame: pd.DataFrame, block: timedelta, part: bool) -> int:
    """Blocks that the reference holds at most, which has a sample of the labelled rows."""
    from models.data import times

    most = config.monitor.reference_rows
    if part:
        return most
    labelled = times(frame[frame[config.data.target].notna()], str(config.data.time)).dropna()
    return min(most, len(set(blocks_of(labelled, block).tolist())))


def _remedy(block: timedelta, length: timedelta, held: int, level: float) -> str:
    enough = next((n for n in range(2, _MOST) if smallest_p(held, n) <= level), None)
    if enough is None:
        return "shorten the block, or bring rows of more blocks"
    finer = timedelta(minutes=max(1, int(length / enough / timedelta(minutes=1))))
    return (
        f"{enough} blocks are enough, so lengthen the window to {short(enough * block)}, or "
        f"shorten the block to {short(finer)}"
    )


def levels(config: Config) -> dict[timedelta, float]:
    """The highest level at which checks by the config's schedule test each length of window, its
    first test left out, for which the budget pays more."""
    from monitoring.schedule import Spent

    if (fixed := config.policy.drift_p_value) is not None:
        return dict.fromkeys(lengths(config), fixed)
    from prefect._vendor.croniter import croniter

    times, allowed = croniter(config.schedule.cron, _MONDAY), budget(config)
    state, found = Spent(), dict.fromkeys(lengths(config), 0.0)
    tests = dict.fromkeys(found, 0)
    for _ in range(_CHECKS):
        now: datetime = times.get_next(datetime)
        for length, level in allowed.levels(state, now).items():
            if length in state.tested:
                found[length] = max(found[length], level)
                tests[length] += 1
        state = allowed.spend(state, now)
        if min(tests.values()) >= _TESTS:
            break
    return found
