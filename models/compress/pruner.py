"""Weights removed while a network learns: a hook of the training loop.

    pruner = Pruner([weights(m) for m in matrices], target=0.9, steps=steps)
    for ...:
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        pruner.step(float(norm))  # while the gradients are there

One threshold holds for the whole network, not one a layer: what is compared is what the loss would
rise by, to second order with the squared gradients for the curvature (LeCun, Denker, Solla,
*Optimal brain damage*, 1989), per weight that goes. What was removed may grow back until the target
is reached; from then on the masks stand, and the rest is tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.compress.pace import Pace

_LOOKS = 60  # times that a training is looked at
_FADE = 0.99  # of the sum of squared gradients, a step
_BINS, _TURNS = 1_024, 2  # of the threshold's logarithm, which is narrowed down twice
_TINY = 1e-36


@dataclass(frozen=True)
class Group:
    """What goes one by one: single weights, or the slices of several matrices that share an index.

    members: (matrix, dimension); a single one with None means each weight of it by itself. floor:
    the fewest that stay.
    """

    members: tuple[tuple[nn.Parameter, int | None], ...]
    floor: int = 1


def weights(matrix: nn.Parameter) -> Group:
    """Each weight of a matrix by itself; one in a hundred stays at least."""
    return Group(((matrix, None),), max(1, matrix.numel() // 100))


def slices(*members: tuple[nn.Parameter, int], floor: int = 2) -> Group:
    """Rows (0) or columns (1) of the matrices, which go together."""
    return Group(tuple(members), floor)


class Pruner:
    """Removes `target` of all the groups' weights within the first two thirds of `steps` steps."""

    def __init__(self, groups: Sequence[Group], *, target: float, steps: int) -> None:
        self._groups = tuple(groups)
        self._matrices = list({id(m): m for g in groups for m, _ in g.members}.values())
        self._every = max(1, steps // _LOOKS)
        self._steps = 0
        self.pace = Pace(target, max(1, steps // self._every))
        self._total = sum(matrix.numel() for matrix in self._matrices)
        self._curvature = {id(m): torch.zeros_like(m) for m in self._matrices}
        self._before: dict[int, Tensor] = {}
        self._masks: list[Tensor] | None = None
        self._fixed = False

    @property
    def share(self) -> float:
        """Weights that are removed now, of all of the groups."""
        if self._masks is None:
            return 0.0
        return 1.0 - float(self._left([mask.double().mean() for mask in self._masks])) / self._total

    @torch.no_grad()
    def step(self, norm: float) -> None:
        """After the optimiser's step; `norm` is the gradient's, before any clipping."""
        self._steps += 1
        look = self._steps % self._every == 0
        if not self._fixed:
            self._remember()
        if look and not self._fixed:
            self._look(norm)
        elif self._fixed and self._masks is not None:
            self._apply(self._masks)
        if (self._steps + 1) % self._every == 0 and not self._fixed:
            self._before = {id(m): m.detach().clone() for m in self._matrices}

    @torch.no_grad()
    def finish(self) -> float:
        """After the last step: nothing removed has grown back. Gives the share that is removed."""
        if not self._fixed:
            self._masks = self._chosen(self.pace.target)
            self._fixed = True
        assert self._masks is not None
        self._apply(self._masks)
        return self.share

    def _remember(self) -> None:
        """The fading mean of squared gradients, of every step: a look alone sees one batch."""
        for matrix in self._matrices:
            if matrix.grad is not None:
                gradient = matrix.grad.to_dense() if matrix.grad.is_sparse else matrix.grad
                self._curvature[id(matrix)].mul_(_FADE).addcmul_(gradient, gradient)

    def _look(self, norm: float) -> None:
        moved = size = 0.0
        for matrix in self._matrices:
            before = self._before.get(id(matrix))
            if before is not None:
                moved += float((matrix - before).square().sum())
                size += float(before.square().sum())
        update = (moved / size) ** 0.5 if size > 0 else 0.0
        share = self.pace.look(norm, update)
        if share > 0:
            self._masks = self._chosen(share)
            self._apply(self._masks)
        self._fixed = self.pace.reached

    def _chosen(self, share: float) -> list[Tensor]:
        """One mask a group, by one threshold on what a weight is worth, so that `share` is gone."""
        worth = [self._worth(group) for group in self._groups]
        logs = [torch.log2(w.clamp(min=_TINY)) for w in worth]
        finite = [log[torch.isfinite(log)] for log in logs]
        ends = [(float(f.min()), float(f.max())) for f in finite if len(f)]
        if not ends:  # the floors are all that there is
            return [torch.isfinite(w) == 0 for w in worth]
        low, high = min(a for a, _ in ends) - 1.0, max(b for _, b in ends) + 1.0
        allowed = (1.0 - share) * self._total
        for _ in range(_TURNS):
            width = (high - low) / _BINS
            left = self._left([_above(log, low, high) for log in logs])
            fit = torch.nonzero(left <= allowed + 0.5)
            at = int(fit[0, 0]) if len(fit) else _BINS - 1
            low, high = low + at * width, low + (at + 1) * width
        return [log > high for log in logs]

    def _worth(self, group: Group) -> Tensor:
        """What each slice of the group is worth, per weight: (size of the group,), flat."""
        total: Tensor | None = None
        count = 0
        for matrix, dim in group.members:
            one = matrix.square() * self._curvature[id(matrix)]
            if dim is None:
                total, count = one.flatten(), 1
                break
            others = tuple(d for d in range(matrix.ndim) if d != dim)
            one = one.sum(others)
            total = one if total is None else total + one
            count += matrix.numel() // matrix.shape[dim]
        assert total is not None
        worth = total / count
        kept = torch.topk(worth, min(group.floor, worth.numel())).indices
        worth[kept] = torch.inf
        return worth

    def _left(self, shares: Sequence[Tensor]) -> Tensor:
        """Weights that stay, given the share of each group that stays."""
        parts: dict[int, Tensor] = {}
        for group, share in zip(self._groups, shares, strict=True):
            for matrix, _ in group.members:
                parts[id(matrix)] = parts[id(matrix)] * share if id(matrix) in parts else share
        return torch.stack([parts[id(m)] * m.numel() for m in self._matrices]).sum(0)

    def _apply(self, masks: Sequence[Tensor]) -> None:
        for group, mask in zip(self._groups, masks, strict=True):
            for matrix, dim in group.members:
                if dim is None:
                    matrix.mul_(mask.view_as(matrix))
                else:
                    shape = [1] * matrix.ndim
                    shape[dim] = -1
                    matrix.mul_(mask.view(shape))


def _above(logs: Tensor, low: float, high: float) -> Tensor:
    """The share of `logs` above each of the upper ends of _BINS bins (_BINS,), float64."""
    counts = torch.histc(logs, _BINS, low, high).double()
    return 1.0 - ((logs < low).sum() + counts.cumsum(0)) / logs.numel()
