"""How much of a front a number of trials finds, beside Optuna's samplers for several objectives.

Trials that were measured on flights teach a forest for each family and figure, which then answers
for any configuration: many searches of many trials cost seconds. (Eggensperger, Hutter, Hoos,
Leyton-Brown, *Efficient benchmarking of hyperparameter optimizers via surrogates*, AAAI 2015.)
"""

from __future__ import annotations

import gzip
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from models import families
from models.performance.seen import ROWS, SERVED, is_ratio
from models.records import Params, Scalar, Trial
from models.search.base import trial_from_json
from models.search.controller import Controller
from models.search.frontier import Frontier
from models.search.memory import repaired
from models.search.objectives import METRICS, Limit, Objective
from models.search.pareto import hypervolume, non_dominated, points
from models.space import Space

MEASURED = Path(__file__).with_name("trials.jsonl.gz")
FAMILIES = ("hgb", "forest", "mlp")  # a line is the smallest, and as good: no front
GOALS = {
    2: Objective("log_loss", limits=(Limit("size_mb", 0.1),)),
    3: Objective("log_loss", limits=(Limit("size_mb", 0.1), Limit("fit_cpu_s", 1.0))),
}
CORNER = {"log_loss": 0.56, "size_mb": 5.0, "fit_cpu_s": 20.0}  # what is worse counts nothing
_TREES = 100


@dataclass(frozen=True, eq=False)
class World:
    """Answers for any configuration of `space`."""

    space: Space
    models: dict[tuple[str, str], Any]

    def figures(self, params: Params) -> dict[str, float]:
        unit = self.space.encode(params)[None, :]
        found = {}
        for (family, name), model in self.models.items():
            if family == params["family"]:
                level = float(model.predict(unit)[0])
                found[name] = float(np.exp(level)) if is_ratio(name) else level
        return found

    def trial(self, number: int, params: Params, goal: Objective, first: Any) -> Trial:
        metrics = {**self.figures(params), ROWS: 5_000.0, SERVED: 1.0}
        loss = goal.told(metrics, first or metrics)
        return Trial(number, dict(params), "complete", loss, 1.0, 0, metrics)


@cache
def world() -> World:
    from sklearn.ensemble import RandomForestRegressor

    space = families.space(FAMILIES)
    with gzip.open(MEASURED, "rt", encoding="utf-8") as file:
        trials = [trial_from_json(json.loads(line)) for line in file]
    known = [(t, repaired(t.params, space)) for t in trials]
    models = {}
    for family in FAMILIES:
        own = [(t, p) for t, p in known if p is not None and p["family"] == family]
        X = space.encode_many([p for _, p in own])
        for name in CORNER:
            y = np.array([t.metrics[name] for t, _ in own])
            model = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
            models[family, name] = model.fit(X, np.log(y) if is_ratio(name) else y)
    return World(space, models)


Propose = Callable[[Sequence[Trial]], dict[str, Scalar]]


def everfit(goal: Objective, seed: int) -> Propose:
    """As a search with a pick rule goes: in turn what the rule wants and what widens the front."""
    here = world()
    controller = Controller(here.space, seed=seed)
    frontier = Frontier(here.space, goal, seed=seed)
    defaults = [repaired(p, here.space) for p in families.defaults(FAMILIES)]

    def propose(trials: Sequence[Trial]) -> dict[str, Scalar]:
        if trials:
            controller.tell(trials[-1])
        if len(trials) < len(defaults):
            return dict(defaults[len(trials)] or {})
        found = frontier.propose(trials) if len(trials) % 2 else None
        return found or controller.ask()

    return propose


def alone(goal: Objective, seed: int) -> Propose:
    """The controller on the rule alone."""
    here = world()
    controller = Controller(here.space, seed=seed)
    defaults = [repaired(p, here.space) for p in families.defaults(FAMILIES)]

    def propose(trials: Sequence[Trial]) -> dict[str, Scalar]:
        if trials:
            controller.tell(trials[-1])
        return (
            dict(defaults[len(trials)] or {}) if len(trials) < len(defaults) else controller.ask()
        )

    return propose


def random(goal: Objective, seed: int) -> Propose:
    space, rng = world().space, np.random.default_rng(seed)
    return lambda _: space.decode(rng.random(len(space)))


