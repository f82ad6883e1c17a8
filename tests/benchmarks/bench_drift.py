"""Drift tests beside the peers': speed, level, power, and years of hourly checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write

Rows = list[dict[str, Any]]

json_option = click.option(
    "--json",
    "json_path",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table there as well.",
)
peers_option = click.option(
    "--peers/--no-peers", default=True, help="Run the installed peers too (everfit bench peers)."
)
only_option = click.option(
    "--only", metavar="TEXT", multiple=True, help="Tests with TEXT in their name, not all."
)
seed_option = click.option("--seed", default=0)
permutations_option = click.option("--permutations", type=click.IntRange(19), default=999)


@click.group(context_settings={"show_default": True})
def command() -> None:
    """Drift tests beside alibi-detect, frouros, Evidently and river.

    Install those with `everfit bench peers`; without them their lines say so.
    """


@command.command(cls=Command)
@click.option("--threads", type=click.IntRange(1), default=1)
@click.option("--repeats", type=click.IntRange(1), default=3, help="Best of so many, small sizes.")
@click.option("--up-to", type=click.IntRange(500), default=10_000, help="Largest rows a side.")
@click.option("--large/--no-large", default=True, help="A million rows, by the linear-time route.")
@peers_option
@only_option
@json_option
def speed(
    threads: int,
    repeats: int,
    up_to: int,
    large: bool,
    peers: bool,
    only: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Seconds, memory and share of the matrix product's limit."""
    from tests.benchmarks.drift import speed as bench

    rows = bench.run(
        sizes=[size for size in bench.SIZES if size[0] <= up_to],
        large=bench.LARGE if large else (),
        tests=_tests(bench.TESTS, peers, only),
        threads=threads,
        repeats=repeats,
        say=_say,
    )
    _end(rows, json_path)


@command.command(cls=Command)
@click.option("--repetitions", type=click.IntRange(10), default=2_000)
@click.option("--peer-repetitions", type=click.IntRange(10), help="Fewer, for the slow ones.")
@click.option("--rows", type=click.IntRange(20), default=100, help="Rows a side.")
@permutations_option
@seed_option
@peers_option
@only_option
@json_option
def level(peers: bool, only: tuple[str, ...], json_path: Path | None, **options: Any) -> None:
    """Rejections under no drift at 0.05, 0.01 and 0.001."""
    from tests.benchmarks.drift import level as bench

    _end(bench.run(tests=_tests(bench.TESTS, peers, only), say=_say, **options), json_path)


@command.command(cls=Command)
@click.option("--repetitions", type=click.IntRange(10), default=500)
@click.option("--peer-repetitions", type=click.IntRange(10), help="Fewer, for the slow ones.")
@click.option("--rows", type=click.IntRange(20), default=200, help="Rows a side.")
@click.option("--permutations", type=click.IntRange(19), default=299)
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05)
@seed_option
@peers_option
@only_option
@json_option
def power(peers: bool, only: tuple[str, ...], json_path: Path | None, **options: Any) -> None:
    """Rejections of faint changes of means, correlations, scale, tails, gaps and categories."""
    from tests.benchmarks.drift import power as bench

    _end(bench.run(tests=_tests(bench.TESTS, peers, only), say=_say, **options), json_path)


