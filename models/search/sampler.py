"""The controller as an Optuna sampler, for studies that are written as Optuna's are.

    import optuna
    from models.search import ControllerSampler

    study = optuna.create_study(sampler=ControllerSampler(seed=0))
    study.optimize(objective, n_trials=50)

Everything it knows it reads from the study's trials through Optuna's public interface, so storage,
restarts, pruners, dashboards and several workers are Optuna's own.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from models.errors import SpaceFault
from models.records import Scalar, Trial
from models.search.base import generator, key
from models.search.proposing import Settings, propose
from models.space import Categorical, Float, Int, Ordinal, Parameter, Space

_TOLD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_STEPS = 4_096  # a stepped number of at most so many values is an ordinal parameter


class ControllerSampler(BaseSampler):
    """Suggests what everfit's controller proposes, given the trials of the study.

    seed: equal seeds and equal trials give equal suggestions. space: a `Space` declared beforehand,
    which may be conditional; without it the space is read from the trials so far, and a parameter
    that was not always suggested is taken as conditional on the choice that decides about it. Where
    no choice does, or a parameter is new, it is drawn uniformly. Single-objective studies only.
    """

    def __init__(
        self, seed: int = 0, space: Space | None = None, settings: Settings | None = None
    ) -> None:
        self.seed, self.space, self.settings = int(seed), space, settings

    def infer_relative_search_space(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002 - Optuna's signature
    ) -> dict[str, BaseDistribution]:
        if len(study.directions) > 1:
            raise SpaceFault(
                f"ControllerSampler takes one objective, got {len(study.directions)}: use "
                "optuna.samplers.NSGAIISampler, or weigh them into one"
            )
        if self.space is not None:
            return {p.name: _distribution(p) for p in self.space.parameters}
        seen: dict[str, BaseDistribution] = {}
        for one in _told(study):
            seen.update(one.distributions)  # the latest range of each
        return {name: d for name, d in sorted(seen.items()) if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        told = _told(study)
        reading = _Reading(search_space, told, self.space)
        if not len(reading.space):
            return {}
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        history: list[Trial] = []
        for one in told:
            params = reading.params(one)
            if params is not None:
                loss = None if one.value is None else sign * float(one.value)
                good = one.state == TrialState.COMPLETE and loss is not None
                state, value = ("complete", loss) if good else ("failed", None)
                history.append(Trial(len(history), params, state, value, 0.0, 0))  # type: ignore[arg-type]
        running = [
            params
            for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if one.number != trial.number and (params := reading.params(one)) is not None
        ]
        distinct = list({key(params): params for params in running}.values())
        asked = propose(history, reading.space, self.seed, pending=distinct, settings=self.settings)
        return {name: reading.given(name, value) for name, value in asked.items()}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        stream = zlib.crc32(param_name.encode())
        seed = int(generator(self.seed, trial.number, stream).integers(2**31))
        return RandomSampler(seed=seed).sample_independent(
            study, trial, param_name, param_distribution
        )


def _told(study: Study) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=_TOLD)
    return sorted((t for t in trials if t.params), key=lambda t: t.number)


class _Reading:
    """A study's distributions and trials as a Space and its configurations."""

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        trials: Sequence[FrozenTrial],
        declared: Space | None,
    ) -> None:
        self._codes: dict[str, tuple[Any, ...]] = {}
        if declared is not None:
            self.space = declared
            return
        always = [name for name in distributions if all(name in t.params for t in trials)]
        found: list[Parameter] = [self._parameter(n, distributions[n], None) for n in always]
        for name in distributions:
            if name not in always and (when := _condition(name, always, distributions, trials)):
                parent, values = when
                codes = tuple(str(self._codes[parent].index(v)) for v in values)
                found.append(self._parameter(name, distributions[name], (parent, codes)))
        self.space = Space(tuple(found))

    def _parameter(
        self, name: str, given: BaseDistribution, when: tuple[str, tuple[str, ...]] | None
    ) -> Parameter:
        if isinstance(given, CategoricalDistribution):
            # Optuna's choices may be None or of mixed types: the controller sees their places.
            self._codes[name] = given.choices
            return Categorical(name, tuple(str(i) for i in range(len(given.choices))), when)
        if isinstance(given, IntDistribution):
            if given.step == 1:
                return Int(name, given.low, given.high, given.log, when)
            return Ordinal(name, tuple(range(given.low, given.high + 1, given.step)), when)
        if isinstance(given, FloatDistribution):
            if given.step is None:
                return Float(name, given.low, given.high, given.log, when)
            steps = round((given.high - given.low) / given.step)
            if steps < _STEPS:
                values = tuple(given.low + i * given.step for i in range(steps + 1))
                return Ordinal(name, values, when)
            return Float(name, given.low, given.high, False, when)
        raise SpaceFault(f"{name!r} has a distribution that is not known: {given!r}")

    def params(self, trial: FrozenTrial) -> dict[str, Scalar] | None:
        """The trial's parameters that are in the space, or None when they don't fit it."""
        out: dict[str, Scalar] = {}
        for parameter in self.space.parameters:
            if not self.space.is_active(parameter, out):
                continue
            if parameter.name not in trial.params:
                return None
            value = trial.params[parameter.name]
            if parameter.name in self._codes:
                choices = self._codes[parameter.name]
                if value not in choices:
                    return None
                value = str(choices.index(value))
            fitted = parameter.repaired(value)  # a range may have changed since
            if fitted is None:
                return None
            out[parameter.name] = fitted
        return out if self.space.allows(out) else None

    def given(self, name: str, value: Scalar) -> Any:
        return self._codes[name][int(value)] if name in self._codes else value


def _condition(
    name: str,
    always: Sequence[str],
    distributions: Mapping[str, BaseDistribution],
    trials: Sequence[FrozenTrial],
) -> tuple[str, tuple[Any, ...]] | None:
    """The choice, and its values, with which `name` was suggested and without which it was not."""
    for parent in always:
        if not isinstance(distributions[parent], CategoricalDistribution):
            continue
        with_it = [t.params[parent] for t in trials if name in t.params]
        without = [t.params[parent] for t in trials if name not in t.params]
        if not any(value in without for value in with_it):
            distinct: list[Any] = []
            for value in with_it:
                if value not in distinct:
                    distinct.append(value)
            return parent, tuple(distinct)
    return None


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    values = parameter.choices if isinstance(parameter, Categorical) else parameter.values
    return CategoricalDistribution(list(values))
