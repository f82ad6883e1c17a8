"""Two-sample test by maximum mean discrepancy (Gretton et al., JMLR 13, 2012).

Unbiased MMD² with Gaussian kernels of several bandwidths, calibrated by permutation. With N = m + n
pooled rows of d columns, B permutations and L bandwidths:

- kernel: N² d / 2 multiply-adds for the distances, once for all bandwidths and permutations, and
  N² L / 2 exponentials;
- permutations: N² B L / 2 multiply-adds, one matrix product of the kernel with the (N, B + 1)
  matrix of centred group indicators. A permuted MMD² is a quadratic form of its indicator, so only
  the kernel's lower triangle is needed, made in blocks of rows and never kept;
- bytes: 5 N B for the indicators, 8 N b for a block of b rows, b chosen to stay within `memory_mb`.

Products are float32, their sums float64.

The level is exact: every step treats the pooled rows alike whichever side they came from (they are
first sorted by a projection, so neither the order of rows nor that of the sides matters), the
bandwidths come from the pooled rows, and the bandwidths are aggregated by ranking inside the same
permutations (after MMDAgg, Schrab et al., JMLR 24, 2023): each permutation gets its smallest rank
p-value over the bandwidths, and p is the rank of the observed one among them,
p = (1 + b) / (1 + B) (Phipson and Smyth 2010), never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault

if TYPE_CHECKING:
    import torch

SCALES = (0.5, 1.0, 2.0)  # bandwidths, in units of the median distance between pooled rows
_FAR = (
    1e6  # typical distances are about 1; beyond this a kernel is 0 anyway, and squares stay finite
)
_MEDIAN_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class MMDResult:
    """What the test found.

    `statistic` and `bandwidth` belong to the bandwidth that speaks loudest; `statistics`,
    `bandwidths` and `p_values` (each alone, not corrected) hold all of them.
    """

    statistic: float  # unbiased MMD², larger is further apart; may be below 0
    p_value: float
    permutations: int
    bandwidth: float  # Gaussian kernel exp(-distance² / (2 bandwidth²)), in the input's unit
    statistics: tuple[float, ...]
    bandwidths: tuple[float, ...]
    p_values: tuple[float, ...]
    rows: tuple[int, int]


def mmd_test(
    x: Any,
    y: Any,
    *,
    permutations: int = 999,
    seed: int = 0,
    scales: Sequence[float] = SCALES,
    memory_mb: float = 256.0,
) -> MMDResult:
    """Test whether two samples come from one distribution.

    `x` (m, d) and `y` (n, d) are arrays, tensors or frames of finite numbers, m, n >= 2; a vector
    is one column. Equal seeds give equal results. Work runs on the device of `x` when it is a
    tensor. Raises WindowFault for too few rows, unequal columns, NaN or inf (embed mixed or
    incomplete columns with `monitoring.embedding` first).

    >>> rng = np.random.default_rng(1)
    >>> mmd_test(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 1).p_value
    0.001
    """
    if permutations < 1:
        raise WindowFault(f"permutations must be at least 1, got {permutations}: 999 is usual")
    if not scales or min(scales) <= 0:
        raise WindowFault(f"scales must be positive, got {tuple(scales)}: leave the default")
    x_rows, y_rows = _matrix(x, "x"), _matrix(y, "y")
    if x_rows.shape[1] != y_rows.shape[1]:
        raise WindowFault(
            f"both samples need the same columns, got {x_rows.shape[1]} and {y_rows.shape[1]}: "
            "select them"
        )
    rows = (len(x_rows), len(y_rows))
    rng = np.random.default_rng(seed)
    scaled, unit = _scaled(np.concatenate([x_rows, y_rows]))
    points, observed = _canonical(scaled, rows[0])
    small = min(rows)  # the smaller side is the indicator, so that swapping sides changes nothing
    indicators = np.empty((permutations + 1, len(points)), dtype=np.int8)
    indicators[0] = observed if rows[0] <= rows[1] else 1 - observed
    indicators[1:] = rng.permuted(np.broadcast_to(indicators[0], indicators[1:].shape), axis=1)
    median = _median_distance(points)
    bandwidths = [median * scale for scale in scales]
    device = getattr(x, "device", "cpu")
    values = _statistics(points, indicators, small, bandwidths, memory_mb, device)
    alone, p_value = _aggregate(values)
    best = int(np.lexsort((np.abs(np.log(scales)), alone))[0])  # ties: the nearest to the median
    return MMDResult(
        statistic=float(values[0, best]),
        p_value=p_value,
        permutations=permutations,
        bandwidth=bandwidths[best] * unit,
        statistics=tuple(map(float, values[0])),
        bandwidths=tuple(b * unit for b in bandwidths),
        p_values=tuple(map(float, alone)),
        rows=rows,
    )


def _matrix(sample: Any, name: str) -> NDArray[np.float64]:
    if hasattr(sample, "detach"):
        sample = sample.detach().cpu()
    try:
        matrix = np.asarray(sample, dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise WindowFault(
            f"{name} must hold numbers only ({fault}): embed mixed columns with "
            "monitoring.embedding first"
        ) from None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise WindowFault(f"{name} must be (rows, columns), got shape {matrix.shape}: reshape it")
    if len(matrix) < 2:
        raise WindowFault(f"{name} needs at least 2 rows, got {len(matrix)}: widen the window")
    broken = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(broken):
        raise WindowFault(
            f"{name} has NaN or inf in column {broken[0]} ({len(broken)} such columns): embed "
            "incomplete columns with monitoring.embedding first"
        )
    return matrix


def _scaled(pooled: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Rows about their median, in units of their typical distance from it, safe in float32."""
    with np.errstate(over="ignore"):  # what overflows is cut off
        centred = pooled - np.median(pooled, axis=0)
        reach = np.abs(centred).max(axis=1)
        positive = reach[reach > 0]
        unit = float(np.median(positive)) if len(positive) else 1.0
        return np.clip(centred / unit, -_FAR, _FAR), unit


