"""What everfit's way is held against: magnitude pruning, after training and by a fixed schedule.

Both take weights of a layer for worth as much as they are large. `once` is the textbook's (Han et
al., *Learning both weights and connections*, 2015): of each layer the same share, at once, after
two thirds of the training, then fine-tuned. `gradual` is Zhu and Gupta's (2017): of all layers
together, by a cubic in time. They are hooks of the training loop, as everfit's own is, and get as
many epochs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_AT = 2 / 3  # of the steps, when `once` takes them all and `gradual` has taken the last
_BEGIN = 0.1
_EVERY = 160  # times at most that `gradual` looks


class Once:
    """The smallest `share` of each matrix, at two thirds of the training."""

    def __init__(self, matrices: Sequence[nn.Parameter], share: float, steps: int) -> None:
        self._matrices, self._share = list(matrices), share
        self._at, self._step = max(1, int(steps * _AT)), 0
        self._masks: list[Tensor] = []

    @torch.no_grad()
    def step(self, norm: float) -> None:
        self._step += 1
        if self._step == self._at:
            self._masks = [
                _largest(m.abs().flatten(), self._share).view_as(m) for m in self._matrices
            ]
        for matrix, mask in zip(self._matrices, self._masks, strict=bool(self._masks)):
            matrix.mul_(mask)

    def finish(self) -> None:
        pass


class Gradual:
    """The smallest `share` of all matrices together, more and more by a cubic in time."""

    def __init__(self, matrices: Sequence[nn.Parameter], share: float, steps: int) -> None:
        self._matrices, self._share, self._steps = list(matrices), share, steps
        self._every, self._step = max(1, steps // _EVERY), 0
        self._masks: list[Tensor] = []

    @torch.no_grad()
    def step(self, norm: float) -> None:
        self._step += 1
        place = (self._step / self._steps - _BEGIN) / (_AT - _BEGIN)
        if (
            place > 0
            and self._step % self._every == 0
            and place < 1 + self._every / self._steps * 3
        ):
            self._choose(self._share * (1 - (1 - min(place, 1.0)) ** 3))
        for matrix, mask in zip(self._matrices, self._masks, strict=bool(self._masks)):
            matrix.mul_(mask)

    @torch.no_grad()
    def finish(self) -> None:
        self._choose(self._share)
        for matrix, mask in zip(self._matrices, self._masks, strict=True):
            matrix.mul_(mask)

    def _choose(self, share: float) -> None:
        every = _largest(torch.cat([m.abs().flatten() for m in self._matrices]), share)
        parts = torch.split(every, [m.numel() for m in self._matrices])
        self._masks = [part.view_as(m) for part, m in zip(parts, self._matrices, strict=True)]


def _largest(values: Tensor, share: float) -> Tensor:
    """True for all but the smallest `share` of the values."""
    count = round(share * values.numel())
    if not count:
        return torch.ones_like(values, dtype=torch.bool)
    return values > values.kthvalue(count).values
