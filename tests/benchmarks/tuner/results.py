"""Results as rows of a CSV file, so that a long run goes on where it was cut off.

One row per (mode, tuner, problem, seed, trial): regret after that trial by the best noisy loss, by
champion() where it was asked, and the tuner's CPU milliseconds from the first trial to this one.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from models.search.controller import Controller
from models.search.proposing import Settings
from tests.benchmarks.tuner import warm
from tests.benchmarks.tuner.problems import MARKS, Problem, Run, folder, run_one
from tests.benchmarks.tuner.tuners import Make, released

SHIPPED = Path(__file__).with_name("results")  # peers' figures, thinned
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
RECORDED = {"cmaes": "cma-es", "nsga2": "nsga-ii", "gp_flat": "gp", "smac_hpo": "smac"}


@dataclass(frozen=True)
class Row:
    """champion is NaN where it was not asked; cpu_ms is the sum so far."""

    mode: str
    tuner: str
    version: str
    problem: str
    seed: int
    trial: int
    regret: float
    champion: float
    cpu_ms: float


NAMES = tuple(f.name for f in fields(Row))


def read(path: Path) -> list[Row]:
    """The rows of a file; none when there is no file. A last line cut short is left out."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(row) for row in csv.DictReader(file) if row["cpu_ms"] is not None]


def _row(row: dict[str, str]) -> Row:
    return Row(
        row["mode"],
        row["tuner"],
        row["version"],
        row["problem"],
        int(row["seed"]),
        int(row["trial"]),
        float(row["regret"]),
        float(row["champion"] or "nan"),
        float(row["cpu_ms"]),
    )


def append(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    started = path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        write = csv.writer(file, lineterminator="\n")
        if not started:
            write.writerow(NAMES)
        for r in rows:
            champion = "" if np.isnan(r.champion) else f"{r.champion:.6g}"
            numbers = (r.seed, r.trial, f"{r.regret:.6g}", champion, f"{r.cpu_ms:.5g}")
            write.writerow((r.mode, r.tuner, r.version, r.problem, *numbers))


def thin(rows: Iterable[Row]) -> list[Row]:
    """The rows that a table or a picture needs, for a file that is kept with the source."""
    return [row for row in rows if row.trial in STEPS]


def known(path: Path) -> list[Row]:
    """All there is: recorded beside the problems, kept with the source, and in `path`.

    A tuner's recorded figures of a problem go where it was run here: they are of another release.
    """
    kept = [row for each in sorted(SHIPPED.glob("*.csv")) for row in read(each)]
    own = [*kept, *read(path)]
    here = {(row.mode, row.tuner, row.problem) for row in own}
    return [*(r for r in recorded() if (r.mode, r.tuner, r.problem) not in here), *own]


def missing(
    path: Path, mode: str, tuner: str, problems: Sequence[Problem], *, seeds: int, trials: int
) -> Iterator[tuple[int, Problem]]:
    """(seed, problem) not known to so many trials; the controller's only of today's source.

    Seed by seed, so that an unfinished run has every problem.
    """
    release = released(tuner)
    there = {
        (row.seed, row.problem)
        for row in known(path)
        if (row.mode, row.tuner) == (mode, tuner)
        and row.trial >= trials
        and (row.version == release or not tuner.startswith("controller"))
    }
    for seed in range(seeds):
        yield from ((seed, each) for each in problems if (seed, each.name) not in there)


def fill(
    path: Path,
    mode: str,
    word: str,
    make: Make,
    problems: Sequence[Problem],
    *,
    seeds: int,
    trials: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run what is missing of one tuner and append it to `path`."""
    for seed, problem in missing(path, mode, word, problems, seeds=seeds, trials=trials):
        searcher = make(problem.space, seed, trials)
        try:
            run = run_one(problem, searcher, trials, seed)
        finally:
            getattr(searcher, "close", lambda: None)()
        append(path, rows_of(run, mode, word, problem.name, seed))
        last, spent = run.regrets[-1], run.cpu_ms.mean()
        say(f"{mode} {word} {problem.name} seed {seed}: {last:.3f}, {spent:.0f} ms a trial")


def fill_warm(
    path: Path,
    kind: str,
    word: str,
    problems: Sequence[Problem],
    *,
    settings: Settings,
    seeds: int,
    trials: int,
    earlier: int = warm.TRIALS,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """The same for the controller after four earlier retrains of `kind`, of `earlier` trials each;
    the mode says both (`warm.mode`)."""
    mode = warm.mode(kind, earlier)
    for seed, problem in missing(path, mode, word, problems, seeds=seeds, trials=trials):
        memory = warm.memory(problem, kind, seed, settings, trials=earlier)
        searcher = Controller(problem.space, seed=seed, memory=memory, settings=settings)
        run = run_one(problem, searcher, trials, seed)
        append(path, rows_of(run, mode, word, problem.name, seed))
        say(f"after {mode} {word} {problem.name} seed {seed}: {run.regrets[-1]:.3f}")


def rows_of(run: Run, mode: str, word: str, problem: str, seed: int) -> list[Row]:
    release, spent = released(word), np.cumsum(run.cpu_ms)
    return [
        Row(
            mode, word, release, problem, seed, t + 1, float(run.regrets[t]),
            float(run.champions[t]), float(spent[t]),
        )
        for t in range(len(run.regrets))
    ]  # fmt: skip


def recorded() -> list[Row]:
    """The figures that lie beside the problems, as cold runs."""
    path = folder() / "peers.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                "cold",
                RECORDED.get(row["sampler"], row["sampler"]),
                "recorded",
                row["problem"],
                int(row["seed"]),
                int(row["t"]),
                float(row["regret"]),
                float("nan"),
                float(row["ms_per_trial"]) * int(row["t"]),
            )
            for row in csv.DictReader(file)
            if int(row["t"]) in MARKS
        ]
