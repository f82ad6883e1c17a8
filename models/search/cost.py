"""What a trial costs, and what that is worth: expected improvement per second, cooled.

Seconds multiply: twice the rows, trees or epochs take about twice as long. So their logarithm is
close to linear in a parameter's unit, since sizes are searched on a logarithmic scale; a choice,
the family among them, shifts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from models.records import Params, Trial
from models.search.regression import Array, Regression
from models.space import Categorical, Space

_SHIFT = 1.5  # deviation of what a choice adds, in logarithms
_SLOPE = 2.0  # of what a number adds from one end of its range to the other
_NOISE = 0.3
_STRENGTH = 3.0
_LEAST = 1e-4  # seconds; a clock says 0


def full_seconds(trial: Trial) -> float | None:
    """What the trial takes to its end: of one that was stopped, in proportion; None: not known.

    A trial that ran out of time took at least that; one that failed otherwise says nothing.
    """
    if trial.seconds <= 0:
        return None
    if trial.status == "failed" and "FitTimeout" not in trial.error:
        return None
    if trial.status == "stopped" and 0 < trial.fidelity < 1:
        return trial.seconds / trial.fidelity
    return trial.seconds


class CostModel:
    """Seconds of any configuration of `space`, learnt from `trials` of this search."""

    def __init__(self, space: Space, trials: Sequence[Trial]) -> None:
        self.space = space
        self._choices = [p for p in space.parameters if isinstance(p, Categorical)]
        known = [(t.params, s) for t in trials if (s := full_seconds(t)) is not None]
        self.count = len(known)
        logs = np.log([max(s, _LEAST) for _, s in known]) if known else np.zeros(0)
        self._middle = float(logs.mean()) if known else 0.0
        width = 1 + len(space) + sum(len(p.choices) for p in self._choices)
        spreads = np.full(width, _SHIFT)
        spreads[1 : 1 + len(space)] = _SLOPE
        self._regression = Regression.fit(
            self._rows([params for params, _ in known]) if known else np.zeros((0, width)),
            logs - self._middle,
            start=np.zeros(width),
            spreads=spreads,
            noise=_NOISE,
            strength=_STRENGTH,
        )

    def seconds(self, points: Array) -> Array:
        """Median seconds (m,) at points (m, d) of the unit cube."""
        location, _ = self._regression.predict(self._rows(self.space.decode_many(points)))
        return np.asarray(np.exp(location + self._middle))

    def at_most(self, params: Params, level: float = 0.9) -> float:
        """Seconds that the configuration does not exceed with that probability."""
        location, scale = self._regression.one(self._rows([params])[0])
        far = float(student.ppf(level, self._regression.freedom))
        return float(np.exp(location + self._middle + far * scale))

    def _rows(self, configurations: Sequence[Params]) -> Array:
        """1, the units of active numbers around their middle, an indicator per active choice."""
        unit = self.space.encode_many(list(configurations)) - 0.5
        parts: list[NDArray[np.float64]] = [np.ones((len(unit), 1))]
        active = np.array([[p.name in c for p in self.space.parameters] for c in configurations])
        listed = np.array([isinstance(p, Categorical) for p in self.space.parameters])
        parts.append(np.where(active & ~listed, unit, 0.0))
        for choice in self._choices:
            told = [[c.get(choice.name) == option for option in choice.choices]
                    for c in configurations]  # fmt: skip
            parts.append(np.array(told, dtype=np.float64))
        return np.hstack(parts)


@dataclass(frozen=True, slots=True)
class Left:
    """What a search may still spend: seconds and trials, and the share of its seconds left."""

    seconds: float
    trials: int
    share: float = 1.0


def weigh(
    promise: Array, seconds: Array, left_seconds: float, left_trials: int, share: float = 1.0
) -> Array:
    """The promise (m,), log expected improvement, of points against their predicted seconds (m,).

    Where the trials left fit into the seconds left, the promise alone counts. Where they do not,
    each second is worth something: log EI minus share times log seconds, so that cheap points come
    first while most of the seconds are left, and cost no longer counts at the end (EI-cool: Lee,
    Perrone, Archambeau, Seeger, *Cost-aware Bayesian optimization*, 2020). A point that is not
    predicted to end in time is behind all that are.
    """
    if left_seconds <= 0 or left_trials <= 0 or not len(promise):
        return promise
    fits = left_seconds / float(np.median(seconds))
    if fits >= left_trials:
        return promise
    value = promise - min(max(share, 0.0), 1.0) * np.log(np.maximum(seconds, _LEAST))
    late = seconds > left_seconds
    return np.asarray(np.where(late, value - (np.ptp(value) + 1.0), value))
