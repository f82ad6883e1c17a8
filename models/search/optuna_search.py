"""Optuna's samplers as searchers, each as it comes: TPE, a Gaussian process, CMA-ES, NSGA-II.

A study in memory holds the told trials in order, and every proposal is made by a new sampler that
is seeded by (seed, trial number). So what is proposed follows from what was told, wherever the
search goes on. CMA-ES and NSGA-II leave marks on the trials that they propose (the generation, the
evolved distribution): for them each told trial is proposed once more, and takes over the marks.

Samplers that want one fixed space are given every parameter, and inactive ones are dropped. A
proposal that the constraints refuse is repaired as `Space.decode` does; one that was tried before
gives way to a neighbour.
"""

from __future__ import annotations

import copy
import threading
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from models.records import Params, Scalar, Trial
from models.search.base import WALKED, Key, Pending, Searcher, fresh, generator, key, under_way
from models.search.optuna_values import distribution, inner, outer, suggest
from models.search.reward import losses_of
from models.space import Space

_SEED = 1_000_021  # the stream of a trial's generator that seeds its sampler
_LARGEST = 1e100  # a loss counts as no larger, so that its square is finite
_QUIET = threading.RLock()


class OptunaSearch(Searcher):
    """What the searchers over an Optuna study share."""

    flat: ClassVar[bool] = True  # the sampler wants all parameters in every trial
    marks: ClassVar[bool] = False  # it keeps its state on the trials that it proposed

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self._study: optuna.Study | None = None
        self._told: list[Trial] = []  # what the study knows

    @abstractmethod
    def sampler(self, seed: int, number: int) -> BaseSampler:
        """Optuna's sampler for the trial of that number."""

    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        if not len(self.space):
            return {}
        taken, numbers = under_way(self.history, pending)
        params: dict[str, Scalar] = {}
        with _quiet():
            study = self._current()
            running: list[int] = []
            for other in () if isinstance(pending, int) else pending:
                self._start(study, other, running)
            for number in numbers:
                params = self._propose(study, number, taken)
                taken.add(key(params))
                if number != numbers[-1]:
                    self._start(study, params, running)
            for place in running:
                study.tell(place, state=TrialState.FAIL)
        return params

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._study = None

    def _current(self) -> optuna.Study:
        """The study after all told trials: gone on with, or begun anew when their order changed."""
        history = self.history
        known = self._told
        if len(known) > len(history) or any(
            a is not b and a != b for a, b in zip(known, history, strict=False)
        ):
            self._study = None
        if self._study is None:
            self._study, self._told = optuna.create_study(sampler=self._seeded(0)), []
        later = history[len(self._told) :]
        for trial, loss in zip(later, losses_of(later), strict=True):
            if not np.isnan(loss):  # Optuna's samplers ignore failed trials
                self._learn(self._study, trial, float(np.clip(loss, -_LARGEST, _LARGEST)))
            self._told.append(trial)
        return self._study

    def _learn(self, study: optuna.Study, trial: Trial, loss: float) -> None:
        if not self.marks:
            study.add_trial(self._frozen(trial.params, {}, value=loss))
            return
        proposed, marks = self._asked(study, trial.number)
        study.add_trial(self._frozen(trial.params, proposed, value=loss, system_attrs=marks))

    def _asked(self, study: optuna.Study, number: int) -> tuple[dict[str, Scalar], dict[str, Any]]:
        """What the sampler suggests for a trial, inactive parameters too, and the marks it left."""
        study.sampler = self._seeded(number)
        trial = study.ask()
        params: dict[str, Scalar] = {}
        for parameter in self.space.parameters:
            # where only active ones are asked for, those before are what decides
            if self.flat or self.space.is_active(parameter, params):
                params[parameter.name] = inner(parameter, suggest(trial, parameter))
        marks = study.get_trials(deepcopy=False)[trial.number].system_attrs
        study.tell(
            trial, state=TrialState.FAIL
        )  # none can be taken back; failed, it is passed over
        return params, dict(marks)

    def _start(self, study: optuna.Study, params: Params, running: list[int]) -> None:
        """Let the sampler know of a trial under way; one with marks takes no notice of any."""
        if not self.marks:
            running.append(len(study.get_trials(deepcopy=False)))
            study.add_trial(self._frozen(params, {}, state=TrialState.RUNNING))

    def _frozen(
        self, params: Params, inactive: Mapping[str, Scalar], **outcome: Any
    ) -> FrozenTrial:
        """A trial of the study. Inactive parameters that are wanted stand central if not given."""
        given = {
            p.name: {**inactive, **params}.get(p.name, p.from_unit(0.5))
            for p in self.space.parameters
            if self.flat or p.name in params
        }
        return create_trial(
            params={name: outer(self.space[name], value) for name, value in given.items()},
            distributions={name: distribution(self.space[name]) for name in given},
            **outcome,
        )

    def _propose(self, study: optuna.Study, number: int, taken: set[Key]) -> dict[str, Scalar]:
        proposed, _ = self._asked(study, number)
        first = _active(self.space, proposed)
        if not self.space.allows(first):
            first = self.space.decode(self.space.encode(first))

        def draw(attempt: int) -> dict[str, Scalar]:
            if not attempt:
                return first
            return self._neighbour(first, generator(self.seed, number, attempt), 1 + attempt // 8)

        return fresh(draw, taken, self.space, generator(self.seed, number, WALKED))

    def _neighbour(
        self, params: Params, rng: np.random.Generator, changes: int
    ) -> dict[str, Scalar]:
        """`params` with some parameters drawn anew."""
        unit = self.space.encode(params)
        places = [self.space.index[name] for name in params]
        for place in rng.choice(places, size=min(changes, len(places)), replace=False):
            unit[place] = rng.random()
        return self.space.decode(unit)

    def _seeded(self, number: int) -> BaseSampler:
        return self.sampler(int(generator(self.seed, number, _SEED).integers(2**31)), number)


class TPESearch(OptunaSearch):
    """Tree-structured Parzen estimators, multivariate; conditional parameters one by one."""

    kind = "tpe"
    flat = False

    def sampler(self, seed: int, number: int) -> BaseSampler:  # noqa: ARG002
        return TPESampler(seed=seed)


class GPSearch(OptunaSearch):
    """Expected improvement under a Gaussian process."""

    kind = "gp"

    def sampler(self, seed: int, number: int) -> BaseSampler:  # noqa: ARG002
        return GPSampler(seed=seed, warn_independent_sampling=False)


class CMAESSearch(OptunaSearch):
    """An evolution strategy that adapts its covariance; choices are drawn uniformly."""

    kind = "cma-es"
    marks = True

    def sampler(self, seed: int, number: int) -> BaseSampler:
        return _Numbered(seed, number)


class NSGA2Search(OptunaSearch):
    """A genetic algorithm, with one objective here; generations of 50 trials."""

    kind = "nsga-ii"
    marks = True

    def sampler(self, seed: int, number: int) -> BaseSampler:  # noqa: ARG002
        return _Ordered(seed=seed)


class _Numbered(CmaEsSampler):
    """CMA-ES adds the trial's place in the study to its seed: here it is the trial's number.

    The place depends on what was asked in between, the number does not.
    """

    def __init__(self, seed: int, number: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        self._number = number

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        numbered = copy.copy(trial)
        numbered.number = self._number
        return super().sample_relative(study, numbered, search_space)


class _Ordered(NSGAIISampler):
    """NSGA-II answers the parents of a generation in one order at first and in another ever after.

    A search that goes on elsewhere asks at first again: here they come in the trials' order.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda t: t.number)


def _active(space: Space, params: Params) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if space.is_active(parameter, out):
            out[parameter.name] = params[parameter.name]
    return out


@contextmanager
def _quiet() -> Iterator[None]:
    """No line for each trial or independently drawn parameter, and no notes on what may change."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(max(before, optuna.logging.ERROR))
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)
