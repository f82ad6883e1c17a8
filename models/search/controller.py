"""The controller: a policy over the search space, taught by REINFORCE, that remembers.

Trial t is the policy's quantile at the t-th point of a scrambled Sobol sequence. A policy that
knows nothing is uniform, so a cold search begins as a quasi-random design; as `policy_net` learns
from the ranks of what came back, the same sequence fills the region that pays. What `propose`
answers is a function of (history, space, seed, memory) and of nothing else, so a search that was
cut off goes on as if it had not been, on any worker.

>>> from models.space import Float
>>> space = Space((Float("x", 0.0, 1.0),))
>>> a, b = Controller(space, seed=1), Controller(space, seed=1)
>>> a.ask() == b.ask()
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.records import Scalar, Trial
from models.search.base import (
    WALKED,
    Key,
    Pending,
    Searcher,
    check_state,
    fresh,
    generator,
    key,
    ordered,
    under_way,
)
from models.search.memory import Recall, recall, remember
from models.search.policy_net import Evidence, Layout, Policy, one_thread, reinforce
from models.search.reward import losses_of, ranked
from models.search.stopping import nothing_to_expect
from models.space import Categorical, Space

_EXPLORE = 1_000_003  # streams of a trial's generator; `fresh` uses the small numbers
_SOBOL = 1_000_005
_RETRAIN = 1_000_007
_SOBOL_DIMENSIONS = 21_201  # of torch's table


@dataclass(frozen=True, slots=True)
class Settings:
    """How the controller learns and when it stops. Budgets of 6 to 50 trials are meant."""

    start: int = 8  # quasi-random trials before the policy of a cold search speaks
    steps: int = 24  # REINFORCE steps on the evidence, from where the policy starts
    rate: float = 0.5  # alpha of equation (3)
    beta: float = 0.1  # entropy bonus of equation (6) at the first trial
    halving: float = 24.0  # trials after which the bonus is half
    explore: float = 0.1  # share of trials that a cold policy draws
    explore_warm: float = 0.2  # the same while a memory leads: a changed world must not trap it
    stale: int = 24  # so many trials without improvement end the search in any case
    patience: int = 10  # trials without improvement before `done` looks at what is to be expected
    tolerance: float = 0.002  # expected gain of a trial, as a share of the gain so far
    closed: float = 0.06  # a policy this narrow (share of the space, geometric mean) is converged


def fit(
    history: Sequence[Trial],
    layout: Layout,
    memory: Recall | None = None,
    settings: Settings | None = None,
) -> Policy:
    """The policy after `history`, whatever its order: equation (3) from where the policy starts."""
    settings = settings or Settings()
    trials = ordered(history)
    memory = memory if memory is not None and _trusted(trials, memory) else None
    policy = memory.policy if memory else Policy.uniform(layout)
    if not trials or (memory is None and len(trials) < settings.start):
        return policy
    beta = settings.beta / (1 + len(trials) / settings.halving)
    with one_thread():
        return reinforce(
            policy,
            _evidence(trials, layout, memory),
            steps=settings.steps,
            rate=settings.rate,
            beta=beta,
        )


def propose(
    history: Sequence[Trial],
    space: Space,
    seed: int,
    state: Mapping[str, Any] | None = None,
    pending: Pending = 0,
    settings: Settings | None = None,
) -> dict[str, Scalar]:
    """The next trial's parameters: pure in its arguments.

    state: a memory, as `Controller.memory` gives it, or None for a cold search. pending: trials
    under way, counted or as their parameters.
    """
    layout = Layout(space)
    memory = recall(state, layout) if state else None
    settings = settings or Settings()
    trials = ordered(history)
    policy = fit(trials, layout, memory, settings)
    return _next(trials, policy, memory, seed, pending, settings)


def _next(
    trials: Sequence[Trial],
    policy: Policy,
    memory: Recall | None,
    seed: int,
    pending: Pending,
    settings: Settings,
) -> dict[str, Scalar]:
    if memory:  # with a config's one seed, every retrain still looks where none has looked before
        seed = int(generator(seed, memory.searches, _RETRAIN).integers(2**31))
    taken, numbers = under_way(trials, pending)
    known = memory.known if memory else ()
    params: dict[str, Scalar] = {}
    for number in numbers:
        left = [p for p in known if key(p) not in taken] if number < len(known) else []
        params = left[0] if left else _draw(number, policy, memory, seed, taken, settings)
        taken.add(key(params))
    return params


def _draw(
    number: int,
    policy: Policy,
    memory: Recall | None,
    seed: int,
    taken: set[Key],
    settings: Settings,
) -> dict[str, Scalar]:
    space = policy.layout.space
    uniform = Policy.uniform(policy.layout)
    share = settings.explore_warm if memory else settings.explore
    cold = generator(seed, number, _EXPLORE).random() < share

    def draw(attempt: int) -> dict[str, Scalar]:
        if attempt == 0:
            u = _sobol(len(space), seed, number)
        else:
            u = generator(seed, number, attempt).random(len(space))
        # Half of the attempts to get away from what is taken are the policy's own.
        unit = u if cold else (uniform if attempt > 16 else policy).emit(np.clip(u, 1e-9, 1 - 1e-9))
        return space.decode(unit)

    return fresh(draw, taken, space, generator(seed, number, WALKED))


def _sobol(d: int, seed: int, number: int) -> NDArray[np.float64]:
    """Point `number` of the Sobol sequence scrambled by `seed`, (d,) in [0, 1)."""
    if not 0 < d <= _SOBOL_DIMENSIONS:
        return generator(seed, number, _SOBOL).random(d)
    scramble = int(generator(seed, 0, _SOBOL).integers(2**31))
    engine = torch.quasirandom.SobolEngine(d, scramble=True, seed=scramble)  # type: ignore[no-untyped-call]
    engine.fast_forward(number)  # type: ignore[no-untyped-call]
    point: NDArray[np.float64] = engine.draw(1, dtype=torch.float64)[0].numpy()
    return point


def _trusted(trials: Sequence[Trial], memory: Recall) -> bool:
    """Whether what was remembered beats what was tried beside it; without evidence, yes.

    The share of pairs in which a known configuration beats another one (the area under the ROC
    curve) must not be below a half.
    """
    known = {key(params) for params in memory.known}
    rewards = ranked(losses_of(trials))
    ours = rewards[[key(t.params) in known for t in trials]] if trials else rewards
    others = rewards[[key(t.params) not in known for t in trials]] if trials else rewards
    if not len(ours) or len(others) < 4:
        return True
    wins = (ours[:, None] > others) + 0.5 * (ours[:, None] == others)
    return float(wins.mean()) >= 0.5


def _evidence(trials: Sequence[Trial], layout: Layout, memory: Recall | None) -> Evidence:
    space = layout.space
    names = [p.name for p in space.parameters]
    unit = np.array([space.encode(t.params) for t in trials]).reshape(-1, len(space))
    active = np.array([[name in t.params for name in names] for t in trials], dtype=bool)
    reward = _per_unit(losses_of(trials), active)
    weight = np.ones(len(trials))
    if memory is not None and len(memory.unit):
        unit, active = np.vstack([unit, memory.unit]), np.vstack([active, memory.active])
        past = np.repeat(memory.reward[:, None], len(space), axis=1)
        reward, weight = np.vstack([reward, past]), np.concatenate([weight, memory.weight])
    return Evidence(unit, active, reward, weight)


def _per_unit(losses: NDArray[np.float64], active: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rank rewards (n, d) of each unit among the trials in which it spoke.

    A branch of a conditional space is judged against itself: that it is the better branch is its
    parent's merit.
    """
    reward = np.zeros(active.shape)
    columns: dict[bytes, NDArray[np.float64]] = {}
    for j in range(active.shape[1]):
        rows = active[:, j]
        pattern = rows.tobytes()
        if pattern not in columns:
            columns[pattern] = np.zeros(len(losses))
            columns[pattern][rows] = ranked(losses[rows])
        reward[:, j] = columns[pattern]
    return reward


