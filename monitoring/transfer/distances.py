"""How far apart two domains are: an MMD, and how well a classifier tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.domain import domain_test
from monitoring.embedding import Embedding
from monitoring.errors import WindowFault
from monitoring.mmd import mmd_test

Array = NDArray[np.float64]

_ROWS = 1_500  # of either side that enter the tests
_TELLS = 0.002  # of AUC: a column that costs less tells nothing by itself
_EFFECT_ROWS = 1_000  # of either side that the effect is measured on


@dataclass(frozen=True, slots=True)
class Distances:
    """All are of rows alone; none has looked at a label.

    `mmd` is the root of the unbiased MMD² at its loudest bandwidth, 0 where that is negative;
    `effect` is that MMD² over the mean spread within the domains under the same kernel: 0 for one
    domain, about 1 where rows of two are as unlike as rows can be. `accuracy` is the balanced
    held-out accuracy of telling the domains apart, `a_distance` the proxy A-distance of it.
    """

    mmd: float
    effect: float
    mmd_p: float
    accuracy: float
    auc: float
    a_distance: float
    domain_p: float
    rows: tuple[int, int]
    tell: tuple[tuple[str, float], ...]  # columns by the AUC that is lost without them


def distances(
    source: Any,
    target: Any,
    columns: Mapping[str, str] | None = None,
    *,
    permutations: int = 999,
    rows: int = _ROWS,
    seed: int = 0,
) -> Distances:
    """Of two frames with `columns` (name -> 'number' or 'category'), or of points (m, d), (n, d).

    At most `rows` of either side enter, drawn without replacement by `seed`. Both p-values are of
    permutation tests at exact levels. Raises WindowFault for fewer than 4 rows on a side.
    """
    rng = np.random.default_rng(seed)
    source, target = (_sample(side, rows, rng) for side in (source, target))
    for name, side in (("source", source), ("target", target)):
        if len(side) < 4:
            raise WindowFault(
                f"a distance needs at least 4 rows on each side, got {len(side)} {name} rows: "
                "bring more"
            )
    x, y = (source, target) if columns is None else _placed(source, target, columns)
    found = mmd_test(x, y, permutations=permutations, seed=seed)
    told = domain_test(
        source, target, columns, permutations=permutations, seed=seed,
        repeats=0 if columns is None else 3,
    )  # fmt: skip
    return Distances(
        mmd=float(np.sqrt(max(found.statistic, 0.0))),
        effect=_effect(np.asarray(x), np.asarray(y), found.bandwidth, rng),
        mmd_p=found.p_value,
        accuracy=told.accuracy,
        auc=told.auc,
        a_distance=told.a_distance,
        domain_p=told.p_value,
        rows=(len(source), len(target)),
        tell=tuple((name, loss) for name, loss in told.importances.items() if loss > _TELLS)[:8],
    )


def _placed(source: Any, target: Any, columns: Mapping[str, str]) -> tuple[Array, Array]:
    """Points of both sides on terms that both set alike, so the permutation test stays exact."""
    import pandas as pd

    names = list(columns)
    pooled = pd.concat([source[names], target[names]], ignore_index=True)
    points = Embedding.fit(pooled, columns).transform(pooled).astype(np.float64)
    return points[: len(source)], points[len(source) :]


def _sample(side: Any, rows: int, rng: np.random.Generator) -> Any:
    if len(side) <= rows:
        return side
    drawn = np.sort(rng.choice(len(side), rows, replace=False))
    return side.iloc[drawn] if hasattr(side, "iloc") else side[drawn]


def _effect(x: Array, y: Array, bandwidth: float, rng: np.random.Generator) -> float:
    """Unbiased MMD² over 1 minus the mean kernel between two rows of one domain.

    The second is the mean squared distance of a row from its domain's mean in the kernel's space,
    so this is a squared distance of means in units of the spread: what Cohen's d² is for a number.
    """
    x, y = (_sample(side, _EFFECT_ROWS, rng) for side in (x, y))
    own, other = _mean(x, None, bandwidth), _mean(y, None, bandwidth)
    between = _mean(x, y, bandwidth)
    spread = 1 - (own + other) / 2
    return float(max(0.0, own + other - 2 * between) / spread) if spread > 1e-12 else 0.0


def _mean(x: Array, y: Array | None, bandwidth: float) -> float:
    """Mean kernel of pairs, of different rows where `y` is None."""
    other = x if y is None else y
    squares = (x**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * x @ other.T
    kernel = np.exp(-np.maximum(squares, 0.0) / (2 * bandwidth**2))
    if y is not None:
        return float(kernel.mean())
    n = len(x)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
