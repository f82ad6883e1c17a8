"""Which of the promising points is tried next: an acquisition that looks beyond the next trial.

Expected improvement is right for the last trial of a function that the process describes. Here the
points that either view of the trials finds promising are scored by a linear policy: what both views
expect of them, and how far they lie from what was tried. Policy gradient on searches of other
problems, real and synthetic ones, where what each choice leads to is known, weighs the distance
0.3 to 0.6 of the improvement, one or two trials ahead; further ahead it is too noisy to say
(`tests/benchmarks/tuner/teach.py`). A half was then held to plain improvement by whole searches.
Volpp, Froehlich, Fischer, Doerr, Falkner, Hutter, Daniel, *Meta-learning acquisition functions for
transfer learning in Bayesian optimization*, ICLR 2020, teach a network so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.search.acquisition import neighbours
from models.search.policy_net import Policy
from models.search.predictor import Pool, Predictor

Array = NDArray[np.float64]

WEIGHTS: Final = {
    "ranks": 0.5,  # log expected improvement by ranks
    "values": 0.5,  # by values
    "distance": 0.5,  # log distance to the nearest trial, root mean square over the parameters
}
TOPS = 64  # of each view are scored
_NEAR = 0.003  # nearer is no nearer
_FLOOR = -10.0  # log expected improvement below the best of the list says no more than this


def judged(
    views: Sequence[Predictor], policy: Policy, pool: Pool, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Points (m, d), the best choice first, and what each is worth (m,), in log improvement.

    views: the trials by ranks and by values, without a memory.
    """
    points, value = _pool(views, policy, pool, rng)
    best = [np.argsort(-v, kind="stable")[:TOPS] for v in value]
    tops = np.unique(np.concatenate(best))
    merit = np.array(list(WEIGHTS.values())) @ features(views, points[tops])
    # All else comes after them, for spaces where the best have been tried.
    worth = np.mean(value, axis=0)
    worth += merit.min() - max(float(worth.max()), 0.0) - 1.0
    worth[tops] = merit
    ranking = np.argsort(-worth, kind="stable")
    return points[ranking], worth[ranking]


def features(views: Sequence[Predictor], points: Array) -> Array:
    """What `WEIGHTS` weighs (3, m) of points (m, d); improvements count from the best of them."""
    ei = [view.promise(points) for view in views]
    return np.stack([*(np.maximum(e - e.max(), _FLOOR) for e in ei), distance(points, views[0])])


def _pool(
    views: Sequence[Predictor], policy: Policy, pool: Pool, rng: np.random.Generator
) -> tuple[Array, list[Array]]:
    """Points everywhere and near what either view finds good, (m, d), and both promises (m,)."""
    first = views[0]
    layout, d = first.layout, len(first.layout.space)
    told = [view.told() for view in views]

    def near(centres: Array, many: int, width: float) -> Array:
        active = layout.space.canonical_many(centres)[1] if layout.conditional else None
        return neighbours(centres, first.choices, first.counts, many, width, rng, active)

    k = max(3, len(told[0]) // 10)
    good = np.unique(np.concatenate([np.argsort(t, kind="stable")[:k] for t in told]))
    parts = [rng.random((pool.uniform, d)), near(first.points[good], pool.local, pool.width)]
    if pool.emitted:
        parts.append(policy.emit_many(rng.random((pool.emitted, d))))
    points, _ = layout.space.canonical_many(np.vstack(parts))
    value = [view.promise(points) for view in views]
    for turn in range(pool.refine):
        best = np.unique(np.concatenate([np.argsort(-v, kind="stable")[:4] for v in value]))
        width = pool.width / (2 + 2 * turn)
        more, _ = layout.space.canonical_many(near(points[best], 120, width))
        points = np.vstack([points, more])
        value = [np.append(v, s.promise(more)) for v, s in zip(value, views, strict=True)]
    return points, value


def distance(points: Array, view: Predictor) -> Array:
    """Log distance (m,) of points (m, d) to the nearest trial; choices that differ are 1 apart."""
    gap = np.abs(points[:, None] - view.points[None])
    gap = np.where(view.choices, gap > 1e-9, gap)
    return np.asarray(np.log(np.sqrt((gap**2).mean(axis=2).min(axis=1)) + _NEAR))
