"""Tuners on replayed problems: normalised regret, rank, paired tests, memory, CPU time.

Problems need the `bench` extra (see tests/benchmarks/tuner/problems.py, also for what regret is).
Every run is kept as rows of a CSV file, --results, so that what is cut off goes on; results of
peers that come with the source (tests/benchmarks/tuner/results) and those recorded beside the
problems are read as well and not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write
from tests.benchmarks.tuner import overhead as costs
from tests.benchmarks.tuner import results, tables, warm
from tests.benchmarks.tuner.problems import MARKS, Problem, names, problem
from tests.benchmarks.tuner.tuners import PEERS, WORDS, settings_of, tuner

RESULTS = Path("runs/bench/tuner.csv")


def _words(_: Any, __: Any, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _shared(problems: str, peers: str, trials: int) -> Callable[[Any], Any]:
    """The options that every part takes, with its own defaults."""
    options = (
        click.option("--problems", default=problems, show_default=True, callback=_words,
                     help="test, dev, fresh, or parts of names; by comma."),
        click.option("--peers", default=peers, show_default=True, callback=_words,
                     help=f"By comma, of {', '.join(WORDS)}, controller:steps=0."),
        click.option("--seeds", default=10, show_default=True, type=click.IntRange(1)),
        click.option("--trials", default=trials, show_default=True, type=click.IntRange(1)),
        click.option("--results", "store", default=RESULTS, show_default=True,
                     type=click.Path(path_type=Path, dir_okay=False)),
        click.option("--by", default="best", show_default=True,
                     type=click.Choice(["best", "champion"]),
                     help="The incumbent: best noisy loss, or what the tuner itself would choose."),
        click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False)),
        click.option("--png", type=click.Path(path_type=Path, dir_okay=False)),
    )  # fmt: skip

    def wrap(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return wrap


@click.group(invoke_without_command=True, short_help="Compare tuners on replayed problems.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Compare tuners on replayed problems: regret, rank, paired tests, memory, CPU time."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(cold)


@command.command(cls=Command)
@_shared("test", "controller,random,tpe", 100)
def cold(problems: tuple[str, ...], peers: tuple[str, ...], **options: Any) -> None:
    """Searches that know nothing, against peers."""
    _run([problem(name) for name in names(problems)], peers, **options)


@command.command(cls=Command)
@_shared("dev", "controller,controller:explore=0,random", 50)
def ablation(problems: tuple[str, ...], peers: tuple[str, ...], **options: Any) -> None:
    """The controller with parts of it off, named by --peers controller:SETTING=VALUE."""
    _run([problem(name) for name in names(problems)], peers, **options)


@command.command(cls=Command)
@_shared("", "controller,random,tpe", 100)
def pipelines(problems: tuple[str, ...], peers: tuple[str, ...], **options: Any) -> None:
    """Replayed pipelines: families x preprocessing x parameters, a conditional space."""
    from tests.benchmarks.tuner import pipelines as room

    every = [room.problem(name) for name in room.NAMES]
    chosen = [p for p in every if not problems or any(word in p.name for word in problems)]
    _run(chosen, peers, **options)


@command.command("warm", cls=Command)
@click.option("--after", default=",".join(warm.KINDS), show_default=True, callback=_words)
@click.option(
    "--earlier",
    default=warm.TRIALS,
    show_default=True,
    type=click.IntRange(1),
    help="Trials of each earlier retrain.",
)
@_shared("test", "controller", 25)
def remembering(
    problems: tuple[str, ...],
    peers: tuple[str, ...],
    after: tuple[str, ...],
    earlier: int,
    **options: Any,
) -> None:
    """The controller after four earlier retrains, beside itself cold and beside cold peers."""
    unknown = sorted(set(after) - set(warm.KINDS))
    if unknown:
        raise click.BadParameter(
            f"an earlier retrain is {', '.join(warm.KINDS)}, got {unknown}", param_hint="--after"
        )
    chosen = [problem(name) for name in names(problems)]
    for word in (w for w in peers if w.startswith("controller")):
        for kind in after:
            results.fill_warm(
                options["store"], kind, word, chosen, settings=settings_of(word),
                seeds=options["seeds"], trials=options["trials"], earlier=earlier, say=_say,
            )  # fmt: skip
    modes = ("cold", *(warm.mode(kind, earlier) for kind in after))
    _run(chosen, peers, modes=modes, **options)


@command.command(cls=Command)
@click.option(
    "--data",
    default="recorded",
    show_default=True,
    callback=_words,
    help="recorded and lcbench are replayed; else tables, by comma, that are fitted: flights, "
    "elec2, noaa, adult, or another of the data folder.",
)
@click.option("--families", default="hgb,logistic,forest,mlp", show_default=True, callback=_words)
@click.option(
    "--rows",
    default=10_000,
    show_default=True,
    type=click.IntRange(500),
    help="A trial fits on at most so many.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--trials", default=24, show_default=True, type=click.IntRange(2))
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    help="Of CPU, the equal budget; default: what the trials take without stopping.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def fidelity(
    data: tuple[str, ...],
    families: tuple[str, ...],
    rows: int,
    seeds: int,
    trials: int,
    seconds: float | None,
    json_path: Path | None,
) -> None:
    """Trials that cannot win stopped early, against every trial to its end; in pairs."""
    from tests.benchmarks.tuner import fidelity as room

    found = []
    for name in data:
        if name == "lcbench":
            listed = [n for n in names(("dev", "test")) if n.startswith("lcbench-")]
            tasks = [room.lcbench(n.removeprefix("lcbench-")) for n in listed]
        elif name == "recorded":
            tasks = [room.recorded(table) for table in room.TABLES]
        else:
            tasks = [room.real(name, families, rows)]
        found += room.pairs(tasks, seeds=seeds, trials=trials, seconds=seconds, say=_say)
    table = room.table(found, trials=trials, seconds=seconds)
    show(table)
    if json_path is not None:
        write(table, json_path)


@command.command(cls=Command)
@_shared("", "controller,tpe,gp", 100)
def overhead(
    problems: tuple[str, ...],
    peers: tuple[str, ...],
    seeds: int,
    trials: int,
    json_path: Path | None,
    **_: Any,
) -> None:
    """CPU of a trial over 20 parameters, every tuner in this one run."""
    rows = costs.measure(peers, seeds=min(seeds, 3), trials=trials)
    show(rows)
    if json_path is not None:
        write(rows, json_path)


def _run(
    chosen: Sequence[Problem],
    words: Sequence[str],
    *,
    seeds: int,
    trials: int,
    store: Path,
    by: str,
    json_path: Path | None,
    png: Path | None,
    modes: Sequence[str] = ("cold",),
) -> None:
    for word in words:
        results.fill(store, "cold", word, tuner(word), chosen, seeds=seeds, trials=trials, say=_say)
    shown = {*words, *(PEERS if all(w in WORDS for w in words) else ())}
    rows = [
        row
        for row in results.known(store)
        if row.mode in modes and row.tuner in shown and row.seed < seeds and row.trial <= trials
    ]
    listed = [p.name for p in chosen]
    marks = sorted({*(m for m in MARKS if m <= trials), trials})
    found = tables.table(rows, listed, marks=marks, by=by)
    show(found)
    if json_path is not None:
        write(found, json_path)
    if png is not None:
        from tests.benchmarks.tuner.pictures import draw

        draw(rows, listed, png, by=by)


def _say(line: str) -> None:
    click.echo(line, err=True)
