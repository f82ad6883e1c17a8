"""Whether a configuration can keep the goal's limits, before a trial is spent on it."""

from __future__ import annotations

from collections.abc import Sequence

from models.performance.foretelling import Performance
from models.performance.seen import Seen, seen
from models.records import Params, Trial
from models.search.objectives import Objective

HOPELESS = 0.05  # probability of keeping a limit, below which a configuration is passed over
TRUSTED = 0.5  # R2 on configurations that were left out, from which a prediction is believed
_MOST = 80  # trials of a family that are learnt from: it is asked after every trial


class Screen:
    """Says why a configuration is passed over, or None.

    It learns from what earlier searches have `past` and from the trials of this one, called
    `search`, fitted on about `rows` rows. A figure that is foretold badly on configurations that
    were left out screens nothing.
    """

    def __init__(
        self, goal: Objective, past: Sequence[Seen], *, rows: int = 0, search: str = "now"
    ) -> None:
        self.goal, self.past, self.rows, self.search = goal, tuple(past), rows, search
        self._known: tuple[int, Performance, frozenset[str]] | None = None

    def __call__(self, params: Params, trials: Sequence[Trial]) -> str | None:
        if not self.goal.limits:
            return None
        performance, trusted = self._after(trials)
        for limit in self.goal.limits:
            if limit.metric not in trusted:
                continue
            (chance,) = performance.keeps([params], limit, rows=self.rows, search=self.search)
            if chance < HOPELESS:  # NaN is not
                told = performance.foretell(
                    params, limit.metric, rows=self.rows, search=self.search
                )
                return f"{limit} is kept with {chance:.1%} probability, foretold {told}"
        return None

    def _after(self, trials: Sequence[Trial]) -> tuple[Performance, frozenset[str]]:
        """What is foretold after `trials`, and of which limits that is believed."""
        if self._known is None or self._known[0] != len(trials):
            names = dict.fromkeys(limit.metric for limit in self.goal.limits)
            learnt = [*self.past, *seen(trials, self.search)]
            performance = Performance(learnt, tuple(names), most=_MOST)
            believed = (r.target for r in performance.reports() if (r.r2 or 0.0) >= TRUSTED)
            self._known = len(trials), performance, frozenset(believed)
        return self._known[1], self._known[2]
