"""Has one sample moved away from another, in any way? One p-value at an exact level.

No single statistic sees everything: an MMD is nearly blind to a changed correlation, a largest
difference of means to a small one in every column. `shift_test` combines up to eight on normal
scores of numbers and indicators of levels and gaps (`monitoring.coordinates`), all computed for a
labeling at once:

- the largest difference of one coordinate, of one rare level or gap, of one number's spread, and of
  one pair's product (of few coordinates the sums below stand for the first and third);
- the sum of squares of all coordinates' differences, and of all pairs';
- the difference in the points' mean squared length;
- the MMD over three bandwidths, each in units of its own deviation under permutation.

Each is put on the scale of a p-value by a closed-form tail (`monitoring.tails`), and the labeling's
evidence is their weighted mean of order -3/4, near the harmonic one (Vovk and Wang, Biometrika 107,
2020), which loses less to the best of them than the smallest p-value does where several agree. The
observed labeling's evidence is ranked among permuted labelings', so the level is exact whatever the
tails are worth: p = (1 + b) / (1 + B), or Besag and Clifford's sequential p-value.

Per column and per pair, adjusted p-values come from the same permutations by step-down maxima
(Westfall and Young 1993): among all columns, the chance that any that has not moved gets
p_adjusted <= a is at most a, whatever their dependence; likewise among all pairs.

With N rows of k coordinates, K features, U units (`monitoring.units`) and B permutations: N² k / 2
multiply-adds and N² / 2 exponentials for the kernel, N K for features, and U (U / 2 + K) B for
the permutations; U is at most about 512 where the sides are alike. Bytes: 12 U² + 4 U K, and
8 (U + K) b for b permutations at a time, b chosen to stay within `memory_mb`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from monitoring.errors import WindowFault
from monitoring.labelings import Labelings, Rank, rank
from monitoring.moved import Moved, moved
from monitoring.samples import Pooled, pooled_by_features, pooled_by_kernel, sides
from monitoring.statistics import Evidence
from monitoring.units import of_blocks, of_rows

Route = Literal["auto", "kernel", "features"]
MOST_KERNEL_ROWS = 30_000  # beyond, random features take the kernel's place
# Below level 0.001, where many permutations are made, bins are fewer: a t-test with 254 degrees of
# freedom in place of a normal one, 2.5 % of the effect that is seen at level 1e-6.
FEW = {"most": 256, "least": 64}


@dataclass(frozen=True, slots=True)
class ShiftResult:
    """What the test found."""

    statistic: (
        float  # combined evidence: about -log10 p of many units, more of few; larger is further
    )
    p_value: float
    permutations: int
    rows: tuple[int, int]
    units: tuple[int, int]  # rows, bins or blocks that were permuted, of each side
    route: str  # 'kernel' (exact) or 'features' (random Fourier features)
    note: str  # what was binned, drawn or approximated; empty when nothing was
    parts: Mapping[str, float] = field(default_factory=dict)  # each statistic's own p, uncorrected
    columns: tuple[Moved, ...] = ()  # the most significant first
    pairs: tuple[Moved, ...] = ()


def shift_test(
    x: Any,
    y: Any,
    *,
    permutations: int = 999,
    level: float | None = None,
    seed: int = 0,
    memory_mb: float = 256.0,
    route: Route = "auto",
    blocks: tuple[Any, Any] | None = None,
    kinds: Mapping[str, str] | None = None,
    explain: bool = True,
) -> ShiftResult:
    """Test whether two samples come from one distribution, and say what moved.

    `x` (m, d) and `y` (n, d) are arrays, tensors or frames, m, n >= 2; NaN is a missing value, and
    text columns of frames are categories (`kinds`, name -> 'number' or 'category', says otherwise).
    Equal seeds give equal results. The heavy products run on the device of `x` when it is a tensor.

    With a `level`, permutations stop when it is clear that the p-value lies above it, and 5 / level
    (2 / level below 0.001) are spent where it does not; without, `permutations` are made. `blocks`
    are ids of the rows' blocks (days, say), one array a side; whole blocks are permuted. `route`
    "features" is linear in the rows and is taken by itself beyond 30,000 of them; its level is as
    exact, and what it costs in power stands in `note`. `explain=False` leaves out `parts`,
    `columns` and `pairs`. Raises WindowFault for too few rows or unequal columns.

    >>> rng = np.random.default_rng(1)
    >>> x, y = rng.normal(size=(80, 3)), rng.normal(size=(80, 3))
    >>> y[:, 2] = 0.8 * y[:, 1] + 0.6 * y[:, 2]
    >>> found = shift_test(x, y)
    >>> found.p_value, found.pairs[0].names
    (0.001, ('1', '2'))
    """
    if permutations < 1:
        raise WindowFault(f"permutations must be at least 1, got {permutations}: 999 is usual")
    if level is not None and not 0 < level < 1:
        raise WindowFault(f"level must lie between 0 and 1, got {level}: 0.05, for instance")
    device = x.device if hasattr(x, "detach") else "cpu"
    x, y = sides(x, y)
    m, n = len(x), len(y)
    if blocks is not None:
        if len(blocks[0]) != m or len(blocks[1]) != n:
            raise WindowFault(
                f"blocks are one id a row, got {len(blocks[0])} and {len(blocks[1])} for {m} and "
                f"{n} rows: give both arrays whole"
            )
        units = of_blocks(*blocks)
    else:
        bins = FEW if level is not None and level < 1e-3 else {}
        units = of_rows(m, n, seed, cap=max(256, int(np.sqrt(memory_mb * 1e6 / 24))), **bins)
    if route == "auto":
        route = "kernel" if len(units.order) <= MOST_KERNEL_ROWS or not units.size else "features"
    make = pooled_by_kernel if route == "kernel" else pooled_by_features
    pooled: Pooled = make(x, y, units, kinds=kinds, seed=seed, memory_mb=memory_mb, device=device)
    evidence = Evidence(pooled, first_is_smaller=m <= n)
    drawn_by = (evidence.units.count, int(evidence.observed.sum()), seed, evidence.units.key)
    labelings = Labelings(*drawn_by)
    most = max(16, int(memory_mb * 1e6 / 4 / evidence.bytes_each))
    if str(device) == "cpu":
        most = min(most, 1_024)  # more no longer fit its caches
    if evidence.empty:
        found = Rank(1.0, 0, True)  # nothing varies: nothing can have moved
    else:
        seen = evidence.observed
        found = rank(seen, evidence, labelings, permutations=permutations, level=level, most=most)
    parts: Mapping[str, float] = {}
    columns: tuple[Moved, ...] = ()
    pairs: tuple[Moved, ...] = ()
    if explain and not evidence.empty:
        drawn = max(min(permutations, 999), 99)
        parts, columns, pairs = moved(evidence, Labelings(*drawn_by).draw(drawn), most)
    ones = int(evidence.units.first.sum())
    return ShiftResult(
        statistic=found.observed,
        p_value=found.p_value,
        permutations=found.permutations,
        rows=(m, n),
        units=(ones, evidence.units.count - ones),
        route=route,
        note=pooled.note,
        parts=parts,
        columns=columns,
        pairs=pairs,
    )
