"""Which columns and pairs moved: step-down maxima over the permutations of a shift test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitoring import tails

if TYPE_CHECKING:
    from monitoring.statistics import Evidence

_TOLD = 20  # pairs that are returned
_NOISE = 1e-4  # of a score: what is so near the observed one counts as extreme as it is


@dataclass(frozen=True, slots=True)
class Moved:
    """A column or a pair, and the chance of so much if none had moved (family-wise exact)."""

    names: tuple[str, ...]
    what: str  # 'location', 'spread', 'correlation', or the level or gap that moved
    z: float  # y against x in deviations under permutation: above 0, y has more
    p_adjusted: float


def moved(
    evidence: Evidence, labelings: NDArray[np.int8], most: int
) -> tuple[Mapping[str, float], tuple[Moved, ...], tuple[Moved, ...]]:
    """Each statistic's own p-value, the columns and the pairs, the most significant first."""
    every = np.concatenate([evidence.observed[None], labelings])
    columns, pairs, parts = [], [], []
    for start in range(0, len(every), most):
        z, log_p, found = evidence.explained(every[start : start + most])
        if not start:
            first_z, first_log = z[0], log_p[0]
        columns.append(_by_column(evidence, z, log_p))
        pairs.append(-np.abs(z[:, evidence.products]))
        parts.append(found)
    own = {name: _rank(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    by_column = np.concatenate(columns)
    told = [
        _column(evidence, column, p, first_z, first_log)
        for column, p in zip(*_ordered(by_column), strict=True)
    ]
    by_pair = np.concatenate(pairs)
    couples: list[Moved] = []
    if by_pair.shape[1]:
        names, chosen = evidence.pooled.coordinates.names, evidence.pooled.features.pairs
        sign = -1 if evidence.flipped else 1
        for pair, p in list(zip(*_ordered(by_pair), strict=True))[:_TOLD]:
            i, j = chosen[pair]
            z_pair = -sign * float(first_z[evidence.products][pair])
            couples.append(Moved((names[i], names[j]), "correlation", z_pair, p))
    return own, tuple(told), tuple(couples)


def step_down(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Westfall and Young's adjusted p-values of row 0 of (B + 1, c) scores, smaller more extreme.

    >>> step_down(np.array([[-9.0, 0.0], [-1.0, -2.0], [-3.0, -1.0]])).round(2).tolist()
    [0.33, 1.0]
    """
    order = np.argsort(np.round(scores[0], 5), kind="stable")
    least = np.minimum.accumulate(scores[:, order[::-1]], axis=1)[:, ::-1]  # over the rest
    observed = scores[0, order]
    bar = observed + _NOISE * np.maximum(1.0, np.abs(observed))
    p_values = (least <= bar).mean(axis=0)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(p_values)
    return adjusted


def _ordered(scores: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    p_values = step_down(scores)
    order = np.lexsort((scores[0], p_values))
    return [int(i) for i in order], [float(p) for p in p_values[order]]


def _by_column(
    evidence: Evidence, z: NDArray[np.float32], log_p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(B, columns) smallest log tail among a column's coordinates and squares."""
    source = evidence.pooled.coordinates.source
    starts = np.flatnonzero(np.r_[True, source[1:] != source[:-1]])
    best = np.minimum.reduceat(log_p, starts, axis=1)
    squared = evidence.pooled.features.squared
    if len(squared):
        of = source[squared]
        best[:, of] = np.minimum(best[:, of], tails.normal(z[:, evidence.squares]))
    return best


def _column(
    evidence: Evidence,
    column: int,
    p_value: float,
    z: NDArray[np.float32],
    log_p: NDArray[np.float64],
) -> Moved:
    coordinates, squared = evidence.pooled.coordinates, evidence.pooled.features.squared
    start, stop = np.searchsorted(coordinates.source, [column, column + 1])
    best = int(start + np.argmin(log_p[start:stop]))
    name = coordinates.columns[column].name
    sign = -1 if evidence.flipped else 1
    place = int(np.searchsorted(squared, start))
    if place < len(squared) and squared[place] < stop:
        spread = float(z[evidence.squares][place])
        if tails.normal(np.array([spread]))[0] < log_p[best]:
            return Moved((name,), "spread", -sign * spread, p_value)
    what = "location" if coordinates.names[best] == name else coordinates.names[best]
    return Moved((name,), what, -sign * float(z[best]), p_value)


def _rank(values: NDArray[np.float64]) -> float:
    """p-value of the first of values that are smaller the more extreme they are."""
    return float((values <= values[0] * (1 + _NOISE)).mean())
