"""Both samples pooled into units: mean features and a kernel between them, all side-blind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.coordinates import Coordinates
from monitoring.errors import WindowFault
from monitoring.features import Features
from monitoring.kernels import SCALES, Fourier, median_distance, unit_sums
from monitoring.units import Units

_FREQUENCIES = 32  # of each bandwidth, where random features are used
_SAMPLE = 8_192  # pooled rows that set ranks and bandwidths there
_CHUNK = 16_384  # rows looked at at once there


@dataclass(frozen=True, slots=True)
class Pooled:
    """U units: their mean features (U, K), their weighted points (U, k) and kernels (L, U, U)."""

    coordinates: Coordinates
    features: Features
    units: Units
    means: NDArray[np.float32]
    points: NDArray[np.float32]
    kernels: Any  # torch.Tensor, mean kernel between the rows of two units
    ones: NDArray[np.int64]  # (k,) rows that are 1 in an indicator, else 0
    note: str


def sides(x: Any, y: Any) -> tuple[Any, Any]:
    """Two frames with the same columns, or two float arrays (m, d), (n, d)."""
    if hasattr(x, "columns") != hasattr(y, "columns"):
        raise WindowFault(
            "both samples are frames or both are arrays, got one of each: convert one"
        )
    if hasattr(x, "columns"):
        missing = [c for c in x.columns if c not in y.columns]
        if missing or len(x.columns) != len(y.columns):
            extra = [c for c in y.columns if c not in x.columns]
            raise WindowFault(
                f"both samples need the same columns; {missing + extra} are on one side: select"
            )
        y = y[list(x.columns)]
        if not len(x.columns):
            raise WindowFault("samples have no column: select at least one")
    else:
        x, y = _array(x, "x"), _array(y, "y")
        if x.shape[1] != y.shape[1]:
            raise WindowFault(
                f"both samples need the same columns, got {x.shape[1]} and {y.shape[1]}: select"
            )
    for name, side in (("x", x), ("y", y)):
        if len(side) < 2:
            raise WindowFault(f"{name} needs at least 2 rows, got {len(side)}: widen the window")
    return x, y


def _array(sample: Any, name: str) -> NDArray[np.floating[Any]]:
    if hasattr(sample, "detach"):
        sample = sample.detach().cpu()
    try:
        matrix = np.asarray(sample)
        if matrix.dtype.kind != "f" or matrix.dtype.itemsize < 4:
            matrix = matrix.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise WindowFault(
            f"{name} must hold numbers ({fault}): give mixed columns as a frame"
        ) from None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise WindowFault(f"{name} must be (rows, columns), got shape {matrix.shape}: reshape it")
    return matrix


def pooled_by_kernel(
    x: Any,
    y: Any,
    units: Units,
    *,
    kinds: Mapping[str, str] | None,
    seed: int,
    memory_mb: float,
    device: Any,
) -> Pooled:
    """The exact kernel, and ranks among all pooled rows that enter."""
    import torch

    m = len(x)
    drawn = len(units.order) < (m + len(y)) * 3 // 4  # a larger side that mostly stays out
    if drawn:
        keep = np.sort(units.order)
        x, y = _rows(x, keep[keep < m]), _rows(y, keep[keep >= m] - m)
        units = units.relabelled(keep)
        m = len(x)
    both = _joined(x, y)
    coordinates = Coordinates.fit(both, kinds)
    points = coordinates.transform(both)
    features = Features.choose(points, coordinates, seed)
    weighted = features.weighted(points)
    along = _projection(points / features.deviation)
    median = median_distance(weighted[np.argsort(along, kind="stable")])
    units = units.arranged(along, m)
    bandwidths = [median * scale for scale in SCALES]
    weighted = weighted[units.order]
    sums = unit_sums(weighted, units, bandwidths, memory_mb=memory_mb / 4, device=device)
    own = torch.arange(units.count, device=sums.device)
    sizes = torch.as_tensor(units.sizes, dtype=torch.float32, device=sums.device)
    sums[:, own, own] += sizes  # a row's pair with itself
    sums /= sizes[:, None]
    sums /= sizes
    if not units.size:  # the fewer rows a block has, the more its own pairs say: others' stand in
        sums[:, own, own] = 0
        sums[:, own, own] = sums.sum(2) / max(units.count - 1, 1)
    entered = points[units.order]
    return Pooled(
        coordinates,
        features,
        units,
        _unit_features(features, units, entered),
        units.means(weighted).astype(np.float32),
        sums,
        np.where(coordinates.indicator, entered.sum(axis=0), 0).astype(np.int64),
        units.note,
    )


def pooled_by_features(
    x: Any,
    y: Any,
    units: Units,
    *,
    kinds: Mapping[str, str] | None,
    seed: int,
    memory_mb: float,  # noqa: ARG001 - a chunk of rows at a time is within any bound
    device: Any,
) -> Pooled:
    """Random Fourier features, and ranks among a sample of the pooled rows; linear in the rows."""
    import torch

    rng = np.random.default_rng([seed, 2])
    m, total = len(x), len(x) + len(y)
    drawn = np.sort(rng.choice(total, min(_SAMPLE, total), replace=False))
    sample = _joined(_rows(x, drawn[drawn < m]), _rows(y, drawn[drawn >= m] - m))
    coordinates = Coordinates.fit(sample, kinds)
    points = coordinates.transform(sample)
    features = Features.choose(points, coordinates, seed)
    median = median_distance(features.weighted(points)[rng.permutation(len(points))])
    bandwidths = [median * scale for scale in SCALES]
    waves = Fourier(len(features.weight), bandwidths, _FREQUENCIES, rng, device)
    step = max(_CHUNK // units.size, 1) * units.size
    means, places, spectra = [], [], []
    ones = np.zeros(len(features.weight))
    for side, order in ((x, units.order[units.order < m]), (y, units.order[units.order >= m] - m)):
        for start in range(0, len(order), step):
            points = coordinates.transform(_rows(side, order[start : start + step]))
            weighted = features.weighted(points)
            shape = (-1, units.size, points.shape[1])
            means.append(_chunk_features(features, points, units.size))
            places.append(weighted.reshape(shape).mean(axis=1))
            spectra.append(waves.unit_means(torch.as_tensor(weighted, device=device), units.size))
            ones += points.sum(axis=0, dtype=np.float64)
    spectrum = torch.cat(spectra).transpose(0, 1)
    approximated = (
        f"{_FREQUENCIES} random frequencies a bandwidth in place of the kernel: its part of the "
        "power is theirs, that of the other statistics is whole"
    )
    return Pooled(
        coordinates,
        features,
        units,
        np.concatenate(means).astype(np.float32),
        np.concatenate(places).astype(np.float32),
        spectrum @ spectrum.transpose(1, 2),
        np.where(coordinates.indicator, np.rint(ones), 0).astype(np.int64),
        "; ".join(note for note in (approximated, units.note) if note),
    )


def _unit_features(
    features: Features, units: Units, entered: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(U, K) unit means, some units at a time where the features are many."""
    if not units.size:
        return units.means(features.of(entered)).astype(np.float32)
    step = max(_CHUNK // units.size, 1) * units.size
    chunks = range(0, len(entered), step)
    return np.concatenate(
        [_chunk_features(features, entered[i : i + step], units.size) for i in chunks]
    ).astype(np.float32)


def _chunk_features(
    features: Features, points: NDArray[np.float32], size: int
) -> NDArray[np.float32]:
    found = features.of(points)
    if size == 1:
        return found
    return np.asarray(found.reshape(-1, size, found.shape[1]).mean(axis=1))


def _projection(standard: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) a value by which rows are sorted: any fixed direction will do."""
    weights = np.random.default_rng(0).normal(size=standard.shape[1])
    return np.asarray(standard @ weights)


def _rows(side: Any, picked: NDArray[np.int64]) -> Any:
    return side.iloc[picked] if hasattr(side, "iloc") else side[picked]


def _joined(x: Any, y: Any) -> Any:
    if not hasattr(x, "columns"):
        return np.concatenate([x, y]).astype(np.float64, copy=False)
    import pandas as pd

    return pd.DataFrame(
        {str(c): _series(x[c], y[c]) for c in x.columns}  # by column: types may differ by side
    )


def _series(old: Any, new: Any) -> Any:
    import pandas as pd

    if old.dtype != new.dtype:
        old, new = old.astype(object), new.astype(object)
    return pd.concat([old, new], ignore_index=True)
