"""Weights on a grid of 255 steps: eight bits each, and one step in float32 a row or column.

The network itself answers with the rounded weights, so whatever holds them in eight bits answers
exactly as it does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOP = 127


def steps(matrix: NDArray[np.float32], *, columns: bool = False) -> NDArray[np.float32]:
    """The step of each row (rows, 1, ...), or of each column (1, columns): its largest size falls
    on 127. A tall narrow table has few columns, and so few steps."""
    others = 0 if columns else tuple(range(1, matrix.ndim))
    largest = np.abs(matrix).max(axis=others, keepdims=True, initial=0.0)
    return np.where(largest > 0, largest / _TOP, 1.0).astype(np.float32)


def whole(matrix: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.int8]:
    """The nearest whole number of steps of each weight."""
    found: NDArray[np.int8] = np.clip(np.rint(matrix / step), -_TOP, _TOP).astype(np.int8)
    return found


def rounded(matrix: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix with each weight on its grid.

    >>> m = np.float32([[127.0, -64.4, 0.3], [0.0, 0.0, 0.0]])
    >>> rounded(m, steps(m)).tolist()
    [[127.0, -64.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return np.asarray(whole(matrix, step).astype(np.float32) * step)
