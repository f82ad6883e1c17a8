"""A parameter as Optuna's samplers see it: listed values by their places, numbers as they are.

To Optuna True and 1 are one choice, so it is given places. Of an ordinal it is given whole numbers,
whose order counts. A number of very many steps is a real one, rounded: Optuna's Gaussian process
writes all steps out.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.records import Scalar
from models.space import Categorical, Float, Int, Ordinal, Parameter

_WIDE = 4_096  # values in steps, beyond which a number is rounded


def _stepless(parameter: Float | Int) -> bool:
    return parameter.size() > _WIDE


def distribution(parameter: Parameter) -> BaseDistribution:
    """What Optuna is told of a parameter."""
    if isinstance(parameter, Categorical):
        return CategoricalDistribution(tuple(range(len(parameter.choices))))
    if isinstance(parameter, Ordinal):
        return IntDistribution(0, len(parameter.values) - 1)
    low, high, log, step = parameter.low, parameter.high, parameter.log, parameter.step
    if isinstance(parameter, Int) and not _stepless(parameter):
        return IntDistribution(int(low), int(high), log, int(step or 1))
    if not _stepless(parameter):
        return FloatDistribution(low, high, log, step)
    half = 0.5 * (step or (1 if isinstance(parameter, Int) else 0))
    return FloatDistribution(low - half, high + half, log)


def suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    """Optuna's value for a parameter in a trial; `inner` reads it."""
    name, d = parameter.name, distribution(parameter)
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(name, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, FloatDistribution)
    return trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)


def inner(parameter: Parameter, value: Any) -> Scalar:
    """A value of Optuna's as the space's."""
    if isinstance(parameter, Categorical | Ordinal):
        return parameter.option(int(value))
    nearest = parameter.repaired(value)
    assert nearest is not None
    return nearest


def outer(parameter: Parameter, value: Scalar) -> Any:
    """A value of the space as Optuna's: `inner(outer(value))` is the value."""
    if isinstance(parameter, Categorical | Ordinal):
        return parameter.place(value)
    if isinstance(parameter, Int) and not _stepless(parameter):
        return int(value)
    return float(value)
