"""False alarms in stationary years of hourly checks, and hours until a real change is seen."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import numpy as np

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
    say: Say = lambda text: None,
) -> list[dict[str, Any]]:
    """One row per monitor: false alarms over `years`, each with a reference of its own, and delays.

    A delay is the median of the episodes, in hours; an episode without an alarm within four weeks
    is missed and counts as longer than any other.
    """
    with _pool(processes) as pool:
        rows = _everfit("everfit", plan, pool, years, episodes, changes, seed, say)
        if plan.block > 1:
            # Its false alarms are many, and to count each to the end would take minutes.
            free = replace(plan, block=1, floor=FLOOR)
            name = "everfit without blocks"
            rows += _everfit(name, free, pool, years, episodes, (), seed, say)[:1]
    if peers:
        rows += _river(plan, peer_years, peer_episodes, changes, seed, say)
        rows += _evidently(plan, evidently_checks, peer_episodes, changes, seed, say)
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
    say: Say,
) -> list[dict[str, Any]]:
    """everfit's row, and that of its test at `plan.naive` for every hour alone."""
    stationary = _all(pool, [(plan, seed + i, {}) for i in range(years)], f"{name}: year", say)
    alarms = [each["alarms"] for each in stationary]
    tests = sum(each["tests"] for each in stationary)
    note = (
        f"{tests / max(1, years):,.0f} tests a year, "
        f"{1e3 * sum(each['seconds'] for each in stationary) / tests:.1f} ms and "
        f"{sum(each['permutations'] for each in stationary) / tests:,.0f} permutations a test"
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
        found = _all(pool, jobs, f"{name}: {change:g} sigma", say)
        own[_key(change)] = delay([each["first"] for each in found])
        naive[_key(change)] = delay([each["naive_first"] for each in found])
    return [own, naive]


def _river(
    plan: Plan, years: int, episodes: int, changes: Sequence[float], seed: int, say: Say
) -> list[dict[str, Any]]:
    alarms: dict[str, list[int]] = {}
    for i in range(years):
        say(f"river: year {i + 1} of {years}")
        answer = _detect(plan, [_observed(plan, seed + i, plan.hours)])
        if answer is None:
            return [{"monitor": "river's detectors", "note": environment.missing("streams")}]
        for name, hours in answer[0].items():
            alarms.setdefault(name, []).append(len(hours))
    rows = {name: _row(name, counts, "river's defaults") for name, counts in alarms.items()}
    for change in changes:
        say(f"river: {change:g} sigma")
        total = BEFORE + LIMIT // 2
        seeds = range(seed + EPISODES_FROM, seed + EPISODES_FROM + episodes)
        answer = _detect(plan, [_observed(plan, s, total, change, BEFORE) for s in seeds]) or []
        for name, row in rows.items():
            firsts = [next((h - BEFORE + 1 for h in e[name] if h >= BEFORE), None) for e in answer]
            row[_key(change)] = delay(firsts)
    return list(rows.values())


def _observed(
    plan: Plan, seed: int, hours: int, change: float = 0.0, at: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Errors by row and means by hour, what river's detectors follow."""
    stream = Stream(seed, plan.per_hour, plan.phi)
    rows = stream.rows(hours, change, at)
    return stream.errors(rows, change, at), hourly_means(rows, plan.per_hour)


def _detect(
    plan: Plan, observed: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, list[int]]] | None:
    arrays = {
        "errors": np.stack([errors for errors, _ in observed]),
        "columns": np.stack([columns for _, columns in observed]),
    }
    found = environment.ask(
        "streams", "detectors", {"task": "streams", "per_hour": plan.per_hour}, arrays
    )
    return None if found is None else list(found)


def _evidently(
    plan: Plan, checks: int, episodes: int, changes: Sequence[float], seed: int, say: Say
) -> list[dict[str, Any]]:
    """Its rules on hourly windows: a sample of a year's checks over ten references, scaled up."""
    say("Evidently: stationary hours")
    references = min(10, checks)
    each = checks // references
    shares: list[float] = []
    for i in range(references):
        found = _shares(plan, seed + i, each)
        if found is None:
            return [{"monitor": "Evidently", "note": environment.missing("streams")}]
        shares += found
    rows = []
    for name, rule in EVIDENTLY.items():
        fired = float(np.mean(np.asarray(shares) >= rule))
        row = _row(name, [], f"scaled from {len(shares)} checks")
        rows.append(row | {"alarms a year": fired * plan.hours})
    for change in changes:
        say(f"Evidently: {change:g} sigma")
        found_shares = [
            _shares(plan, seed + EPISODES_FROM + i, 24, change) or [] for i in range(episodes)
        ]
        for row, rule in zip(rows, EVIDENTLY.values(), strict=True):
            firsts = [
                next((h + 1 for h, share in enumerate(one) if share >= rule), None)
                for one in found_shares
            ]
            row[_key(change)] = delay(firsts, after="24 h")
    return rows


def _shares(plan: Plan, seed: int, hours: int, change: float = 0.0) -> list[float] | None:
    stream = Stream(seed, plan.per_hour, plan.phi)
    windows = stream.rows(hours, change).reshape(hours, plan.per_hour, -1)
    arrays = {"x": stream.reference(plan.reference), "y": windows}
    found = environment.ask("streams", "reports", {"task": "shares"}, arrays)
    return None if found is None else list(found)


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
    pool: ProcessPoolExecutor, jobs: Sequence[tuple[Plan, int, dict[str, Any]]], name: str, say: Say
) -> list[dict[str, Any]]:
    futures = [pool.submit(watch, plan, seed, **options) for plan, seed, options in jobs]
    for number, done in enumerate(as_completed(futures), 1):
        found = done.result()
        say(
            f"{name} {number} of {len(futures)}: {found['alarms']} alarms in {found['tests']:,} "
            f"tests, the first after {found['first']} hours"
        )
    return [future.result() for future in futures]
