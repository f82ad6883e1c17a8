"""Which running trial cannot win any more, by its learning curve and those of finished trials.

A fit that goes in steps (trees, epochs, rows) tells its loss on the way. What is left to gain from
fidelity f to the end, ln(final / loss at f), is learnt from the finished trials of the same family:
a Bayesian linear regression (see `regression`) on how much the last step gained and on how far the
trial is behind the best one at f, wide while few trials have finished. A trial is stopped when
the probability that it ends below the best loss so far is under `CHANCE`: freeze-thaw in spirit
(Swersky, Snoek, Adams, 2014), with the one rule in place of a process over all curves. Until
`LEAST` trials of a family have finished, none of it is stopped.

A decision depends on the trials that had ended when the trial was asked for, and on its own curve:
never on time. The same seed and order of ends so give the same decisions, and they can be made
again from the journal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from models.records import Params, Trial
from models.search.regression import Regression
from models.search.reward import loss_of

Curve = Sequence[tuple[float, float]]

CHANCE = 0.01  # of winning, under which a trial is stopped; it is asked up to three times a trial
LEAST = 2  # finished trials of a family with a curve before any is stopped
_TINY = 1e-9  # a loss of 0 has no logarithm


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of a family before it has curves; `gain` is of the last step's gain."""

    gain: float = -0.7  # what is still to come, as a share of the last step's gain; its deviation
    gain_spread: float = 0.5
    behind_spread: float = 0.3  # of the slope in the distance behind the best
    level_spread: float = 0.5  # of what is gained in any case, in logarithms
    noise: float = 0.1  # deviation of the rest, in logarithms
    strength: float = 2.0  # how many trials that deviation is worth


# Forests average: what is left is small. Measured, as the default is, on curves of real tables.
BELIEFS = {"forest": Belief(noise=0.02), "hgb": Belief(noise=0.03)}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a trial will end with: `loss`, the median, and the `chance` that it is a new best.

    spread: of the final loss's logarithm, as the scale of a t with `freedom` degrees.
    """

    loss: float
    spread: float
    freedom: float
    chance: float
    fidelity: float
    best: float

    @property
    def hopeless(self) -> bool:
        return self.chance < CHANCE

    def __str__(self) -> str:
        return (
            f"stopped at {self.fidelity:.0%}: it was to end at {self.loss:.4g}, with a chance of "
            f"{self.chance:.2g} to beat {self.best:.4g}"
        )


class Judge:
    """Judges one trial of `params` by the trials that had ended when it was asked for.

    finished: of this search; earlier: of searches before it, whose curves teach and whose losses
    are no measure of today's.
    """

    def __init__(
        self,
        params: Params,
        finished: Sequence[Trial],
        earlier: Sequence[Trial] = (),
        belief: Belief | None = None,
    ) -> None:
        family = params.get("family")
        self.belief = belief or BELIEFS.get(str(family), Belief())
        alike = [t for t in (*finished, *earlier) if t.params.get("family") == family]
        self._curves = [found for t in alike if (found := _finished(t)) is not None]
        losses = [loss for t in finished if (loss := loss_of(t)) is not None]
        self.best = min(losses, default=None)

    def forecast(self, curve: Curve) -> Forecast | None:
        """What the trial with the `curve` so far will end with; None: nothing to go by."""
        own = _logs(curve)
        if self.best is None or len(own) == 0 or own[-1, 0] >= 0:
            return None
        known = [c for c in self._curves if c[0, 0] <= own[-1, 0] + 1e-9]
        if len(known) < LEAST:
            return None
        at = own[-1, 0]
        before = own[-2, 0] if len(own) > 1 else None
        there = np.array([np.interp(at, c[:, 0], c[:, 1]) for c in known])
        lead = float(min(there.min(), own[-1, 1]))
        rows = np.array([_features(c, at, before, lead) for c in known])
        left = np.array([c[-1, 1] for c in known]) - there
        belief = self.belief
        regression = Regression.fit(
            rows,
            left,
            start=np.array([0.0, belief.gain, 0.0]),
            spreads=np.array([belief.level_spread, belief.gain_spread, belief.behind_spread]),
            noise=belief.noise,
            strength=belief.strength,
        )
        mean, spread = regression.one(_features(own, at, before, lead))
        freedom = regression.freedom
        end = float(own[-1, 1]) + mean
        best = math.log(max(self.best, _TINY))
        chance = float(student.cdf((best - end) / spread, freedom))
        return Forecast(math.exp(end), spread, freedom, chance, math.exp(at), self.best)


def _features(
    curve: NDArray[np.float64], at: float, before: float | None, lead: float
) -> NDArray[np.float64]:
    """1, the gain since `before`, and how far it is behind the best at that fidelity."""
    now = float(np.interp(at, curve[:, 0], curve[:, 1]))
    gained = 0.0
    if before is not None and curve[0, 0] <= before + 1e-9:
        gained = float(np.interp(before, curve[:, 0], curve[:, 1])) - now
    return np.array([1.0, gained, now - lead])


def _finished(trial: Trial) -> NDArray[np.float64] | None:
    """The logarithms of a finished trial's curve, its end included; None without a curve."""
    loss = loss_of(trial)
    if loss is None or not trial.curve:
        return None
    logs = _logs([point for point in trial.curve if point[0] < 1] + [(1.0, loss)])
    return logs if len(logs) > 1 else None


def _logs(curve: Curve) -> NDArray[np.float64]:
    """(ln fidelity, ln loss) of the points with a finite loss, in order of fidelity."""
    kept = sorted((f, loss) for f, loss in curve if math.isfinite(loss))
    return np.array([(math.log(f), math.log(max(loss, _TINY))) for f, loss in kept]).reshape(-1, 2)
