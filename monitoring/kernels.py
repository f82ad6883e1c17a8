"""Gaussian kernels between units of rows: exact in blocks, or by random Fourier features.

With N rows of d columns, L bandwidths in steps of 2 and U units:

- exact: N² d / 2 multiply-adds for the distances, N² / 2 exponentials whatever L is (a kernel of
  half the bandwidth is the fourth power of the wider one), bytes 4 L U² + 8 N per row of a block,
  the rows of a block chosen to stay within `memory_mb`. Distances are float32 on points of
  typical size 1, sums over units float32 of values in [0, 1].
- random Fourier features (Rahimi and Recht, NeurIPS 2007): N d D L multiply-adds and 2 N D L
  cosines for D frequencies a bandwidth; linear in N, and never more than a chunk of rows at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.units import Units

if TYPE_CHECKING:
    import torch

SCALES = (0.5, 1.0, 2.0)  # bandwidths, in units of the median distance between pooled rows
_MEDIAN_ROWS = 160


def median_distance(points: NDArray[np.float32]) -> float:
    """Median distance over pairs of at most 160 rows evenly spread along their order."""
    if len(points) > _MEDIAN_ROWS:
        points = points[np.linspace(0, len(points) - 1, _MEDIAN_ROWS).round().astype(int)]
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    distances = squares[:, None] + squares[None, :] - 2.0 * (points @ points.T)
    pairs = distances.ravel().take(_below_diagonal(len(points)))
    typical = float(np.median(pairs))
    if typical <= 1e-9:  # more than half of the rows are copies of each other
        apart = pairs[pairs > 1e-9]
        typical = float(np.median(apart)) if len(apart) else 1.0
    return float(np.sqrt(typical))


@lru_cache(maxsize=8)
def _below_diagonal(rows: int) -> NDArray[np.int64]:
    return np.flatnonzero(np.tri(rows, k=-1, dtype=bool))


def unit_sums(
    points: NDArray[np.float32],
    units: Units,
    bandwidths: Sequence[float],
    *,
    memory_mb: float,
    device: torch.device | str,
) -> torch.Tensor:
    """Sums of exp(-distance² / (2 b²)) over the rows of each pair of units: (L, U, U) float32.

    `points` (N, d) are in the order of `units`. A row's pair with itself is left out.
    """
    import torch

    total, size, count = len(points), units.size, units.count
    rows = torch.as_tensor(points, device=device)
    squares = (rows * rows).sum(1)
    sums = torch.empty(len(bandwidths), count, count, dtype=torch.float32, device=device)
    held = max(1, int(memory_mb * 1e6 / (16 * total)))
    if not size:  # units of any size
        unit = torch.as_tensor(units.unit, device=device)
        sums.zero_()
        for start in range(0, total, held):
            stop = min(start + held, total)
            low, high = int(units.unit[start]), int(units.unit[stop - 1]) + 1
            for place, kernel in _kernels(rows, squares, start, stop, total, bandwidths):
                across = torch.zeros(high - low, total, device=device)
                across.index_add_(0, unit[start:stop] - low, kernel)
                sums[place, low:high].index_add_(1, unit, across)
        return sums
    block = min(max(held // size, 1), max(1024 // size, 1)) * size
    for start in range(0, total, block):
        stop = min(start + block, total)
        for place, kernel in _kernels(rows, squares, start, stop, stop, bandwidths):
            found = kernel
            if size > 1:
                found = found.view(-1, size, found.shape[1]).sum(1)  # whole rows first: fast
                found = found.view(len(found), -1, size).sum(2)
            first, last = start // size, stop // size
            sums[place, first:last, :last] = found
            sums[place, :first, first:last] = found[:, :first].T
    return sums


def mixed(kernels: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of symmetric (U, U) kernels, each centred and divided by its Frobenius norm then.

    They are asked for one after the other, and none is held.
    """
    import torch

    total: torch.Tensor | None = None
    for given in kernels:
        kernel, means = given, given.mean(1).to(torch.float64)
        flat = kernel.reshape(-1)
        whole = float(torch.dot(flat, flat))
        # of the centred kernel, without making it
        within = whole - len(kernel) * float(2 * means @ means - len(kernel) * means.mean() ** 2)
        if within < 1e-3 * whole:  # where the difference has lost its digits
            kernel = _centred(kernel.to(torch.float64)).to(torch.float32)
            flat = kernel.view(-1)
            within = float(torch.dot(flat, flat))
        each = 1 / max(math.sqrt(within), 1e-12)
        total = kernel * each if total is None else total.add_(kernel, alpha=each)
    if total is None:
        raise ValueError("at least one kernel is mixed, got none")
    return _centred(total)


