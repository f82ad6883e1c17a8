"""A student learns from a teacher's probabilities, which say more of a row than its label does.

Hinton, Vinyals, Dean, *Distilling the knowledge in a neural network*, 2015: at a temperature T the
student's scores are drawn to the teacher's, weighed with T squared so that the gradients keep their
size, beside the labels themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.encoding import Encoded

LABELS = 0.1  # of the loss; the rest is the teacher's
LABELS_OF_TEXTS = 0.3  # without made-up rows
NO_LABEL = -1
_MINGLED = 0.3  # of the columns of a made-up row are another row's


def loss(
    teacher: Tensor,
    y: Tensor,
    temperature: float,
    labels: float = LABELS,
    weights: Tensor | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of scores (m, k) at rows (m,), given the teacher's scores (n, k) and labels (n,).

    A label below 0 is not known: there the teacher alone counts. `weights` (n,) say how much each
    row counts, of either part; None: all alike.
    """
    soft = torch.softmax(teacher / temperature, dim=1)

    def of(scores: Tensor, rows: Tensor) -> Tensor:
        counts = None if weights is None else weights[rows]
        drawn = functional.kl_div(
            functional.log_softmax(scores / temperature, dim=1), soft[rows], reduction="none"
        )
        soft_part = _mean(drawn.sum(1), counts)
        known = y[rows] >= 0
        if not known.any():
            return (1 - labels) * temperature**2 * soft_part
        hard = functional.cross_entropy(scores[known], y[rows][known], reduction="none")
        hard_part = _mean(hard, None if counts is None else counts[known])
        return labels * hard_part + (1 - labels) * temperature**2 * soft_part

    return of


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).mean()


def mingled(
    rows: Encoded,
    count: int,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> Encoded:
    """`count` made-up rows: each a real one with some columns of another.

    With `weights` (n,) rows are drawn in proportion to them, so that all that are made count alike.

    They have no label, but the teacher has an answer to them; a student that saw enough of those
    learns the teacher's function rather than its answers to the training rows (Bucila, Caruana,
    Niculescu-Mizil, *Model compression*, 2006).
    """
    if weights is None:
        first, second = rng.integers(0, len(rows), (2, count))
    else:
        first, second = rng.choice(len(rows), (2, count), p=weights / weights.sum())
    moved = rng.random((count, rows.numbers.shape[1])) < _MINGLED
    switched = rng.random((count, rows.codes.shape[1])) < _MINGLED
    return Encoded(
        np.where(moved, rows.numbers[second], rows.numbers[first]),
        np.where(switched, rows.codes[second], rows.codes[first]),
    )


def both(one: Encoded, other: Encoded) -> Encoded:
    """The rows of the one, then those of the other; texts where both have some."""
    texts = None
    if one.texts is not None and other.texts is not None:
        texts = np.concatenate([one.texts, other.texts])
    return Encoded(
        np.concatenate([one.numbers, other.numbers]),
        np.concatenate([one.codes, other.codes]),
        texts,
    )


def filled(values: NDArray[Any], count: int, more: float = 1) -> NDArray[Any]:
    """`values` (n,) and `more` behind them up to `count`: what rows without any have.

    >>> filled(np.array([2, 0]), 4, -1).tolist()
    [2, 0, -1, -1]
    """
    rest = np.full(count - len(values), more, dtype=values.dtype)
    return np.concatenate([values, rest])


def left_of(seconds: float | None, began: float) -> float | None:
    """What a student may take of the `seconds` of a fit that `began` with its teacher."""
    return None if seconds is None else max(seconds - (time.monotonic() - began), 1e-3)
