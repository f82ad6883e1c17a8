"""The performance predictor: latency, cost, size and score of a configuration before it is tried.

Each family and figure has a shape of its own (`shapes`), learnt from all trials that were ever seen
of that family; what answering takes only from those that were measured in the same form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from models.performance.features import Features
from models.performance.report import Report, report
from models.performance.seen import ANSWERING, TIMED, Seen, growth, is_ratio
from models.performance.shapes import PROCESS, RIDGE, Shape, chosen
from models.records import Params
from models.search.objectives import METRICS, Limit

Array = NDArray[np.float64]

LEAST = 5  # configurations of a family, below which nothing is foretold of it
MOST = 200  # of its trials that are learnt from, the newest
_SURE = float(norm.ppf(0.95))  # half of a 90 % interval, in deviations
_PASSES = 4  # in which times are cut
_FAR = 3.0  # robust deviations from what the others say, beyond which a time is cut
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Foretold:
    """A figure as it is measured, and the interval that holds it with 90 % probability."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


class Performance:
    """Learns from trials of any searches, in order, and foretells each of `targets`.

    What answering takes is learnt, for each family, from trials that were measured in the form of
    its latest. kinds: the shapes that a figure may have. Too few trials of a family, below `least`
    configurations, are no error: it is not foretold.
    """

    def __init__(
        self,
        trials: Sequence[Seen],
        targets: Sequence[str],
        *,
        kinds: Sequence[str] = (RIDGE, PROCESS),
        most: int = MOST,
        least: int = LEAST,
    ) -> None:
        self.targets, self.trials = tuple(targets), len(trials)
        self.searches = len({one.search for one in trials})
        self._learnt: dict[tuple[str, str], _Learnt] = {}
        families = dict.fromkeys(one.family for one in trials)
        self._served = {one.family: one.served for one in trials}
        for target in self.targets:
            usable = [one for one in trials if self._usable(one, target)]
            for family in families:
                own = [one for one in usable if one.family == family][-most:]
                if len({one.configuration for one in own}) >= least:
                    self._learnt[target, family] = _Learnt(own, target, kinds)

    def _usable(self, one: Seen, target: str) -> bool:
        if target not in one.figures or (is_ratio(target) and one.figures[target] <= 0):
            return False
        return target not in ANSWERING or one.served is self._served.get(one.family)

    def knows(self, target: str, family: str) -> bool:
        return (target, family) in self._learnt

    def foretell(
        self, params: Params, target: str, *, rows: int = 0, search: str = ""
    ) -> Foretold | None:
        """The figure of a configuration fitted on `rows` (0: as many as lately), or None.

        `search` is the one it will be part of, where some of its trials are known already.
        """
        mean, deviation = self.levels([params], target, rows=rows, search=search)
        if not np.isfinite(mean[0]):
            return None
        back = math.exp if is_ratio(target) else float
        ends = (min(mean[0] + side * deviation[0], 700.0) for side in (0.0, -_SURE, _SURE))
        return Foretold(*map(back, ends))

    def levels(
        self,
        params: Sequence[Params],
        target: str,
        *,
        rows: int = 0,
        search: str = "",
        noise: bool = True,
    ) -> tuple[Array, Array]:
        """Mean and deviation (n,) of the figure, of its logarithm where it is a ratio; NaN where
        nothing is foretold. noise: the deviation is of one measurement, not of many."""
        mean, deviation = np.full(len(params), np.nan), np.full(len(params), np.nan)
        families = np.array([str(one.get("family", "")) for one in params])
        for family in np.unique(families):
            learnt = self._learnt.get((target, str(family)))
            if learnt is not None:
                here = np.flatnonzero(families == family)
                mean[here], deviation[here] = learnt.of(
                    [params[int(i)] for i in here], rows, search, noise
                )
        return mean, deviation

    def keeps(
        self, params: Sequence[Params], limit: Limit, *, rows: int = 0, search: str = ""
    ) -> Array:
        """Probability (n,) that each configuration keeps a limit; NaN where nothing can be said."""
        mean, deviation = self.levels(params, limit.metric, rows=rows, search=search)
        at = math.log(limit.value) if is_ratio(limit.metric) else limit.value
        below = norm.cdf((at - mean) / np.maximum(deviation, _TINY))
        return np.asarray(1.0 - below if METRICS[limit.metric].larger_is_better else below)

    def reports(self) -> list[Report]:
        """Of each target that is foretold: how well, on configurations that were left out."""
        found = []
        for target in self.targets:
            parts = {f: one for (t, f), one in self._learnt.items() if t == target}
            if parts:
                held = [one.held_out() for one in parts.values()]
                real, told, inside = (np.concatenate([row[i] for row in held]) for i in range(3))
                shapes = {family: one.shape.kind for family, one in parts.items()}
                found.append(report(target, real, told, inside.astype(bool), shapes))
        return found

    def report_on(self, trials: Sequence[Seen], target: str) -> Report | None:
        """How well it foretells trials that it has not learnt; None where it can say nothing."""
        real, told, inside = [], [], []
        for one in trials:
            if not self._usable(one, target):
                continue
            guess = self.foretell(one.params, target, rows=one.rows)
            if guess is not None:
                real.append(one.figures[target])
                told.append(guess.value)
                inside.append(guess.low <= real[-1] <= guess.high)
        if not real:
            return None
        shapes = {f: learnt.shape.kind for (t, f), learnt in self._learnt.items() if t == target}
        return report(target, np.array(real), np.array(told), np.array(inside), shapes)


