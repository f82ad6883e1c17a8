"""False alarms in stationary years of hourly checks, and hours until a real change is seen."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tests.benchmarks.drift.kept import Kept
from tests.benchmarks.drift.stream import WEEK_HOURS, Stream, hourly_means
from tests.benchmarks.drift.watcher import Plan, watch
from tests.benchmarks.peers import environment

CHANGES = (0.25, 0.5, 1.0)  # sigma, in three of ten columns
LIMIT = 4 * WEEK_HOURS  # hours after which a change counts as missed
BEFORE = 4 * WEEK_HOURS  # stationary hours that river's detectors see first
FLOOR = 1e-3  # see Plan
EPISODES_FROM = 100_000  # seeds of the streams that change
EVIDENTLY = {"Evidently, half the columns": 0.5, "Evidently, any column": 1e-9}

Say = Callable[[str], None]


def run(
    plan: Plan,
    *,
    years: int = 4,
    episodes: int = 20,
    peer_years: int = 1,
    peer_episodes: int = 5,
    evidently_checks: int = 100,
    changes: Sequence[float] = CHANGES,
    processes: int = 2,
    seed: int = 0,
    peers: bool = True,
    kept: Kept | None = None,
    say: Say = lambda text: None,
) -> list[dict[str, Any]]:
    """One row per monitor: false alarms over `years`, each with a reference of its own, and delays.

    A delay is the median of the episodes, in hours; an episode without an alarm within four weeks
    is missed and counts as longer than any other. What `kept` holds is not computed again, and
    where it has `ended` the table is of that alone.
    """
    kept = kept or Kept()
    with _pool(processes) as pool:
        rows = _everfit("everfit", plan, pool, years, episodes, changes, seed, kept, say)
        if plan.block > 1:
            # Its false alarms are many, and each takes thousands of permutations.
            free = replace(plan, block=1, floor=FLOOR)
            name = "everfit without blocks"
            few = min(years, max(1, peer_years))
            rows += _everfit(name, free, pool, few, episodes, (), seed, kept, say)[:1]
    if peers:
        rows += _river(plan, peer_years, peer_episodes, changes, seed, kept, say)
        rows += _evidently(plan, evidently_checks, peer_episodes, changes, seed, kept, say)
    dummy: dict[str, Any] = {"monitor": "always fires", "years": years}
    dummy |= {"alarms a year": float(plan.hours), "worst year": plan.hours, "years with any": years}
    rows.append(dummy | {_key(change): "1" for change in changes})
    return rows


def _everfit(
    name: str,
    plan: Plan,
    pool: ProcessPoolExecutor,
    years: int,
    episodes: int,
    changes: Sequence[float],
    seed: int,
    kept: Kept,
    say: Say,
) -> list[dict[str, Any]]:
    """everfit's row, and that of its test at `plan.naive` for every hour alone."""
    wanted = [(plan, seed + i, {}) for i in range(years)]
    stationary = _all(pool, wanted, f"{name}: year", kept, say)
    alarms = [each["alarms"] for each in stationary]
    years, tests, seconds, permutations = (
        len(stationary),
        *(sum(each[name] for each in stationary) for name in ("tests", "seconds", "permutations")),
    )
    note = (
        f"{tests / max(1, years):,.0f} tests a year, {1e3 * seconds / max(1, tests):.1f} ms and "
        f"{permutations / max(1, tests):,.0f} permutations a test"
    )
    own, naive = (
        _row(name, alarms, note),
        _row(
            f"{name}'s test, each hour at {plan.naive:g}",
            [each["naive"] for each in stationary],
            "",
        ),
    )
    for change in changes:
        short = replace(plan, hours=LIMIT, floor=FLOOR)
        options = {"change": change, "until_alarm": True}
        jobs = [(short, seed + EPISODES_FROM + i, options) for i in range(episodes)]
        found = _all(pool, jobs, f"{name}: {change:g} sigma", kept, say)
        own[_key(change)] = delay([each["first"] for each in found])
        naive[_key(change)] = delay([each["naive_first"] for each in found])
    return [own, naive]


def _river(
    plan: Plan,
    years: int,
    episodes: int,
    changes: Sequence[float],
    seed: int,
    kept: Kept,
    say: Say,
) -> list[dict[str, Any]]:
    alarms: dict[str, list[int]] = {}
    for i in range(years):
        answer = _detect(plan, seed + i, plan.hours, 0.0, 0, f"year {i + 1} of {years}", kept, say)
        if answer is None and not kept.ended:
            return [{"monitor": "river's detectors", "note": environment.missing("streams")}]
        for name, hours in (answer or {}).items():
            alarms.setdefault(name, []).append(len(hours))
    rows = {name: _row(name, counts, "river's defaults") for name, counts in alarms.items()}
    for change in changes:
        total = BEFORE + LIMIT // 2
        seeds = range(seed + EPISODES_FROM, seed + EPISODES_FROM + episodes)
        said = f"{change:g} sigma"
        found = [_detect(plan, s, total, change, BEFORE, said, kept, say) for s in seeds]
        for name, row in rows.items():
            firsts = [
                next((h - BEFORE + 1 for h in each[name] if h >= BEFORE), None)
                for each in found
                if each is not None
            ]
            row[_key(change)] = delay(firsts)
    return list(rows.values())


