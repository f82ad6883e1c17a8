"""Two-sample test by maximum mean discrepancy (Gretton et al., JMLR 13, 2012).

Unbiased MMD² with Gaussian kernels of several bandwidths, calibrated by permutation. With N = m + n
pooled rows of d columns, U units (rows, or random bins of rows where there are many:
`monitoring.units`), B permutations and L bandwidths:

- kernel: N² d / 2 multiply-adds and N² / 2 exponentials, once for all bandwidths and permutations;
- permutations: U² B L multiply-adds, one matrix product of the (B, U) group indicators with the
  kernel's sums over units. U is N up to about 500 rows a side and about 512 beyond;
- bytes: 4 L U² for the sums, 9 U b for b permutations at a time and 16 N c for c rows of the kernel
  at a time, b and c chosen to stay within `memory_mb`.

From 30,000 rows on the kernel is approximated by random Fourier features: linear in N
(`monitoring.kernels`). Products are float32, their sums float64.

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.kernels import SCALES, Fourier, median_distance, unit_sums
from monitoring.labelings import Labelings
from monitoring.units import Units, of_rows

if TYPE_CHECKING:
    import torch

Route = Literal["auto", "kernel", "features"]
MOST_KERNEL_ROWS = 30_000  # beyond, random features take the kernel's place
_FAR = (
    1e6  # typical distances are about 1; beyond this a kernel is 0 anyway, and squares stay finite
)
_FREQUENCIES = 24  # of each bandwidth, where random features are used
_SAMPLE = 16_384  # rows that set centre, unit and bandwidths there
_CHUNK = 32_768  # rows looked at at once there


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
    route: str  # 'kernel' (exact) or 'features' (random Fourier features)
    note: str  # what was binned, drawn or approximated; empty when nothing was


def mmd_test(
    x: Any,
    y: Any,
    *,
    permutations: int = 999,
    seed: int = 0,
    scales: Sequence[float] = SCALES,
    memory_mb: float = 256.0,
    route: Route = "auto",
) -> MMDResult:
    """Test whether two samples come from one distribution.

    `x` (m, d) and `y` (n, d) are arrays, tensors or frames of finite numbers, m, n >= 2; a vector
    is one column. Equal seeds give equal results. Work runs on the device of `x` when it is a
    tensor. `route` "kernel" or "features" forces what "auto" chooses by the number of rows; the
    features' p-value is as exact, their power that of 3 x 24 random frequencies in place of the
    kernel, and the order of rows then matters as the seed does. Raises WindowFault for too few
    rows, unequal columns, NaN or inf (`shift_test` takes mixed and incomplete columns).

    >>> rng = np.random.default_rng(1)
    >>> mmd_test(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 1).p_value
    0.001
    """
    if permutations < 1:
        raise WindowFault(f"permutations must be at least 1, got {permutations}: 999 is usual")
    if not scales or min(scales) <= 0:
        raise WindowFault(f"scales must be positive, got {tuple(scales)}: leave the default")
    device = x.device if hasattr(x, "detach") else "cpu"
    if hasattr(x, "columns") and hasattr(y, "columns") and set(x.columns) == set(y.columns):
        y = y[list(x.columns)]
    x_rows, y_rows = _matrix(x, "x"), _matrix(y, "y")
    if x_rows.shape[1] != y_rows.shape[1]:
        raise WindowFault(
            f"both samples need the same columns, got {x_rows.shape[1]} and {y_rows.shape[1]}: "
            "select them"
        )
    rows = (len(x_rows), len(y_rows))
    fits = max(256, int(np.sqrt(memory_mb * 1e6 / (8 * len(scales)))))  # half of it for the sums
    units = of_rows(*rows, seed, cap=fits)
    if route == "auto":
        route = "kernel" if len(units.order) <= MOST_KERNEL_ROWS else "features"
    if route == "kernel":
        sums, units, median, unit = _kernel(x_rows, y_rows, units, scales, seed, memory_mb, device)
        note = units.note
    else:
        sums, units, median, unit = _features(x_rows, y_rows, units, scales, seed, device)
        spare = "; " if units.note else ""
        note = f"{_FREQUENCIES} random frequencies a bandwidth in place of the kernel{spare}"
        note += units.note
    values = _statistics(sums, units, rows[0] <= rows[1], permutations, seed, memory_mb)
    alone, p_value = _aggregate(values)
    best = int(np.lexsort((np.abs(np.log(scales)), alone))[0])  # ties: the nearest to the median
    bandwidths = [median * scale * unit for scale in scales]
    return MMDResult(
        statistic=float(values[0, best]),
        p_value=p_value,
        permutations=permutations,
        bandwidth=bandwidths[best],
        statistics=tuple(map(float, values[0])),
        bandwidths=tuple(bandwidths),
        p_values=tuple(map(float, alone)),
        rows=rows,
        route=route,
        note=note,
    )


def _matrix(sample: Any, name: str) -> NDArray[np.floating[Any]]:
    if hasattr(sample, "detach"):
        sample = sample.detach().cpu()
    try:
        matrix = np.asarray(sample)
        if matrix.dtype.kind != "f" or matrix.dtype.itemsize < 4:
            matrix = matrix.astype(np.float64)
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


def _kernel(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    units: Units,
    scales: Sequence[float],
    seed: int,
    memory_mb: float,
    device: torch.device | str,
) -> tuple[torch.Tensor, Units, float, float]:
    """The kernel's sums over units, the units, the median distance, and the unit it is in."""
    pooled = np.concatenate([x, y]).astype(np.float64, copy=False)
    centre, unit = _measures(pooled)
    scaled = _scaled(pooled, centre, unit)
    along = projection(scaled)
    median = median_distance(scaled[np.argsort(along, kind="stable")])
    units = units.arranged(along, len(x), seed)
    bandwidths = [median * scale for scale in scales]
    sums = unit_sums(scaled[units.order], units, bandwidths, memory_mb=memory_mb / 2, device=device)
    return sums, units, median, unit