def _centred(kernel: torch.Tensor) -> torch.Tensor:
    """A symmetric (U, U) kernel doubly centred, in place."""
    means = kernel.mean(1)
    return kernel.sub_(means[:, None]).sub_(means - means.mean())


def row_kernels(
    points: NDArray[np.float32], bandwidths: Sequence[float], *, device: torch.device | str
) -> Iterator[torch.Tensor]:
    """Kernels between the rows themselves, (N, N), the widest first; 1 where a row meets itself.

    Each is good until the next one is asked for.
    """
    import torch

    rows = torch.as_tensor(points, device=device)
    squares = (rows * rows).sum(1)
    for _, kernel in _kernels(rows, squares, 0, len(points), len(points), bandwidths):
        yield kernel.fill_diagonal_(1.0)


def _kernels(
    rows: torch.Tensor,
    squares: torch.Tensor,
    start: int,
    stop: int,
    across: int,
    bandwidths: Sequence[float],
) -> Iterator[tuple[int, torch.Tensor]]:
    """(place of the bandwidth, kernel of rows start to stop with rows 0 to `across`), widest first.

    0 where a row meets itself. A kernel is good until the next one is asked for.
    """
    import torch

    widest = max(bandwidths)
    powers = [round((widest / b) ** 2) for b in bandwidths]
    exact = all(
        abs((widest / b) ** 2 - p) < 1e-9 * p and p & (p - 1) == 0
        for b, p in zip(bandwidths, powers, strict=True)
    )
    distances = torch.addmm(squares[:across], rows[start:stop], rows[:across].T, alpha=-2.0)
    distances.add_(squares[start:stop, None]).clamp_(min=0.0)
    kernel, reached = distances, 0
    for place in np.argsort(powers, kind="stable"):
        if not exact:
            kernel = distances.mul(-0.5 / bandwidths[place] ** 2).exp_()
            kernel[:, start:].fill_diagonal_(0.0)
        elif not reached:
            kernel = distances.mul_(-0.5 / widest**2).exp_()
            kernel[:, start:].fill_diagonal_(0.0)
            reached = 1
        while exact and reached < powers[place]:
            kernel.square_()
            reached *= 2
        yield int(place), kernel


class Fourier:
    """Random frequencies of Gaussian kernels: cosines and sines of D directions a bandwidth."""

    def __init__(
        self,
        columns: int,
        bandwidths: Sequence[float],
        frequencies: int,
        rng: np.random.Generator,
        device: Any = "cpu",
    ) -> None:
        import torch

        draws = [rng.normal(size=(columns, frequencies)) / b for b in bandwidths]
        self.directions = torch.as_tensor(np.concatenate(draws, 1), dtype=torch.float32).to(device)
        self.frequencies = frequencies

    def unit_means(self, points: torch.Tensor, size: int) -> torch.Tensor:
        """(units, L, 2 D) means of the features over consecutive `size` rows of points."""
        import torch

        angles = points @ self.directions
        shape = (-1, size, angles.shape[1])
        waves = [torch.cos(angles).view(shape).mean(1), torch.sin_(angles).view(shape).mean(1)]
        split = [wave.view(len(wave), -1, self.frequencies) for wave in waves]
        means: torch.Tensor = torch.cat(split, 2) / np.sqrt(self.frequencies)
        return means