def _detect(
    plan: Plan,
    seed: int,
    hours: int,
    change: float,
    at: int,
    said: str,
    kept: Kept,
    say: Say,
) -> dict[str, list[int]] | None:
    """The hours at which river's detectors spoke, on errors by row and on means by hour."""
    drawn = {"seed": seed, "per_hour": plan.per_hour, "phi": plan.phi}
    job = {"of": "river", **drawn, "hours": hours, "change": change, "at": at}
    answer = kept.get(job)
    if answer is not None or kept.ended:
        return answer
    say(f"river: {said}")
    stream = Stream(seed, plan.per_hour, plan.phi)
    rows = stream.rows(hours, change, at)
    errors, columns = stream.errors(rows, change, at), hourly_means(rows, plan.per_hour)
    arrays = {"errors": errors[None], "columns": columns[None]}
    asked = {"task": "streams", "per_hour": plan.per_hour}
    found = environment.ask("streams", "detectors", asked, arrays)
    if found is None:
        return None
    kept.put(job, found[0])
    return dict(found[0])


def _evidently(
    plan: Plan,
    checks: int,
    episodes: int,
    changes: Sequence[float],
    seed: int,
    kept: Kept,
    say: Say,
) -> list[dict[str, Any]]:
    """Its rules on hourly windows: a sample of a year's checks over ten references, scaled up."""
    say("Evidently: stationary hours")
    references = min(10, checks)
    each = checks // references
    shares: list[float] = []
    for i in range(references):
        found = _shares(plan, seed + i, each, 0.0, kept)
        if found is None and not kept.ended:
            return [{"monitor": "Evidently", "note": environment.missing("streams")}]
        shares += found or []
    if not shares:
        return []
    rows = []
    for name, rule in EVIDENTLY.items():
        fired = float(np.mean(np.asarray(shares) >= rule))
        row = _row(name, [], f"scaled from {len(shares)} checks")
        rows.append(row | {"alarms a year": fired * plan.hours})
    for change in changes:
        say(f"Evidently: {change:g} sigma")
        found_shares = [
            _shares(plan, seed + EPISODES_FROM + i, 24, change, kept) for i in range(episodes)
        ]
        for row, rule in zip(rows, EVIDENTLY.values(), strict=True):
            firsts = [
                next((h + 1 for h, share in enumerate(one) if share >= rule), None)
                for one in found_shares
                if one is not None
            ]
            row[_key(change)] = delay(firsts, after="24 h")
    return rows


def _shares(plan: Plan, seed: int, hours: int, change: float, kept: Kept) -> list[float] | None:
    drawn = {"seed": seed, "per_hour": plan.per_hour, "phi": plan.phi}
    job = {"of": "Evidently", **drawn, "reference": plan.reference, "hours": hours}
    job["change"] = change
    answer = kept.get(job)
    if answer is not None or kept.ended:
        return answer
    stream = Stream(seed, plan.per_hour, plan.phi)
    windows = stream.rows(hours, change).reshape(hours, plan.per_hour, -1)
    arrays = {"x": stream.reference(plan.reference), "y": windows}
    found = environment.ask("streams", "reports", {"task": "shares"}, arrays)
    if found is None:
        return None
    kept.put(job, found)
    return list(found)


def delay(firsts: Sequence[int | None], after: str = "") -> str:
    """The median of hours until an alarm, and how many saw none.

    >>> delay([1, 4, 2]), delay([1, None, 5]), delay([None, None, 3])
    ('2', '5, 1 of 3 missed', 'missed, 2 of 3')
    """
    if not firsts:
        return ""
    missed = sum(first is None for first in firsts)
    place = sorted(first if first is not None else 10**9 for first in firsts)[len(firsts) // 2]
    until = f" in {after}" if after else ""
    if place == 10**9:
        return f"missed, {missed} of {len(firsts)}{until}"
    return f"{place}" + (f", {missed} of {len(firsts)} missed{until}" if missed else "")


def _row(monitor: str, alarms: Sequence[int], note: str) -> dict[str, Any]:
    known = (
        {}
        if not alarms
        else {
            "alarms a year": float(np.mean(alarms)),
            "worst year": max(alarms),
            "years with any": sum(count > 0 for count in alarms),
        }
    )
    columns = ("alarms a year", "worst year", "years with any")
    return {
        "monitor": monitor,
        "years": len(alarms) or None,
        **{column: known.get(column) for column in columns},
        **dict.fromkeys(map(_key, CHANGES)),
        "note": note,
    }


def _key(change: float) -> str:
    return f"hours to {change:g} sigma"


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _all(
    pool: ProcessPoolExecutor,
    jobs: Sequence[tuple[Plan, int, dict[str, Any]]],
    name: str,
    kept: Kept,
    say: Say,
) -> list[dict[str, Any]]:
    """The answers that there are, in the order of the jobs; those not kept yet are computed."""
    named = [{"of": "everfit", **asdict(plan), "seed": s, **more} for plan, s, more in jobs]
    left = [place for place, job in enumerate(named) if kept.get(job) is None and not kept.ended]
    futures = {pool.submit(watch, jobs[i][0], jobs[i][1], **jobs[i][2]): i for i in left}
    for number, done in enumerate(as_completed(futures), 1):
        found = done.result()
        kept.put(named[futures[done]], found)
        say(
            f"{name} {number} of {len(futures)}: {found['alarms']} alarms in {found['tests']:,} "
            f"tests, the first after {found['first']} hours"
        )
    answers = [kept.get(job) for job in named]
    return [answer for answer in answers if answer is not None]
