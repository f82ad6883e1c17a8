"""CORAL: source rows moved until their means and covariance are the target's.

Sun, Feng and Saenko, 'Return of frustratingly easy domain adaptation' (2016): whiten the source,
colour it as the target. A model that learns the moved rows is asked the target's rows as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1.0  # on columns of unit variance, as in the paper
_SPREAD = 1e-6
_LARGEST = float(np.finfo(np.float32).max)


def aligned(
    source: NDArray[np.float32], target: NDArray[np.float32], *, strength: float = 1.0
) -> NDArray[np.float32]:
    """`source` (n, d) moved by `strength` of the way to the moments of `target` (m, d).

    NaN stays NaN, and stands at the mean in the moments. Columns without a spread on either side
    are left as they are.
    """
    x, y = source.astype(np.float64), target.astype(np.float64)
    if len(x) < 2 or len(y) < 2 or strength <= 0:
        return source
    with np.errstate(invalid="ignore"):
        mean = _means(x), _means(y)
    filled = [np.where(np.isnan(side), at, side) for side, at in zip((x, y), mean, strict=True)]
    pooled = np.concatenate(filled)
    unit = pooled.std(axis=0)
    kept = (filled[0].std(axis=0) > _SPREAD * np.maximum(unit, 1e-30)) & (
        filled[1].std(axis=0) > _SPREAD * np.maximum(unit, 1e-30)
    )
    kept &= np.isfinite(unit) & (unit > 0)
    if not kept.any():
        return source
    scaled = [
        (side[:, kept] - at[kept]) / unit[kept] for side, at in zip(filled, mean, strict=True)
    ]
    first, second = (np.cov(side, rowvar=False).reshape(kept.sum(), kept.sum()) for side in scaled)
    own = np.eye(len(first)) * _RIDGE
    turn = _power(first + own, -0.5) @ _power(second + own, 0.5)
    moved = (scaled[0] @ turn) * unit[kept] + mean[1][kept]
    result = x.copy()
    result[:, kept] += strength * (moved - filled[0][:, kept])
    return np.clip(result, -_LARGEST, _LARGEST).astype(np.float32)


def _means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(rows)
    sums = np.where(known, rows, 0.0).sum(axis=0)
    return np.asarray(sums / np.maximum(known.sum(axis=0), 1))


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-12) ** exponent) @ vectors.T)
