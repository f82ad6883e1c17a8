"""A student learns from a teacher's probabilities, which say more of a row than its label does.

Hinton, Vinyals, Dean, *Distilling the knowledge in a neural network*, 2015: at a temperature T the
student's scores are drawn to the teacher's, weighed with T squared so that the gradients keep their
size, beside the labels themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LABELS = 0.3  # of the loss; the rest is the teacher's


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