def _canonical(scaled: NDArray[np.float64], m: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Rows in an order that does not know their sides, and 1 for those of the first side."""
    columns = scaled.shape[1]
    spread = scaled.std(axis=0)
    weights = np.random.default_rng(columns).normal(size=columns)  # any fixed direction will do
    along = scaled @ (weights / np.where(spread > 0, spread, 1.0))
    order = np.argsort(along, kind="stable")
    return scaled[order].astype(np.float32), (order < m).astype(np.int8)


def _median_distance(points: NDArray[np.float32]) -> float:
    """Median distance over pairs of at most 1,000 rows evenly spread along the sorted order."""
    if len(points) > _MEDIAN_ROWS:
        points = points[np.linspace(0, len(points) - 1, _MEDIAN_ROWS).round().astype(int)]
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    distances = squares[:, None] + squares[None, :] - 2.0 * (points @ points.T)
    pairs = distances[np.tril_indices(len(points), -1)]
    typical = float(np.median(pairs))
    if typical <= 1e-9:  # more than half of the rows are copies of each other
        apart = pairs[pairs > 1e-9]
        typical = float(np.median(apart)) if len(apart) else 1.0
    return float(np.sqrt(typical))


def _statistics(
    points: NDArray[np.float32],
    indicators: NDArray[np.int8],
    small: int,
    bandwidths: Sequence[float],
    memory_mb: float,
    device: torch.device | str,
) -> NDArray[np.float64]:
    """Unbiased MMD² for every row of indicators and every bandwidth, (B + 1, L) float64.

    With a the 0/1 indicator of m rows, K the kernel with a zero diagonal, r = K1 and T = 1'K1, the
    three sums of MMD² are a'Ka, a'r - a'Ka and T - 2a'r + a'Ka. The product is taken with
    c = a - f, which keeps the float32 sums small: a'Ka = c'Kc + 2f a'r - f² T for any f. It is m/N
    in 256ths, which float32 holds exactly, so that rows without any difference give exactly 0.
    """
    import torch

    total, count = len(points), len(indicators)
    centre = round(256 * small / total) / 256
    rows = torch.as_tensor(points, device=device)
    squares = (rows * rows).sum(1)
    centred = torch.as_tensor(indicators, device=device).T.to(torch.float32).sub_(centre)
    block = int(max(16, min(total, 1024, memory_mb * 1e6 / (8 * total + 12 * count))))
    quadratic = torch.zeros(len(bandwidths), count, dtype=torch.float64, device=device)
    sums = torch.zeros(len(bandwidths), total, dtype=torch.float64, device=device)
    for start in range(0, total, block):
        stop = min(start + block, total)
        distances = torch.addmm(squares[:stop], rows[start:stop], rows[:stop].T, alpha=-2.0)
        distances.add_(squares[start:stop, None]).clamp_(min=0.0)
        for place, bandwidth in enumerate(bandwidths):
            kernel = distances.mul(-0.5 / bandwidth**2).exp_()
            kernel[:, start:].fill_diagonal_(0.0)
            sums[place, start:stop] += kernel.sum(1)  # pairwise sums: float32 is enough in a block
            sums[place, :start] += kernel[:, :start].sum(0)
            kernel[:, :start] *= 2.0  # stands for the upper triangle as well
            products = kernel @ centred[:stop]
            quadratic[place] += products.mul_(centred[start:stop]).sum(0)
    whole = sums.sum(1)
    offset = sums - whole[:, None] / total  # centred, so that float32 products stay exact enough
    within = (centred.T @ offset.T.to(torch.float32)).to(torch.float64)
    within += small / total * whole  # a'r
    first = quadratic.T + 2 * centre * within - centre**2 * whole
    return _combine(first.cpu().numpy(), within.cpu().numpy(), whole.cpu().numpy(), small, total)


def _combine(
    first: NDArray[np.float64],
    within: NDArray[np.float64],
    whole: NDArray[np.float64],
    m: int,
    total: int,
) -> NDArray[np.float64]:
    n = total - m
    second = whole - 2 * within + first
    between = within - first
    values = first / (m * (m - 1)) + second / (n * (n - 1)) - 2 * between / (m * n)
    grid = 1e-6 / m  # far below the spread under no drift; rounds equal values to equal
    return np.asarray(np.round(values / grid) * grid)


def _aggregate(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Each bandwidth's own p-value of the observed row 0, and the p-value of all together.

    Every row, observed or permuted, gets its smallest rank p-value over the bandwidths; ties of
    those are broken by the largest standardised statistic, so that a strong signal at one bandwidth
    does not share its rank with the top permutation of another.
    """
    from scipy.stats import rankdata

    count = len(values)
    ranks = (count + 1 - rankdata(values, method="min", axis=0)) / count  # share >= own value
    spread = values.std(axis=0)
    height = ((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).max(axis=1)
    height = np.round(height, 6)
    least = ranks.min(axis=1)
    as_extreme = (least < least[0]) | ((least == least[0]) & (height >= height[0]))
    return ranks[0], float(as_extreme.sum() / count)