def _features(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    units: Units,
    scales: Sequence[float],
    seed: int,
    device: torch.device | str,
) -> tuple[torch.Tensor, Units, float, float]:
    """The same from random features, a chunk of rows at a time."""
    import torch

    rng = np.random.default_rng([seed, 2])
    m, total = len(x), len(x) + len(y)
    drawn = np.sort(rng.choice(total, min(_SAMPLE, total), replace=False))
    sample = np.concatenate([x[drawn[drawn < m]], y[drawn[drawn >= m] - m]]).astype(np.float64)
    centre, unit = _measures(sample)
    median = median_distance(_scaled(sample, centre, unit)[rng.permutation(len(sample))])
    waves = Fourier(x.shape[1], [median * s for s in scales], _FREQUENCIES, rng, device)
    step = max(_CHUNK // units.size, 1) * units.size
    parts = []
    for side, order in ((x, units.order[units.order < m]), (y, units.order[units.order >= m] - m)):
        for start in range(0, len(order), step):
            points = _scaled(side[order[start : start + step]], centre, unit)
            parts.append(waves.unit_means(torch.as_tensor(points, device=device), units.size))
    means = torch.cat(parts).transpose(0, 1)  # (L, U, 2 D)
    sums = means @ means.transpose(1, 2) * units.size**2
    own = torch.arange(units.count, device=device)
    sums[:, own, own] -= units.size  # a row's pair with itself, as far as cos² + sin² goes
    return sums, units, median, unit


def _measures(pooled: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The rows' median, and their typical distance from it."""
    with np.errstate(over="ignore"):  # what overflows is cut off
        centre = np.median(pooled, axis=0)
        reach = np.abs(pooled - centre).max(axis=1)
        positive = reach[reach > 0]
        return centre, float(np.median(positive)) if len(positive) else 1.0


def _scaled(
    rows: NDArray[np.floating[Any]], centre: NDArray[np.float64], unit: float
) -> NDArray[np.float32]:
    """Rows about their centre in typical units, safe in float32."""
    with np.errstate(over="ignore"):
        return np.clip((rows - centre) / unit, -_FAR, _FAR).astype(np.float32)


def projection(scaled: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) a value by which rows are sorted: any fixed direction, in the columns' own spread."""
    columns = scaled.shape[1]
    spread = scaled.std(axis=0, dtype=np.float64)
    weights = np.random.default_rng(0).normal(size=columns)
    return np.asarray(scaled @ (weights / np.where(spread > 0, spread, 1.0)))


def _statistics(
    sums: torch.Tensor,
    units: Units,
    first_is_smaller: bool,
    permutations: int,
    seed: int,
    memory_mb: float,
) -> NDArray[np.float64]:
    """Unbiased MMD² of the observed labeling and of permuted ones: (B + 1, L).

    With a the 0/1 indicator of m rows, K the kernel's sums, r = K1 and T = 1'K1, the three sums of
    MMD² are a'Ka, a'r - a'Ka and T - 2a'r + a'Ka. The product is taken with c = a - f, which keeps
    the float32 sums small: a'Ka = c'Kc + 2f a'r - f² T for any f. It is m/N in 256ths, which
    float32 holds exactly, so that rows without any difference give exactly 0.
    """
    import torch

    observed = units.first if first_is_smaller else 1 - units.first
    small, count = int(observed.sum()), units.count
    labelings = Labelings(count, small, seed, units.key)
    centre = round(256 * small / count) / 256
    kernel = sums.reshape(-1, count)  # (L U, U): the kernel is symmetric
    rows = sums.sum(2, dtype=torch.float64)
    whole = rows.sum(1)
    offset = rows - whole[:, None] / count  # centred, so that float32 products stay exact enough
    batch = max(16, int(memory_mb / 2 * 1e6 / (count * (9 + 8 * len(sums)))))
    drawn, found = 0, []
    while drawn <= permutations:
        taken = labelings.draw(min(batch, permutations + 1 - drawn))
        if not drawn:
            taken[0] = observed
        drawn += len(taken)
        centred = torch.as_tensor(taken, device=sums.device).to(torch.float32).sub_(centre)
        product = (centred @ kernel.T).view(len(taken), len(sums), count)
        quadratic = torch.bmm(product, centred[:, :, None])[:, :, 0].to(torch.float64)
        within = (centred @ offset.T.to(torch.float32)).to(torch.float64) + small / count * whole
        first = quadratic + 2 * centre * within - centre**2 * whole
        sizes = (small * units.size, count * units.size)
        found.append(
            _combine(first.cpu().numpy(), within.cpu().numpy(), whole.cpu().numpy(), *sizes)
        )
    return np.concatenate(found)


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
