"""What the trials so far say of a configuration not yet tried, and which one to try next.

The predictor is a Gaussian process (`surrogate`) over the trials of this search, or one over those
of earlier searches too (`related`), where each search has a function of its own that is akin to the
others'. Feurer, Letham, Hutter, Bakshy, *Practical transfer learning for Bayesian optimization*
(2022) weigh past surrogates by how they rank the new trials; here how akin they are is averaged
over, and a memory is dropped when the trials are likelier without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.records import Params, Trial
from models.search.acquisition import log_expected_improvement, neighbours
from models.search.imagination import imagined
from models.search.memory import Recall
from models.search.past import past_of
from models.search.policy_net import Layout, Policy
from models.search.related import Related
from models.search.reward import losses_of
from models.search.surrogate import Array, Prior, Surrogate, scores_of

MOST = 300  # trials that enter: beyond, the best and the latest do
_VALUES = Prior(noise=0.005, noise_spread=2.0)
_ODDS = 0.7  # log odds, before a trial, that a memory has to do with today's task
_KNOWN = 1 / (1 + math.exp(-_ODDS))
_REFINE = 6  # rounds that a pool of a warm search has besides: what it asks is mostly fine choice


@dataclass(frozen=True, slots=True)
class Pool:
    """How many points are weighed before each trial, and of which kind."""

    uniform: int = 400
    local: int = 600
    emitted: int = 150  # by the policy as it stands
    rounds: int = 0  # in which the policy is taught inside the predictor
    imagined: int = 64  # points of each such round
    refine: int = 4  # times the neighbours of the most promising five are weighed too
    width: float = 0.1  # of a step, in units of the range


class Predictor:
    """Score and its uncertainty anywhere in the space, after `trials` (told) and `pending` ones.

    There are two views of the same trials, and proposals that take turns between them do better
    than either: half by ranks with a noise that is there, which noisy and skewed losses want; or
    by their `values` with a noise that may be next to none, which sees how much better the best is.
    """

    def __init__(
        self,
        layout: Layout,
        trials: Sequence[Trial],
        memory: Recall | None = None,
        pending: Sequence[Params] = (),
        *,
        values: bool = False,
    ) -> None:
        self.layout, space = layout, layout.space
        self.choices = np.zeros(len(space), dtype=bool)
        self.choices[layout.choices] = True
        self.counts = np.ones(len(space), dtype=np.int64)
        self.counts[layout.choices] = layout.counts
        losses = losses_of(trials)
        kept = _kept(losses)
        self.losses = losses[kept]
        self.points = space.encode_many([trials[i].params for i in kept])
        self._prior = _VALUES if values else Prior()
        self.scores = scores_of(self.losses, 0.0 if values else 0.5)
        self._past = past_of(memory, layout)
        self._process = self._judged()
        self.remembers = self._past is not None
        if pending:
            # Asynchronous: what is under way is taken to come out as predicted (a kriging
            # believer: Ginsbourger, Le Riche, Carraro, 2010), so that it is not asked for again.
            there = space.encode_many(list(pending))
            believed = self._process.predict(there)[0]
            self.points = np.vstack([self.points, there])
            self.scores = np.append(self.scores, believed)
            if self._past is not None and isinstance(self._process, Related):
                weights = self._process.weights  # what is believed is no evidence
                self._process = Related(self._past, self.points, self.scores, weights)
            else:
                self._process = self._fitted(self.scores)

        self._told = self.predict(self.points)[0]
        self._best = float(self._told.min()) if len(self._told) else 0.0

    def _judged(self) -> Surrogate | Related:
        """With the memory or without it, whichever the trials speak for.

        `trust` is the probability of the first; below a half, the memory is gone. Without it there
        are two processes, one with the hyperparameters of the past, one with those that fit today's
        trials best, which is flattered by being fitted; the odds are against their geometric mean.
        """
        self.trust = 0.0
        if self._past is not None:
            scores = self._past.scores(self.points, self.losses)
            beside, alone = Related(self._past, self.points, scores), self._fitted(scores)
            without = (beside.apart + alone.evidence) / 2
            odds = min(max(_ODDS + beside.evidence - without, -50.0), 50.0)
            self.trust = 1 / (1 + math.exp(-odds)) if len(scores) > 1 else _KNOWN
            if self.trust >= 0.5:
                self.scores = scores
                return beside
            self._past = None
        return self._fitted(self.scores)

    def _fitted(self, scores: Array) -> Surrogate:
        centred = scores - scores.mean() if self._past is not None else scores
        return Surrogate(
            self.points, centred, self.choices, prior=self._prior, together=self.layout.together
        )

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) of the scores at canonical points (m, d)."""
        return self._process.predict(points)

    def told(self) -> Array:
        """The means (n,) at the points that were tried or are under way."""
        return self._told

    def promise(self, points: Array) -> Array:
        """Log expected improvement (m,) over the best mean so far."""
        if isinstance(self._process, Related):
            return self._process.promise(points)
        mean, deviation = self.predict(points)
        return log_expected_improvement(mean, deviation, self._best)

    def ranking(self, policy: Policy, pool: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        """Points (m, d) that were weighed, most promising first, with their promise (m,)."""
        space, d = self.layout.space, len(self.layout.space)
        order, promise = np.argsort(self._told, kind="stable"), self.promise

        def near(centres: Array, many: int, width: float) -> Array:
            active = space.canonical_many(centres)[1] if self.layout.conditional else None
            return neighbours(centres, self.choices, self.counts, many, width, rng, active)

        parts = [rng.random((pool.uniform, d))]
        if pool.local:
            parts.append(
                near(self.points[order[: max(3, len(order) // 10)]], pool.local, pool.width)
            )
        if self._past is not None:
            tops = self._past.tops
            parts += [tops, near(tops, pool.local // 2, pool.width)]
        if pool.emitted:
            parts.append(policy.emit_many(rng.random((pool.emitted, d))))
        if pool.rounds:
            parts.append(imagined(policy, promise, pool.rounds, pool.imagined, rng))
        points, _ = space.canonical_many(np.vstack(parts))
        value = promise(points)
        for turn in range(pool.refine + _REFINE * (self._past is not None)):
            centres = points[np.argsort(-value, kind="stable")[:5]]
            more, _ = space.canonical_many(near(centres, 100, pool.width / (2 + 2 * turn)))
            points, value = np.vstack([points, more]), np.append(value, promise(more))
        ranking = np.argsort(-value, kind="stable")
        return points[ranking], value[ranking]

    def slope(self) -> float:
        """Units of the loss per unit of score, over the better half of what completed."""
        there = np.isfinite(self.losses)
        loss, score = self.losses[there], self.scores[: len(self.losses)][there]
        half = score <= np.median(score) if len(score) else there
        width = float(np.ptp(score[half])) if half.any() else 0.0
        return float(np.ptp(loss[half])) / width if width > 0 else 0.0

    def in_losses(self, scores: Array) -> Array:
        """Scores (m,) as losses: between those seen by interpolation, beyond by the slope."""
        there = np.isfinite(self.losses)
        order = np.argsort(self.scores[: len(self.losses)][there], kind="stable")
        known = self.scores[: len(self.losses)][there][order]
        values = np.sort(self.losses[there])
        below = np.minimum(scores - known[0], 0.0) * self.slope()
        return np.asarray(np.interp(scores, known, values) + below)

    def importance(self, rng: np.random.Generator, many: int = 512) -> Array:
        """Share (d,) of each parameter in the variance of the predicted score; sums to 1.

        Total effects after Jansen (1999): how much the mean moves when one coordinate is redrawn.
        """
        space, d = self.layout.space, len(self.layout.space)
        points = rng.random((many, d))
        before = self.predict(space.canonical_many(points)[0])[0]
        effect = np.zeros(d)
        for j in range(d):
            moved = points.copy()
            moved[:, j] = rng.random(many)
            effect[j] = ((self.predict(space.canonical_many(moved)[0])[0] - before) ** 2).mean()
        total = float(effect.sum())
        return effect / total if total > 0 else np.full(d, 1 / max(d, 1))


def _kept(losses: Array) -> NDArray[np.int64]:
    if len(losses) <= MOST:
        return np.arange(len(losses))
    best = np.argsort(np.where(np.isnan(losses), np.inf, losses), kind="stable")[: MOST // 2]
    return np.union1d(best, np.arange(len(losses) - MOST // 2, len(losses)))
