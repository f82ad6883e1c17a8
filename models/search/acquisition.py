"""What a trial promises: log expected improvement, and the points that are worth asking about.

Log expected improvement as in Ament, Daulton, Eriksson, Balandat, Bakshy, *Unexpected improvements
to expected improvement for Bayesian optimization*, NeurIPS 2023: it still tells points apart where
the improvement itself is zero in floating point.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx

Array = NDArray[np.float64]

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """ln E max(best - Y, 0) for Y ~ N(mean, deviation^2), (m,); smaller scores are better."""
    z = (best - mean) / deviation
    out = np.log(deviation) - 0.5 * z**2 - _LOG_ROOT_2_PI
    far = z < -25  # erfcx's factor is 1 to the last digits there; its expansion is 1 / z^2
    near = ~far
    # phi(z) + z Phi(z) = phi(z) (1 + z sqrt(pi / 2) erfcx(-z / sqrt 2))
    high = near & (z > 6)
    middle = near & ~high
    x = z[middle]
    out[middle] += np.log(
        np.maximum(1 + x * math.sqrt(math.pi / 2) * erfcx(-x / math.sqrt(2)), 1e-300)
    )
    out[far] += -2 * np.log(-z[far])
    out[high] = np.log(deviation[high]) + np.log(z[high])
    return np.asarray(out)


def neighbours(
    centres: Array,
    choices: NDArray[np.bool_],
    counts: NDArray[np.int64],
    many: int,
    width: float,
    rng: np.random.Generator,
    active: NDArray[np.bool_] | None = None,
) -> Array:
    """`many` points (many, d) near the centres (k, d), each with about two coordinates changed.

    A number moves by a normal step of `width`, reflected at the ends; a choice is drawn anew.
    active (k, d): which coordinates count in each centre, None for all. Only those change, and the
    others are drawn anew, in case that a changed choice makes them count.
    """
    k, d = centres.shape
    which = rng.integers(k, size=many)
    points = centres[which]
    if active is None:
        change = rng.random((many, d)) < min(1.0, 2.0 / d)
        change[np.arange(many), rng.integers(d, size=many)] = True
    else:
        there = active[which]
        points = np.where(there, points, rng.random((many, d)))
        share = 2.0 / np.maximum(there.sum(axis=1, keepdims=True), 1)
        change = rng.random((many, d)) < share
        change[np.arange(many), np.argmax(there * rng.random((many, d)), axis=1)] = True
        change &= there
    # Steps of all sizes: from fine to as wide as the range.
    steps = rng.normal(size=(many, d)) * width * 10 ** rng.uniform(-1, 0.5, size=(many, 1))
    moved = np.abs(points + steps)
    moved = np.where(moved > 1, np.abs(2 - moved), moved)
    drawn = (rng.integers(np.maximum(counts, 1), size=(many, d)) + 0.5) / np.maximum(counts, 1)
    return np.clip(np.where(change, np.where(choices, drawn, moved), points), 0.0, 1.0)
