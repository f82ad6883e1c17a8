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

from tests.benchmarks.tuner.problems import MARKS, Problem, Run, folder, run_one
from tests.benchmarks.tuner.tuners import Make, released

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


def missing(
    path: Path, mode: str, tuner: str, problem: str, seeds: int, trials: int
) -> Iterator[int]:
    """Seeds that `path` has not yet, to so many trials and in the release installed now."""
    release = released(tuner)
    there = {
        r.seed
        for r in read(path)
        if (r.mode, r.tuner, r.problem, r.version) == (mode, tuner, problem, release)
        and r.trial >= trials
    }
    return iter([seed for seed in range(seeds) if seed not in there])


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
    """Run what is missing, seed by seed, so that an unfinished run has every problem."""
    for seed in range(seeds):
        for problem in problems:
            if seed not in missing(path, mode, word, problem.name, seed + 1, trials):
                continue
            searcher = make(problem.space, seed, trials)
            try:
                run = run_one(problem, searcher, trials, seed)
            finally:
                getattr(searcher, "close", lambda: None)()
            append(path, rows_of(run, mode, word, problem.name, seed))
            last, spent = run.regrets[-1], run.cpu_ms.mean()
            say(f"{mode} {word} {problem.name} seed {seed}: {last:.3f}, {spent:.0f} ms a trial")


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