@command.command(cls=Command)
@click.option("--years", type=click.IntRange(1), default=4, help="200 for the figures.")
@click.option("--episodes", type=click.IntRange(1), default=20, help="Streams with a real change.")
@click.option("--peer-years", type=click.IntRange(1), default=1)
@click.option("--peer-episodes", type=click.IntRange(1), default=5)
@click.option("--evidently-checks", type=click.IntRange(10), default=100)
@click.option("--hours", type=click.IntRange(1), default=8_760, help="Checks in a year.")
@click.option("--per-hour", type=click.IntRange(20), default=100, help="Rows.")
@click.option("--reference", type=click.IntRange(50), default=500, help="Rows.")
@click.option("--phi", type=click.FloatRange(0, 0.95), default=0.5, help="Of autocorrelated rows.")
@click.option("--block", type=click.IntRange(2), default=10, help="Rows permuted together there.")
@click.option(
    "--rows", "kind", type=click.Choice(["both", "independent", "autocorrelated"]), default="both"
)
@click.option("--probability", type=float, default=0.01, help="Of any false alarm in a year.")
@click.option("--processes", type=click.IntRange(1), default=2)
@click.option(
    "--results",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep every finished year there, and go on from those that are.",
)
@click.option("--tabulate", is_flag=True, help="Only the table of what --results has so far.")
@seed_option
@peers_option
@json_option
def year(
    hours: int,
    per_hour: int,
    reference: int,
    phi: float,
    block: int,
    kind: str,
    probability: float,
    peers: bool,
    json_path: Path | None,
    results: Path | None,
    tabulate: bool,
    **options: Any,
) -> None:
    """False alarms in stationary years of hourly checks, and the hours until a real change."""
    from dataclasses import replace

    from tests.benchmarks.drift import year as bench
    from tests.benchmarks.drift.kept import Kept
    from tests.benchmarks.drift.watcher import Plan

    if tabulate and (results is None or not results.exists()):
        raise click.BadParameter("name the file that has results", param_hint="--results")
    options |= {"peers": peers, "kept": Kept(results, ended=tabulate), "say": _say}
    plan = Plan(hours, per_hour, reference=reference, probability=probability)
    tables: dict[str, Rows] = {}
    if kind != "autocorrelated":
        tables["independent rows"] = bench.run(plan, **options)
    if kind != "independent":
        plan = replace(plan, phi=phi, block=block)
        name = f"autocorrelated rows (phi {phi:g}), blocks of {block}"
        tables[name] = bench.run(plan, **options)
    for name, rows in tables.items():
        click.echo(name)
        show(rows)
    if json_path is not None:
        write(tables, json_path)


@command.command(cls=Command)
@click.option("--repetitions", type=click.IntRange(0), default=1_000, help="Pairs; 0: no level.")
@click.option("--power", type=click.IntRange(0), default=100, help="Pairs of each change; 0: none.")
@click.option("--slow", type=click.IntRange(1), default=20, help="Pairs at most for slow tests.")
@click.option("--rows", type=click.IntRange(20), default=200, help="Texts a side.")
@click.option("--permutations", type=click.IntRange(19), default=999)
@click.option("--at", type=click.FloatRange(0, 1, min_open=True), default=0.01, help="Level there.")
@click.option("--years", type=click.IntRange(0), default=2, help="Of daily checks.")
@click.option("--episodes", type=click.IntRange(0), default=10, help="Streams with a real change.")
@click.option("--per-day", type=click.IntRange(50), default=200, help="Texts.")
@seed_option
@only_option
@json_option
def text(
    repetitions: int,
    power: int,
    slow: int,
    rows: int,
    permutations: int,
    at: float,
    years: int,
    episodes: int,
    per_day: int,
    seed: int,
    only: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Texts: level and power of the witnesses, and years of daily checks (EVERFIT_DATA)."""
    from tests.benchmarks.drift import text_years, texts

    chosen = [name for name in texts.TESTS if not only or any(part in name for part in only)]
    common: dict[str, Any] = {"tests": chosen, "slow": slow, "rows": rows, "seed": seed}
    common |= {"permutations": permutations, "say": _say}
    tables: dict[str, Rows] = {}
    if chosen and repetitions:
        tables["nothing changes"] = texts.level(repetitions=repetitions, **common)
    if chosen and power:
        tables[f"rejections at {at:g}"] = texts.power(repetitions=power, at=at, **common)
    if years or episodes:
        plan = text_years.Plan(per_day=per_day)
        tables["checks every day"] = text_years.run(
            plan, years=years, episodes=episodes, seed=seed, say=_say
        )
    for name, table in tables.items():
        click.echo(name)
        show(table)
    if json_path is not None:
        write(tables, json_path)


def _tests(names: Sequence[str], peers: bool, only: Sequence[str]) -> tuple[str, ...]:
    from tests.benchmarks.drift.methods import PEERS

    chosen = [name for name in names if not only or any(text in name for text in only)]
    if not chosen:
        raise click.BadParameter(
            f"no test has it in its name: {', '.join(names)}", param_hint="--only"
        )
    return tuple(name for name in chosen if peers or name not in PEERS)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _end(rows: Rows, json_path: Path | None) -> None:
    show(rows)
    if json_path is not None:
        write(rows, json_path)