class Controller(Searcher):
    """The REINFORCE controller. `ask`, `tell`, `done`; `Controller.warm` starts from a memory."""

    kind = "controller"

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
        self._policy: Policy | None = None

    @classmethod
    def warm(
        cls, space: Space, state: Mapping[str, Any], *, seed: int, settings: Settings | None = None
    ) -> Self:
        """A new search that starts from what an earlier one learnt.

        state: the `state_dict` of the earlier search. Its best configurations are tried first, its
        policy is where this one starts, widened, and its trials count, faded. `space` may differ.
        Raises SpaceFault when the state can't be read; a caller may then start cold.
        """
        check_state(state, cls.kind)
        learnt = state.get("learnt")
        if not isinstance(learnt, Mapping):
            raise SpaceFault(
                f"a controller's state keeps its memory under 'learnt', got {learnt!r}: start cold"
            )
        return cls(space, seed=seed, memory=learnt, settings=settings)

    @property
    def policy(self) -> Policy:
        """The policy after all that was told."""
        if self._policy is None:
            self._policy = fit(self.history, self._layout, self._recall, self.settings)
        return self._policy

    @property
    def memory(self) -> dict[str, Any]:
        """What the next search starts from."""
        return remember(self.space, self.history, self.policy, self._memory)

    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        return _next(self.history, self.policy, self._recall, self.seed, pending, self.settings)

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self._policy = None

    def done(self) -> str | None:
        """Why the search is over by itself, or None.

        All is tried, the policy has converged, or there is nothing to expect (see `stopping`);
        never before the start and `patience` trials are told.
        """
        reason = super().done()
        if reason:
            return reason
        losses = losses_of(self.history)
        first = max(self.settings.start, len(self._recall.known) if self._recall else 0)
        if len(losses) < first + self.settings.patience:
            return None
        if (width := self.width()) < self.settings.closed:
            return f"the policy has converged: it covers {width:.1%} of the space per parameter"
        return nothing_to_expect(
            losses,
            patience=self.settings.patience,
            stale=self.settings.stale,
            tolerance=self.settings.tolerance,
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
        self.settings = Settings(**state.get("settings", {}))
        self._begin(state.get("memory"))