def optuna(sampler: str) -> Callable[[Objective, int], Propose]:
    """One of Optuna's samplers on all objectives, after each family's default."""

    def made(goal: Objective, seed: int) -> Propose:
        import optuna as library

        from models.search.optuna_values import distribution, inner, outer, suggest

        library.logging.set_verbosity(library.logging.ERROR)
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        space = world().space
        samplers = {
            "TPE": lambda: library.samplers.TPESampler(seed=seed),
            "NSGA-II": lambda: library.samplers.NSGAIISampler(seed=seed, population_size=16),
            "GP": lambda: library.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        }
        study = library.create_study(
            directions=["minimize"] * len(goal.named), sampler=samplers[sampler]()
        )
        defaults = [repaired(p, space) for p in families.defaults(FAMILIES)]
        under_way: list[Any] = []

        def propose(trials: Sequence[Trial]) -> dict[str, Scalar]:
            if trials:
                losses = _losses(trials[-1:], goal)[0].tolist()
                if under_way:
                    study.tell(under_way.pop(), losses)
                else:
                    own = trials[-1].params
                    given = {p.name: own.get(p.name, p.from_unit(0.5)) for p in space.parameters}
                    study.add_trial(
                        library.trial.create_trial(
                            params={n: outer(space[n], v) for n, v in given.items()},
                            distributions={n: distribution(space[n]) for n in given},
                            values=losses,
                        )
                    )
            if len(trials) < len(defaults):
                return dict(defaults[len(trials)] or {})
            trial = study.ask()
            under_way.append(trial)
            given = {p.name: inner(p, suggest(trial, p)) for p in space.parameters}
            found: dict[str, Scalar] = {}
            for p in space.parameters:
                if space.is_active(p, found):
                    found[p.name] = given[p.name]
            return found

        return propose

    return made


ARMS: dict[str, Callable[[Objective, int], Propose]] = {
    "everfit, a rule and the front": everfit,
    "everfit, the rule alone": alone,
    "Optuna TPE": optuna("TPE"),
    "Optuna GP": optuna("GP"),
    "Optuna NSGA-II": optuna("NSGA-II"),
    "random": random,
}


def run(
    marks: Sequence[int], seeds: int, say: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """One line for each number of objectives and arm: the share of the best known volume at each
    mark, the loss of what the rule picks at the last, and CPU a trial."""
    rows = []
    for count, goal in GOALS.items():
        found = {name: _searches(arm, goal, max(marks), seeds) for name, arm in ARMS.items()}
        say(f"{count} objectives searched")
        every = np.vstack([_losses(t, goal) for runs, _ in found.values() for t in runs])
        corner = _corner(goal)
        best = hypervolume(every[non_dominated(every)], corner)
        for name, (runs, cpu) in found.items():
            row: dict[str, Any] = {"objectives": count, "search by": name}
            for mark in marks:
                shares = [hypervolume(_losses(t[:mark], goal), corner) / best for t in runs]
                row[f"volume at {mark}"] = _told(shares)
            picked = [min(goal.told(t.metrics, run[0].metrics) for t in run) for run in runs]
            row["picked loss"] = _told(picked)
            row["CPU ms"] = round(1_000 * cpu / (seeds * max(marks)), 1)
            rows.append(row)
    return rows


def _searches(
    arm: Callable[[Objective, int], Propose], goal: Objective, trials: int, seeds: int
) -> tuple[list[list[Trial]], float]:
    """The trials of a search for each seed, and the CPU seconds of proposing them."""
    here, runs, cpu = world(), [], 0.0
    for seed in range(seeds):
        propose, done = arm(goal, seed), []
        for number in range(trials):
            began = time.process_time()
            params = propose(done)
            cpu += time.process_time() - began
            done.append(here.trial(number, params, goal, done[0].metrics if done else None))
        runs.append(done)
    return runs, cpu


def _losses(trials: Sequence[Trial], goal: Objective) -> np.ndarray:
    """(n, m), smaller is better, logarithms of ratios."""
    losses = points(trials, goal.named)
    for j, name in enumerate(goal.named):
        if METRICS[name].ratio:
            losses[:, j] = np.log(losses[:, j])
    return losses


def _corner(goal: Objective) -> np.ndarray:
    return np.array([np.log(CORNER[n]) if METRICS[n].ratio else CORNER[n] for n in goal.named])


def _told(values: Sequence[float]) -> str:
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ({half:.3f})"
