"""The controller: a policy taught by REINFORCE, a predictor of what a trial will say, a memory.

A cold search begins as a quasi-random design. Then the predictor (a Gaussian process, `predictor`)
judges what the policy emits beside points of the whole space and neighbours of the best, in two
views of the trials; tried is what both expect much of and what lies far from the trials, as a look
beyond the next trial asks (`judge`). A warm search tries what was best before beside a point of the
cold design, starts from the policy as it stood, and puts what earlier searches found into the
predictor: a trial is asked with the memory as often as those before it say that it has to do with
today's task, and every fourth (every twelfth where that is sure) as if nothing were remembered, by
the largest expected improvement, the views in turn. What `propose` answers is a function of
(history, space, seed, memory) and of nothing else, so a search that was cut off goes on as if it
had not been, on any worker.

>>> from models.space import Float
>>> space = Space((Float("x", 0.0, 1.0),))
>>> a, b = Controller(space, seed=1), Controller(space, seed=1)
>>> a.ask() == b.ask()
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.records import Params, Scalar, Trial
from models.search.base import Pending, Searcher, check_state, generator
from models.search.cost import Left
from models.search.loop import best
from models.search.memory import recall, remember
from models.search.policy_net import Layout, Policy
from models.search.predictor import Pool, Predictor
from models.search.proposing import Settings, drawn, fit
from models.search.reward import loss_of, losses_of
from models.search.stopping import nothing_to_expect
from models.space import Categorical, Space

_LOOK = 1_000_011  # a stream of its own, see `proposing`


class Controller(Searcher):
    """The REINFORCE controller. `ask`, `tell`, `done`; `Controller.warm` starts from a memory."""

    kind = "controller"
    budgeted: ClassVar[bool] = True  # `ask` takes what the search may still spend

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        memory: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
        self.settings = settings or Settings()
        self._begin(memory)

    def _begin(self, memory: Mapping[str, Any] | None) -> None:
        self._memory = dict(memory) if memory else None
        self._layout = Layout(self.space)
        self._recall = recall(self._memory, self._layout) if self._memory else None
        self._ended: Params | None = None
        self._policy: Policy | None = None
        self._predictor: Predictor | None = None

    @classmethod
    def warm(
        cls,
        space: Space,
        state: Mapping[str, Any],
        *,
        seed: int,
        settings: Settings | None = None,
        advised: Sequence[Params] = (),
    ) -> Self:
        """A new search that starts from what an earlier one learnt.

        state: the `state_dict` of the earlier search. Its best configurations are tried first, its
        policy is where this one starts, widened, and its trials count, faded. `space` may differ.
        advised: configurations that people hold good; one of them is tried beside the best known.
        Raises SpaceFault when the state can't be read; a caller may then start cold.
        """
        check_state(state, cls.kind)
        learnt = state.get("learnt")
        if not isinstance(learnt, Mapping):
            raise SpaceFault(
                f"a controller's state keeps its memory under 'learnt', got {learnt!r}: start cold"
            )
        if advised:
            learnt = {**learnt, "advised": [dict(params) for params in advised]}
        return cls(space, seed=seed, memory=learnt, settings=settings)

    @property
    def standing(self) -> list[Params]:
        """What stood before a warm search: what is advised, and what the last one ended with."""
        if self._recall is None:
            return []
        return [*self._recall.advised, *self._recall.known[:1]]

    @property
    def policy(self) -> Policy:
        """The policy after all that was told."""
        if self._policy is None:
            self._policy = fit(self.history, self._layout, self._recall, self.settings)
        return self._policy

    @property
    def memory(self) -> dict[str, Any]:
        """What the next search starts from."""
        return remember(self.space, self.history, self.policy, self._memory, self._ended)

    def ended(self, params: Params) -> None:
        """Say which configuration the search ended with, the best or what stood before: the next
        search tries it first, and it stands until one is certainly ahead."""
        self._ended = dict(params)

    def ask(self, pending: Pending = 0, left: Left | None = None) -> dict[str, Scalar]:
        """left: what the search may still spend; where its seconds bind, they are weighed."""
        return drawn(
            self.history, self.policy, self._recall, self.seed, pending, self.settings, left
        )

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self._policy = self._predictor = None

    def _known(self) -> Predictor | None:
        """The predictor after all that was told; None while too few trials have completed."""
        if self._predictor is None and np.isfinite(losses_of(self.history)).sum() >= 3:
            self._predictor = Predictor(self._layout, self.history, self._recall)
        return self._predictor

    def expected_gain(self) -> float | None:
        """Expected improvement of the next trial, in units of the loss; None while too early."""
        predictor = self._known()
        if predictor is None or not len(self.space):
            return None
        rng = generator(self.seed, len(self.history), _LOOK)
        _, promise = predictor.ranking(self.policy, self.settings.pool, rng)
        return math.exp(min(float(promise[0]), 50.0)) * predictor.slope()

    def champion(self) -> Trial:
        """The trial with the best predicted mean, not the luckiest noisy score.

        Raises SpaceFault when none has completed.
        """
        lucky = best(self.history)
        predictor = self._known()
        if predictor is None:
            return lucky
        complete = [t for t in self.history if loss_of(t) is not None]
        mean, _ = predictor.predict(self.space.encode_many([t.params for t in complete]))
        return complete[int(np.argmin(mean))]

    def predict(self, params: Sequence[Params]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (n,) of the loss of n configurations.

        Raises SpaceFault while fewer than three trials have completed.
        """
        predictor = self._known()
        if predictor is None:
            raise SpaceFault("a prediction takes three completed trials: tell more of them")
        mean, deviation = predictor.predict(self.space.encode_many(list(params)))
        return predictor.in_losses(mean), deviation * predictor.slope()

    def importance(self) -> dict[str, float]:
        """Share of each parameter in the variance of the predicted score; sums to 1."""
        predictor = self._known()
        if predictor is None:
            return {p.name: 1 / len(self.space) for p in self.space.parameters}
        share = predictor.importance(generator(self.seed, 0, _LOOK))
        return {p.name: float(s) for p, s in zip(self.space.parameters, share, strict=True)}

    def done(self) -> str | None:
        """Why the search is over by itself, or None.

        All is tried, or there is nothing to expect (see `stopping`); never before the start and
        `patience` trials are told.
        """
        reason = super().done()
        if reason:
            return reason
        losses = losses_of(self.history)
        first = max(self.settings.start, len(self._recall.known) if self._recall else 0)
        if len(losses) < first + self.settings.patience:
            return None
        return nothing_to_expect(
            losses,
            patience=self.settings.patience,
            stale=self.settings.stale,
            tolerance=self.settings.tolerance,
            expected=self.expected_gain,
        )

    def width(self) -> float:
        """How much of each parameter the policy still covers, geometric mean, in (0, 1].

        exp(H) of every unit that the most likely configuration makes active and that has a choice.
        """
        active = set(self.space.decode(self.policy.emit(np.full(len(self.space), 0.5))))
        logs = [
            h
            for parameter, h in zip(self.space.parameters, self._entropies(), strict=True)
            if parameter.name in active and parameter.size() > 1
        ]
        return math.exp(float(np.mean(logs))) if logs else 1.0

    def _entropies(self) -> list[float]:
        number, choice = self.policy.entropies()
        out = np.zeros(len(self.space))
        out[self._layout.numbers], out[self._layout.choices] = number.numpy(), choice.numpy()
        return [float(h) for h in out]

    def distribution(self) -> dict[str, dict[str, Any]]:
        """The policy per parameter, for people.

        Numbers and ordinal values: the quantiles 'low' (5 %), 'median', 'high' (95 %); choices:
        their 'probabilities'. 'entropy' is relative to uniform, so 0 when nothing is known.
        """
        entropies = self._entropies()
        quantiles = {
            name: self.policy.emit(np.full(len(self.space), level))
            for name, level in (("low", 0.05), ("median", 0.5), ("high", 0.95))
        }
        probabilities = self.policy.log_probabilities().exp().numpy()
        rows = {int(j): i for i, j in enumerate(self._layout.choices)}
        out: dict[str, dict[str, Any]] = {}
        for j, parameter in enumerate(self.space.parameters):
            entry: dict[str, Any] = {"entropy": entropies[j]}
            if isinstance(parameter, Categorical):
                p = probabilities[rows[j], : len(parameter.choices)]
                entry["probabilities"] = dict(
                    zip(map(str, parameter.choices), p.tolist(), strict=True)
                )
            else:
                entry |= {k: parameter.from_unit(float(u[j])) for k, u in quantiles.items()}
            out[parameter.name] = entry
        return out

    def state_dict(self) -> dict[str, Any]:
        """The whole search, JSON-ready, and under 'learnt' what the next search starts from."""
        own = {"settings": asdict(self.settings), "memory": self._memory, "learnt": self.memory}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        told = dict(state.get("settings", {}))
        self.settings = Settings(**{**told, "pool": Pool(**told.get("pool", {}))})
        self._begin(state.get("memory"))
