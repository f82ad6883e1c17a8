"""A student learns from a teacher's probabilities, which say more of a row than its label does.

Hinton, Vinyals, Dean, *Distilling the knowledge in a neural network*, 2015: at a temperature T the
student's scores are drawn to the teacher's, weighed with T squared so that the gradients keep their
size, beside the labels themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.encoding import Encoded

LABELS = 0.1  # of the loss; the rest is the teacher's
LABELS_OF_TEXTS = 0.3  # without made-up rows
NO_LABEL = -1
_MINGLED = 0.3  # of the columns of a made-up row are another row's


def loss(
    teacher: Tensor, y: Tensor, temperature: float, labels: float = LABELS
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of scores (m, k) at rows (m,), given the teacher's scores (n, k) and labels (n,).

    A label below 0 is not known: there the teacher alone counts.
    """
    soft = torch.softmax(teacher / temperature, dim=1)

    def of(scores: Tensor, rows: Tensor) -> Tensor:
        drawn = functional.kl_div(
            functional.log_softmax(scores / temperature, dim=1), soft[rows], reduction="batchmean"
        )
        known = y[rows] >= 0
        hard = functional.cross_entropy(scores[known], y[rows][known]) if known.any() else 0.0
        return labels * hard + (1 - labels) * temperature**2 * drawn

    return of


def mingled(rows: Encoded, count: int, rng: np.random.Generator) -> Encoded:
    """`count` made-up rows: each a real one with some columns of another.

    They have no label, but the teacher has an answer to them; a student that saw enough of those
    learns the teacher's function rather than its answers to the training rows (Bucila, Caruana,
    Niculescu-Mizil, *Model compression*, 2006).
    """
    first, second = rng.integers(0, len(rows), (2, count))
    moved = rng.random((count, rows.numbers.shape[1])) < _MINGLED
    switched = rng.random((count, rows.codes.shape[1])) < _MINGLED
    return Encoded(
        np.where(moved, rows.numbers[second], rows.numbers[first]),
        np.where(switched, rows.codes[second], rows.codes[first]),
    )