def _bent(y: Array, told: Array) -> Array:
    """Targets (n,) without what lies far from what the others say: Huber's pseudo-values."""
    reach = _FAR * 1.4826 * max(float(np.median(np.abs(y - told))), _TINY)
    return np.asarray(told + np.clip(y - told, -reach, reach))


class _Learnt:
    """One figure of one family."""

    def __init__(self, trials: Sequence[Seen], target: str, kinds: Sequence[str]) -> None:
        self.ratio, self._growth = is_ratio(target), growth(target)
        params, rows = [one.params for one in trials], [one.rows for one in trials]
        known = [count for count in rows if count > 0]
        self._rows = known[-1] if known else 1  # as many as lately
        self._features = Features.fit(params, rows)
        searched = dict.fromkeys(one.search for one in trials)
        self._names = {name: place for place, name in enumerate(searched)}
        configurations = {one.configuration: place for place, one in enumerate(trials)}
        groups = np.array([configurations[one.configuration] for one in trials])
        searches = np.array([self._names[one.search] for one in trials])
        # few configurations tell a deviation badly: as wide as Student's t at the interval's ends
        freedom = max(len(configurations) - 3, 2)
        self._wider = float(student.ppf(0.95, freedom)) / _SURE
        y = np.array([self._turned(one.figures[target], one.rows) for one in trials])
        self._real, self._counts = np.array([one.figures[target] for one in trials]), rows
        self._middle, self._size = float(y.mean()), max(float(y.std()), _TINY)
        points = self._features.points(params, rows)
        self._y = y = (y - self._middle) / self._size
        self.shape: Shape = chosen(self._features, points, y, groups, searches, kinds)
        for _ in range(_PASSES if target in TIMED else 0):
            # while something else had the machine, a clock says far too much
            told = self._y - self.shape.gaussian.left_out
            bent = _bent(y, told)
            if np.allclose(bent, self._y):
                break
            self._y, kinds = bent, [self.shape.kind]
            self.shape = chosen(self._features, points, bent, groups, searches, kinds)

    def of(
        self, params: Sequence[Params], rows: int, search: str, noise: bool
    ) -> tuple[Array, Array]:
        """Mean and deviation (n,), of the logarithm where the figure is a ratio."""
        count = rows or self._rows
        points = self._features.points(params, [count] * len(params))
        known = np.full(len(params), self._names.get(search, -1))
        mean, variance = self.shape.predict(points, known)
        deviation = self._wider * self.shape.gaussian.spread(variance, noise=noise)
        return self._middle + self._size * mean + self._grown(count), self._size * deviation

    def held_out(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """(measured, foretold by the others, whether within the interval) of what was learnt."""
        gaussian = self.shape.gaussian
        told = self._middle + self._size * (self._y - gaussian.left_out)
        told = told + np.array([self._grown(count) for count in self._counts])
        reach = _SURE * self._wider * np.sqrt(gaussian.factor * gaussian.expected)
        back = np.exp(np.minimum(told, 700.0)) if self.ratio else told
        return self._real, back, np.abs(gaussian.left_out) <= reach

    def _turned(self, value: float, rows: int) -> float:
        return (math.log(value) if self.ratio else value) - self._grown(rows)

    def _grown(self, rows: int) -> float:
        """What so many rows add to the logarithm, before any trial says otherwise."""
        return self._growth * math.log(rows or self._rows)
