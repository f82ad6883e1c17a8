"""SMAC3 with its facade for hyperparameters; run by the interpreter of `tuner_smac`.

Lindauer and others, *SMAC3: A versatile Bayesian optimization package for hyperparameter
optimization*, JMLR 2022. Every configuration is tried once, as by every tuner here, so the scenario
is deterministic; the share of the initial design is the facade's own.
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

warnings.filterwarnings("ignore")

from ConfigSpace import (  # noqa: E402
    Categorical,
    ConfigurationSpace,
    Float,
    InCondition,
    Integer,
    OrdinalHyperparameter,
)
from smac import HyperparameterOptimizationFacade, Scenario  # noqa: E402
from smac.runhistory.dataclasses import TrialValue  # noqa: E402
from tuner_line import serve, values, wanted  # noqa: E402


def space_of(rows: list[dict[str, Any]], seed: int) -> ConfigurationSpace:
    """Choices go by their index, since a ConfigSpace changes the type of some values."""
    space = ConfigurationSpace(seed=seed)
    known: dict[str, Any] = {}
    for row in rows:
        name, choices = row["name"], values(row)
        if row["kind"] == "ordinal":
            made: Any = OrdinalHyperparameter(name, list(range(len(choices))))
        elif choices:
            made = Categorical(name, list(range(len(choices))))
        elif row["kind"] == "int":
            made = Integer(name, (row["low"], row["high"]), log=row["log"])
        else:
            made = Float(name, (row["low"], row["high"]), log=row["log"])
        space.add(made)
        known[name] = (made, choices)
        if row.get("when"):
            parent, choices = known[row["when"][0]]
            on = [choices.index(v) if choices else v for v in wanted(row["when"])]
            space.add(InCondition(made, parent, on))
    return space


def make(rows: list[dict[str, Any]], seed: int, trials: int):
    scenario = Scenario(
        space_of(rows, seed),
        deterministic=True,
        n_trials=trials,
        seed=seed,
        output_directory=tempfile.mkdtemp(prefix="everfit-smac-"),
    )
    smac = HyperparameterOptimizationFacade(
        scenario, lambda config, seed=0: 0.0, logging_level=False, overwrite=True
    )
    choices = {row["name"]: values(row) for row in rows}
    asked: list[Any] = []

    def ask() -> dict[str, Any]:
        asked.append(smac.ask())
        found = dict(asked[-1].config)
        return {k: choices[k][int(v)] if choices[k] else plain(v) for k, v in found.items()}

    def tell(loss: float) -> None:
        smac.tell(asked[-1], TrialValue(cost=loss))

    return ask, tell


def plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    serve(make)
