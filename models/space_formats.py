"""Search spaces of others, read and written: Optuna's distributions, ConfigSpace's JSON.

>>> from optuna.distributions import FloatDistribution, IntDistribution
>>> space = from_optuna({
...     "rate": FloatDistribution(1e-4, 1.0, log=True), "depth": IntDistribution(2, 10, step=2)})
>>> space["depth"]
Int(name='depth', low=2, high=10, log=False, when=None, step=2)
>>> to_optuna(space)["rate"]
FloatDistribution(high=1.0, log=True, low=0.0001, step=None)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.errors import SpaceFault
from models.parameters import shown
from models.space import Categorical, Float, Int, Ordinal, Parameter, Space
from models.space_configspace import default_of, from_configspace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["default_of", "from_configspace", "from_optuna", "to_optuna"]


def from_optuna(distributions: Mapping[str, BaseDistribution]) -> Space:
    """The space of a study's distributions, `trial.distributions` for instance.

    A number with a step stays one: low, low + step, ... up to high. Raises SpaceFault for choices
    that are no numbers, texts or booleans (None, for instance), and for what is no distribution.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    parameters: list[Parameter] = []
    for name, given in distributions.items():
        if isinstance(given, FloatDistribution):
            parameters.append(Float(name, given.low, given.high, given.log, step=given.step))
        elif isinstance(given, IntDistribution):
            parameters.append(Int(name, given.low, given.high, given.log, step=given.step))
        elif isinstance(given, CategoricalDistribution):
            parameters.append(Categorical(name, _choices(name, given.choices)))
        else:
            raise SpaceFault(
                f"{name!r}: a distribution is Optuna's Float, Int or CategoricalDistribution, got "
                f"{given!r}: use one of them"
            )
    return Space(parameters)


def _choices(name: str, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    for choice in choices:
        if choice is None:
            raise SpaceFault(
                f"{name!r}: choices are numbers, texts or booleans, got None among "
                f"{shown(choices)}: name it, 'none' for instance"
            )
    return choices


def to_optuna(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a space, for `study.ask(...)` or `create_trial(...)`.

    An ordinal of evenly spaced numbers becomes a number with a step; of any other, Optuna has the
    values and not their order. Raises SpaceFault for conditions and constraints, which
    distributions cannot express.
    """
    conditional = [p.name for p in space.parameters if p.when is not None]
    if conditional or space.constraints:
        what = shown(conditional) if conditional else shown(space.constraints)
        raise SpaceFault(
            "Optuna's distributions have neither conditions nor constraints, got "
            f"{what}: give the space to ControllerSampler(space=...), or suggest in the objective"
        )
    return {p.name: _distribution(p) for p in space.parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, parameter.log, parameter.step or 1)
    values = parameter.options
    if isinstance(parameter, Ordinal) and len(values) > 1 and all(type(v) is int for v in values):
        numbers = [int(v) for v in values]
        step = numbers[1] - numbers[0]
        if step > 0 and numbers == list(range(numbers[0], numbers[-1] + 1, step)):
            return IntDistribution(numbers[0], numbers[-1], step=step)
    if len(set(values)) < len(values):
        raise SpaceFault(
            f"{parameter.name!r}: to Optuna True is 1 and 1 is 1.0, got {shown(values)}: name them "
            "as texts"
        )
    return CategoricalDistribution(values)
