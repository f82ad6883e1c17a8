"""The controller in Optuna's studies: as good, repeatable, restartable, whatever the space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from models.errors import SpaceFault
from models.search import ControllerSampler
from models.space import Categorical, Float, Int, Space, join

optuna.logging.set_verbosity(optuna.logging.ERROR)


def pipeline(trial: optuna.Trial) -> float:
    """Conditional; smallest, 0.1, with boost, rate 0.1."""
    if trial.suggest_categorical("family", ["linear", "boost", None]) == "boost":
        rate = trial.suggest_float("boost.rate", 1e-4, 1.0, log=True)
        leaves = trial.suggest_int("boost.leaves", 2, 64)
        return 0.1 + 0.1 * (np.log10(rate) + 1) ** 2 + 1e-3 * abs(leaves - 20)
    return 0.4 + 0.1 * trial.suggest_float("c", 0, 1, step=0.25)


def study(sampler: optuna.samplers.BaseSampler, **options: Any) -> optuna.Study:
    return optuna.create_study(sampler=sampler, **options)


def test_beats_random_on_a_conditional_objective() -> None:
    ours, random = [], []
    for seed in range(6):
        for sampler, out in (
            (ControllerSampler(seed=seed), ours),
            (optuna.samplers.RandomSampler(seed=seed), random),
        ):
            one = study(sampler)
            one.optimize(pipeline, n_trials=30)
            out.append(one.best_value)
    assert np.median(ours) < np.median(random)
    assert np.mean(ours) < 0.16


def test_a_restart_and_a_storage_change_nothing(tmp_path: Path) -> None:
    whole = study(ControllerSampler(seed=3))
    whole.optimize(pipeline, n_trials=14)
    where = f"sqlite:///{tmp_path}/study.db"
    study(ControllerSampler(seed=3), storage=where, study_name="s").optimize(pipeline, n_trials=9)
    again = optuna.load_study(study_name="s", storage=where, sampler=ControllerSampler(seed=3))
    again.optimize(pipeline, n_trials=5)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]


def test_maximising_the_negative_is_minimising() -> None:
    down, up = (study(ControllerSampler(seed=1), direction=d) for d in ("minimize", "maximize"))
    down.optimize(pipeline, n_trials=15)
    up.optimize(lambda t: -pipeline(t), n_trials=15)
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def test_what_fails_or_is_pruned_is_avoided() -> None:
    def half(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if x > 0.5:
            raise optuna.TrialPruned if x > 0.75 else ValueError("out of memory")
        return 0.5 - x

    one = study(ControllerSampler(seed=0))
    one.optimize(half, n_trials=30, catch=(ValueError,))
    late = [t.params["x"] > 0.5 for t in one.trials[12:]]
    assert np.mean(late) < 0.4
    assert one.best_value < 0.05


def test_side_by_side_trials_differ() -> None:
    one = study(ControllerSampler(seed=0))
    one.optimize(pipeline, n_trials=12)
    asked = [one.ask() for _ in range(3)]
    suggested = [(pipeline(t), t.params)[1] for t in asked]
    assert len({str(p) for p in suggested}) == 3


def test_a_declared_space_is_searched_from_the_first_trial() -> None:
    space = join(
        {
            "a": Space((Float("x", 0.0, 1.0),)),
            "b": Space((Int("n", 1, 9), Categorical("k", ("p", "q")))),
        }
    )

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("family", ["a", "b"]) == "a":
            return abs(trial.suggest_float("a.x", 0, 1) - 0.3)
        trial.suggest_categorical("b.k", ["p", "q"])
        return 1 + trial.suggest_int("b.n", 1, 9) / 9

    one = study(ControllerSampler(seed=0, space=space))
    one.optimize(objective, n_trials=25)
    assert one.best_value < 0.05


def test_two_objectives_are_refused_with_the_remedy() -> None:
    one = study(ControllerSampler(), directions=["minimize", "minimize"])
    with pytest.raises(SpaceFault, match="NSGAIISampler"):
        one.optimize(lambda t: (t.suggest_float("x", 0, 1), 0.0), n_trials=1)


def test_a_range_that_changed_and_several_threads() -> None:
    one = study(ControllerSampler(seed=0))
    one.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=10)
    one.optimize(lambda t: t.suggest_float("x", 0.5, 2) + t.suggest_float("new", 0, 1), n_trials=6)
    one.optimize(pipeline, n_trials=6, n_jobs=2)
    assert all(t.state == optuna.trial.TrialState.COMPLETE for t in one.trials)
