"""What a tuner itself costs: CPU milliseconds of each of 100 trials over 20 parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.records import Params
from models.space import Categorical, Float, Int, Parameter, Space
from tests.benchmarks.tuner.problems import Problem, run_one
from tests.benchmarks.tuner.tuners import tuner


class Bowl:
    """A noisy quadratic around a point of the unit cube."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.centre = np.random.default_rng(0).uniform(0.2, 0.8, len(space))

    def true(self, params: Params) -> float:
        return float(((self.space.encode(params) - self.centre) ** 2).sum())

    def noisy(self, params: Params, rng: np.random.Generator) -> float:
        return self.true(params) + float(rng.normal(scale=0.01))


def twenty() -> Problem:
    numbers: list[Parameter] = [Float(f"x{k}", 0.0, 1.0) for k in range(10)]
    logs: list[Parameter] = [Float(f"l{k}", 1e-5, 1.0, log=True) for k in range(4)]
    whole: list[Parameter] = [Int(f"n{k}", 1, 100) for k in range(3)]
    choices: list[Parameter] = [Categorical(f"c{k}", ("a", "b", "c")) for k in range(3)]
    space = Space((*numbers, *logs, *whole, *choices))
    return Problem("bowl of 20 parameters", space, 0.0, 1.0, Bowl(space))


def measure(words: Sequence[str], *, seeds: int, trials: int) -> list[dict[str, Any]]:
    """One row per tuner, all in this run: CPU ms of a trial, and how often it took over 50 ms."""
    problem, rows = twenty(), []
    for word in words:
        make = tuner(word)
        warm_up = make(problem.space, 0, 15)  # imports and first calls are not the tuner's cost
        run_one(problem, warm_up, 15, 0)
        getattr(warm_up, "close", lambda: None)()
        spent = []
        for seed in range(seeds):
            searcher = make(problem.space, seed, trials)
            spent.append(run_one(problem, searcher, trials, seed, champion_at=(trials,)).cpu_ms)
            getattr(searcher, "close", lambda: None)()
        every = np.concatenate(spent)
        rows.append(
            {
                "tuner": word,
                "parameters": len(problem.space),
                "trials": trials,
                "mean_ms": float(every.mean()),
                "p50_ms": float(np.quantile(every, 0.5)),
                "p95_ms": float(np.quantile(every, 0.95)),
                "max_ms": float(every.max()),
                "over_50_ms": float((every > 50).mean()),
            }
        )
    return rows
