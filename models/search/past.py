"""What earlier searches knew of the space: one process over the trials of all of them.

Each search measured on data of its own, so its losses have an offset and perhaps a scale of their
own; ranks within a search can't be joined either, since the middle of a search that began from a
memory is better than the best of a cold one. So each search is brought to the level of those before
it: what these predict at its points is what its losses are aligned to. Today's are joined the same
way, and scored on the scale of all the earlier ones together. How far the searches agree, and so
how much one says of another, is learnt from them (`Surrogate`); how far today's does, by `related`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.search.memory import Recall
from models.search.policy_net import Layout
from models.search.surrogate import Array, Surrogate, scores_of

LEAST = 4  # trials of earlier searches that make a predictor
_SCALES = 3.0  # a search whose spread is within this factor is taken to be on the same scale
_TOPS = 5
_CUT = 4.0  # distances of the quartiles beyond which a loss is bad enough


class Past:
    """One process over the evidence of a memory.

    Raises ValueError below `LEAST` trials; `past_of` answers None then. process: of the scores
    about their `mean`; searches (n,): the search of each. tops (5, d): the points that look best
    by all of it.
    """

    def __init__(self, memory: Recall, layout: Layout) -> None:
        if len(memory.unit) < LEAST:
            raise ValueError(f"a memory of {LEAST} trials is wanted, got {len(memory.unit)}")
        levels = aligned(memory, layout)
        self._levels = _Levels(memory.unit, levels, layout)
        scores = scores_of(levels)
        there = np.isfinite(levels)
        order = np.argsort(levels[there], kind="stable")
        self._known, self._scores = levels[there][order], scores[there][order]
        self.mean, self.searches = float(scores.mean()), memory.age
        self.process = _process(memory.unit, scores - self.mean, layout, self.searches)
        self.tops = memory.unit[np.argsort(self.predict(memory.unit), kind="stable")[:_TOPS]]

    def predict(self, points: Array) -> Array:
        """Scores (m,) of points (m, d) in what the searches have in common."""
        known, scores = self.process.explained(points)
        return np.asarray(self.mean + math.sqrt(self.process.agreement) * (scores @ known))

    def scores(self, points: Array, losses: Array) -> Array:
        """Today's losses (n,) at points (n, d) on the scale of `predict`; a failed trial (NaN) is
        as bad as the worst."""
        there = np.isfinite(losses)
        if not there.any():
            return np.full(len(losses), float(self._scores[-1]))
        levels = self._levels.beside(losses[there], points[there])
        out = np.empty(len(losses))
        out[there] = np.interp(levels, self._known, self._scores)
        # Better than ever before: on along the slope of the better half.
        half = max(len(self._known) // 2, 1)
        width = float(self._known[half] - self._known[0]) if len(self._known) > half else 0.0
        slope = float(self._scores[half] - self._scores[0]) / width if width > 0 else 0.0
        out[there] += slope * np.minimum(levels - self._known[0], 0.0)
        out[~there] = max(float(out[there].max()), float(self._scores[-1]))
        return out


def past_of(memory: Recall | None, layout: Layout) -> Past | None:
    """The past of a memory, fitted once; None without one, or while it holds too little."""
    if memory is None or np.isfinite(memory.loss).sum() < LEAST:
        return None
    if memory.past is None:
        memory.past = Past(memory, layout)
    found: Past = memory.past
    return found


def aligned(memory: Recall, layout: Layout) -> Array:
    """The losses (n,) of all searches on the scale of the oldest; NaN where a trial failed."""
    out = np.full(len(memory.loss), np.nan)
    known = np.zeros(len(out), dtype=bool)
    for age in sorted(set(memory.age.tolist()), reverse=True):
        rows = (memory.age == age) & np.isfinite(memory.loss)
        if not rows.any():
            continue
        losses = memory.loss[rows]
        if known.sum() < LEAST:
            out[rows] = losses - np.median(losses)
        else:
            before = _Levels(memory.unit[known], out[known], layout)
            out[rows] = before.beside(losses, memory.unit[rows])
        known |= rows
    return out


class _Levels:
    """Which level of the loss (n,) was found at which point (n, d), and losses brought to it."""

    def __init__(self, points: Array, levels: Array, layout: Layout) -> None:
        there = np.isfinite(levels)
        points, levels = points[there], levels[there]
        self._middle, self._size = float(np.median(levels)), _spread(levels)
        cut = np.clip((levels - self._middle) / (self._size or 1.0), -_CUT, _CUT)
        self._process = _process(points, cut, layout)

    def beside(self, losses: Array, points: Array) -> Array:
        """`losses` (m,) at `points` (m, d): offset by the median difference to what is expected
        there; the scale stays as it is unless the spread is of another order."""
        expected = self._middle + self._size * self._process.predict(points)[0]
        there, here = _spread(expected), _spread(losses)
        ratio = here / there if there > 0 and here > 0 else 1.0
        scale = 1.0 if 1 / _SCALES <= ratio <= _SCALES else 1 / ratio
        return np.asarray(losses * scale + np.median(expected - losses * scale))


def _process(
    points: Array, scores: Array, layout: Layout, searches: NDArray[np.int64] | None = None
) -> Surrogate:
    choices = np.zeros(len(layout.space), dtype=bool)
    choices[layout.choices] = True
    return Surrogate(points, scores, choices, together=layout.together, searches=searches)


def _spread(values: Array) -> float:
    """Distance of the quartiles, which a few bad trials don't move."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low)
