"""What a searcher promises, and what all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np

from models.errors import SpaceFault
from models.records import Params, Scalar, Trial
from models.search.reward import learnt_from
from models.space import Space

Pending = int | Sequence[Params]
Key = tuple[tuple[str, Scalar], ...]
VERSION = 1
WALKED = 2_048  # a finite space up to this size is walked through for what is left


def generator(seed: int, number: int, stream: int = 0) -> np.random.Generator:
    """The randomness of one trial: a function of the seed and the trial's number alone."""
    return np.random.default_rng(np.random.SeedSequence([abs(seed), int(seed < 0), number, stream]))


def trial_seed(seed: int, number: int) -> int:
    """The seed a trial's fit gets, in [0, 2**31)."""
    return int(generator(seed, number, 7).integers(2**31))


def key(params: Params) -> Key:
    """What makes two configurations the same: floats to nine digits."""
    rounded = (
        (name, float(f"{value:.9g}") if isinstance(value, float) else value)
        for name, value in params.items()
    )
    return tuple(sorted(rounded))


def ordered(history: Iterable[Trial]) -> list[Trial]:
    """The trials by number: what is proposed does not depend on the order in which they ended."""
    return sorted(history, key=lambda trial: trial.number)


class Searcher(ABC):
    """Proposes trials one by one and learns from all that is told.

    Promises, which `tests/contracts/test_searchers.py` holds every subclass to:

    - equal seeds and equal histories give equal proposals, whatever the order of telling;
    - `ask` changes nothing: randomness derives from (seed, trial number) alone;
    - a failed or non-finite trial is information and never an end;
    - no configuration is proposed twice while a new one can be found;
    - only active parameters are set;
    - `state_dict` is JSON-ready, and `load_state_dict` continues as if nothing had happened.
    """

    kind: ClassVar[str]

    def __init__(self, space: Space, *, seed: int) -> None:
        self.space = space
        self.seed = int(seed)
        self._trials: dict[int, Trial] = {}

    @classmethod
    def warm(cls, space: Space, state: Mapping[str, Any], *, seed: int) -> Self:
        """A new search after an earlier one's `state_dict`; `space` may have changed since.

        A searcher without a memory starts cold. Raises SpaceFault for a state it can't read.
        """
        check_state(state, cls.kind)
        return cls(space, seed=seed)

    @property
    def history(self) -> list[Trial]:
        """All trials told so far, by number."""
        return ordered(self._trials.values())

    @abstractmethod
    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        """Parameters of the next trial, whose number is `len(history) + pending`.

        `pending` trials are under way: their number, or better their parameters, so that none of
        them is proposed again.
        """

    def tell(self, trial: Trial) -> None:
        """Learn the outcome of a trial, in any order.

        Raises SpaceFault when its parameters are not of the space, or when another trial of the
        same number was told before; the same trial again changes nothing.
        """
        self.space.validate(trial.params)
        before = self._trials.get(trial.number)
        outcome = (dict(trial.params), learnt_from(trial))
        if before is not None and (dict(before.params), learnt_from(before)) != outcome:
            raise SpaceFault(
                f"a trial number is told once; {trial.number} came twice with different outcomes: "
                "number trials from 0 without a gap"
            )
        self._trials[trial.number] = trial

    def done(self) -> str | None:
        """Why the search is over, or None. No searcher goes on when everything has been tried."""
        size = self.space.size()
        if math.isinf(size) or len(self._trials) < size:
            return None
        tried = len({key(trial.params) for trial in self._trials.values()})
        if tried < size:
            return None
        return f"all {tried} configuration{'s' * (tried > 1)} of the space have been tried"

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next proposal depends on, JSON-ready."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "seed": self.seed,
            "space": self.space.to_json(),
            "trials": [trial_to_json(trial) for trial in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; seed, space and trials are replaced."""
        check_state(state, self.kind)
        self.space = Space.from_json(state["space"])
        self.seed = int(state["seed"])
        self._trials = {}
        for row in state["trials"]:
            self.tell(trial_from_json(row))


def check_state(state: Mapping[str, Any], kind: str) -> None:
    """Raise SpaceFault unless `state` is one that this version of `kind` can read."""
    missing = [f for f in ("version", "kind", "seed", "space", "trials") if f not in state]
    if missing:
        raise SpaceFault(
            f"a searcher's state holds version, kind, seed, space and trials; {missing} missing: "
            "start cold"
        )
    if state["version"] != VERSION or state["kind"] != kind:
        raise SpaceFault(
            f"a state of {kind!r} version {VERSION} is wanted, got {state['kind']!r} version "
            f"{state['version']!r}: start cold"
        )


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A trial JSON-ready; a non-finite loss, which JSON cannot hold, becomes null.

    Of its curve the points with a finite loss are kept.
    """
    row = asdict(trial)
    row["params"] = dict(trial.params)
    row["metrics"] = {k: v for k, v in trial.metrics.items() if math.isfinite(v)}
    row["loss"] = learnt_from(trial)
    row["status"] = "failed" if row["loss"] is None else trial.status
    kept = [i for i, (_, loss) in enumerate(trial.curve) if math.isfinite(loss)]
    row["curve"] = [trial.curve[i] for i in kept]
    row["curve_seconds"] = [trial.curve_seconds[i] for i in kept if i < len(trial.curve_seconds)]
    return row


def trial_from_json(row: Mapping[str, Any]) -> Trial:
    curve = tuple((f, v) for f, v in row.get("curve", ()))
    rest = {name: tuple(row.get(name, ())) for name in ("curve_seconds", "parts")}
    return Trial(**{**row, "curve": curve, **rest})


def fresh(
    draw: Callable[[int], dict[str, Scalar]],
    taken: set[Key],
    space: Space,
    rng: np.random.Generator,
    attempts: int = 32,
) -> dict[str, Scalar]:
    """The first of `draw(0)`, `draw(1)`, ... that is not taken.

    When none of them is new, a small space is walked through for what is left; a large one, or one
    where nothing is left, answers the last draw.
    """
    params = draw(0)
    for attempt in range(1, attempts):
        if key(params) not in taken:
            return params
        params = draw(attempt)
    if key(params) in taken and space.size() <= WALKED:
        left = [c for c in space.configurations() if key(c) not in taken]
        if left:
            return left[int(rng.integers(len(left)))]
    return params


def under_way(history: Sequence[Trial], pending: Pending) -> tuple[set[Key], range]:
    """What is taken already, and the numbers to draw for: the last of them is the one asked for.

    Pending trials that are only counted are drawn again, so that they are taken as well.
    """
    taken = {key(trial.params) for trial in history}
    if isinstance(pending, int):
        return taken, range(len(history), len(history) + pending + 1)
    number = len(history) + len(pending)
    return taken | {key(params) for params in pending}, range(number, number + 1)
