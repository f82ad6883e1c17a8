"""Which configuration is tried next, by the policy, the predictor and the memory.

`propose` is a function of (history, space, seed, memory) and of nothing else: what is random
derives from the seed and the number of the trial. How a cold and a warm search go about it is said
in `controller`, which keeps the history and answers what people ask of a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.records import Params, Scalar, Trial
from models.search.base import WALKED, Key, Pending, fresh, generator, key, ordered, under_way
from models.search.cost import CostModel, Left, weigh
from models.search.judge import judged
from models.search.memory import Recall, recall
from models.search.policy_net import Evidence, Layout, Policy, one_thread, reinforce
from models.search.predictor import Pool, Predictor
from models.search.reward import losses_of, ranked
from models.space import Space

_EXPLORE = 1_000_003  # streams of a trial's generator; `fresh` uses the small numbers
_SOBOL = 1_000_005
_RETRAIN = 1_000_007
_POOL = 1_000_009
_TRUST = 1_000_013
_KNOWN = (0,)  # numbers of a warm search that go to what was best before
_ADVISED = (1,)  # and to what people hold good, if they do: the world may have come to suit it
# and to the best of another branch or, in a space without branches, a point of the cold design
_PROBES = (1, 2)  # without and with advice
_PROBED = 6  # trials after which a search may ask as if it had no memory, though it believes it;
_SURE = 0.8  # trust from which chance asks so no more, but every twelfth trial of a search still:
_SELDOM = 3  # so many times `cold_every`, so that no memory traps a search
_BELIEVED = 0.5  # below that it begins anew, with as much of the cold design as is left
_SOBOL_DIMENSIONS = 21_201  # of torch's table


@dataclass(frozen=True, slots=True)
class Settings:
    """How the controller learns and when it stops. Budgets of 6 to 50 trials are meant."""

    start: int = 8  # quasi-random trials before the predictor of a cold search speaks
    steps: int = 24  # REINFORCE steps on the evidence, from where the policy starts
    rate: float = 0.5  # alpha of equation (3)
    beta: float = 0.1  # entropy bonus of equation (6) at the first trial
    halving: float = 24.0  # trials after which the bonus is half
    predictor: bool = True  # without it, a trial is the policy's own quantile
    pool: Pool = field(default_factory=Pool)
    judge: bool = True  # a cold search looks beyond the next trial (`judge`)
    cold_every: int = 4  # one of so many warm trials is asked without the memory, fewer when sure
    explore: float = 0.1  # share of trials that go on with the quasi-random design
    stale: int = 24  # so many trials without improvement end the search in any case
    patience: int = 10  # trials without improvement before `done` looks at what is to be expected
    tolerance: float = 0.002  # expected gain of a trial, as a share of the gain so far


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
    return drawn(trials, policy, memory, seed, pending, settings)


def drawn(
    trials: Sequence[Trial],
    policy: Policy,
    memory: Recall | None,
    seed: int,
    pending: Pending,
    settings: Settings,
    left: Left | None = None,
) -> dict[str, Scalar]:
    """The same, of `trials` by number, with policy and memory at hand; `left` as for `ask`."""
    if memory:  # with a config's one seed, every retrain still looks where none has looked before
        seed = int(generator(seed, memory.searches, _RETRAIN).integers(2**31))
    taken, numbers = under_way(trials, pending)
    under: list[Params] = [] if isinstance(pending, int) else list(pending)
    params: dict[str, Scalar] = {}
    for number in numbers:
        params = _draw(number, trials, under, policy, memory, seed, taken, settings, left)
        taken.add(key(params))
        under.append(params)
    return params


def _draw(
    number: int,
    trials: Sequence[Trial],
    under: Sequence[Params],
    policy: Policy,
    memory: Recall | None,
    seed: int,
    taken: set[Key],
    settings: Settings,
    left: Left | None = None,
) -> dict[str, Scalar]:
    space = policy.layout.space
    uniform = Policy.uniform(policy.layout)
    predictor: Predictor | None = None
    cold = generator(seed, number, _EXPLORE).random() < settings.explore
    alone = False
    if memory:
        # What was best is held to another branch's best or a point of the cold design; then each
        # trial is asked with the memory as often as it is believed, and some as if all were new.
        every = settings.cold_every
        if trials and settings.predictor:
            predictor = Predictor(policy.layout, trials, memory, under)
            believed = (predictor.trust / _SURE) ** 3
            alone = generator(seed, number, _TRUST).random() >= believed
            every *= _SELDOM if believed >= 1 else 1
        alone = alone or (number >= settings.start - 1 and (number + 1) % every == 0)
        known = _without_predictor(number, trials, memory, space, taken, alone)
        if known and (number in _KNOWN + _ADVISED + _PROBES or not settings.predictor):
            return known
        cold = cold or number == _probe(memory)
        if alone:
            memory, policy, settings = None, uniform, replace(settings, judge=False)
            if predictor is None or predictor.trust >= _BELIEVED:
                settings = replace(settings, start=min(settings.start, _PROBED))
    enough = bool(trials) if memory else number >= settings.start and len(trials) > 1
    if settings.predictor and enough and not cold and len(space):
        rng = generator(seed, number, _POOL)
        points, promise = _ranking(number, trials, under, policy, memory, predictor, settings, rng)
        if left is not None and len(trials) >= settings.start:
            seconds = CostModel(space, trials).seconds(points)
            value = weigh(promise, seconds, left.seconds, left.trials, left.share)
            points = points[np.argsort(-value, kind="stable")]
        for start in range(0, len(points), 32):
            for params in space.decode_many(points[start : start + 32]):
                if key(params) not in taken:
                    return params

    def draw(attempt: int) -> dict[str, Scalar]:
        if attempt == 0:
            u = _sobol(len(space), seed, number)
        else:
            u = generator(seed, number, attempt).random(len(space))
        # Half of the attempts to get away from what is taken are the policy's own.
        unit = u if cold else (uniform if attempt > 16 else policy).emit(u)
        return space.decode(unit)

    return fresh(draw, taken, space, generator(seed, number, WALKED))


def _probe(memory: Recall) -> int:
    return _PROBES[bool(memory.advised)]


def _without_predictor(
    number: int,
    trials: Sequence[Trial],
    memory: Recall,
    space: Space,
    taken: set[Key],
    alone: bool,
) -> dict[str, Scalar] | None:
    """What is to be held to each other before a predictor is worth asking; None: nothing is."""
    if number in _ADVISED and (advised := memory.advice(space, taken)):
        return advised[0]
    if alone:
        return None
    if number == _probe(memory) and (lost := memory.untried_branches(space, trials)):
        return lost[memory.searches % len(lost)]  # more rows may have made it the better one
    if number in _ADVISED + _PROBES:
        return None
    return next((params for params in memory.known if key(params) not in taken), None)


def _ranking(
    number: int,
    trials: Sequence[Trial],
    under: Sequence[Params],
    policy: Policy,
    memory: Recall | None,
    predictor: Predictor | None,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What may be tried, best first, and its promise: by the memory, or by views of the trials."""
    if memory is None and settings.judge:
        views = [Predictor(policy.layout, trials, None, under, values=v) for v in (False, True)]
        return judged(views, policy, settings.pool, rng)
    if predictor is None or memory is None or not predictor.remembers:
        values = memory is None and number % 2 == 1
        predictor = Predictor(policy.layout, trials, memory, under, values=values)
    return predictor.ranking(policy, settings.pool, rng)


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
