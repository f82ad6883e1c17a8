"""Both samples pooled into units: mean features and a kernel between them, all side-blind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.coordinates import Coordinates
from monitoring.embedding import numbers
from monitoring.errors import WindowFault
from monitoring.features import Features
from monitoring.kernels import SCALES, Fourier, median_distance, mixed, row_kernels, unit_sums
from monitoring.units import Units

_FREQUENCIES = 32  # of each bandwidth, where random features are used
_SAMPLE = 8_192  # pooled rows that set ranks and bandwidths there
_CHUNK = 16_384  # rows looked at at once there


@dataclass(frozen=True, slots=True)
class Pooled:
    """U units: their mean features (U, K), their weighted points (U, k) and a kernel (U, U)."""

    coordinates: Coordinates
    features: Features
    units: Units
    means: NDArray[np.float32]
    points: NDArray[np.float32]
    kernel: Any  # torch.Tensor, mean kernel between the rows of two units, centred and mixed
    ones: NDArray[np.int64]  # (k,) rows that are 1 in an indicator, else 0
    note: str


def sides(x: Any, y: Any) -> tuple[Any, Any]:
    """Two frames with the same columns, or two float arrays (m, d), (n, d)."""
    if hasattr(x, "columns") != hasattr(y, "columns"):
        raise WindowFault(
            "both samples are frames or both are arrays, got one of each: convert one"
        )
    if hasattr(x, "columns"):
        x, y = _frames(x, y)
    else:
        x, y = _array(x, "x"), _array(y, "y")
        if x.shape[1] != y.shape[1]:
            raise WindowFault(
                f"both samples need the same columns, got {x.shape[1]} and {y.shape[1]}: select"
            )
        coarse = _coarser(x.dtype, y.dtype)
        if coarse is not None:
            x, y = x.astype(coarse, copy=False), y.astype(coarse, copy=False)
    for name, side in (("x", x), ("y", y)):
        if len(side) < 2:
            raise WindowFault(f"{name} needs at least 2 rows, got {len(side)}: widen the window")
    return x, y


def _frames(x: Any, y: Any) -> tuple[Any, Any]:
    """Both with the columns of `x`, in its order, numbers in types of as many digits."""
    for side in (x, y):
        count = Counter(str(name) for name in side.columns)
        if doubled := sorted(name for name, times in count.items() if times > 1):
            raise WindowFault(f"columns {doubled} are there more than once: rename them")
    missing = list(x.columns.difference(y.columns, sort=False))
    if missing or len(x.columns) != len(y.columns):
        extra = list(y.columns.difference(x.columns, sort=False))
        raise WindowFault(
            f"both samples need the same columns; {missing + extra} are on one side: select"
        )
    y = y[list(x.columns)]
    if not len(x.columns):
        raise WindowFault("samples have no column: select at least one")
    for name, one, other in zip(x.columns, x.dtypes, y.dtypes, strict=True):
        coarse = _coarser(one, other)
        if coarse is not None:
            x, y = _rounded(x, name, coarse), _rounded(y, name, coarse)
    return x, y


def _coarser(one: Any, other: Any) -> Any:
    """The float type with fewer digits that one side has and the other not, else None.

    Both are rounded to it: 0.1 as float32 and 0.1 as float64 are a tie, not drift.
    """
    if one == other or one.kind not in "biuf" or other.kind not in "biuf":
        return None
    floats = [np.dtype(f"f{kind.itemsize}") for kind in (one, other) if kind.kind == "f"]
    coarse = min(floats, key=lambda kind: kind.itemsize, default=np.dtype(np.float64))
    return coarse if coarse.itemsize < 8 else None


def _array(sample: Any, name: str) -> NDArray[np.floating[Any]]:
    if hasattr(sample, "detach"):
        sample = sample.detach().cpu()
    try:
        matrix = np.asarray(sample)
        if matrix.dtype.kind != "f":
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
    m = len(x)
    drawn = len(units.order) < (m + len(y)) * 3 // 4  # a larger side that mostly stays out
    if drawn:
        keep = np.sort(units.order)
        x, y = _rows(x, keep[keep < m]), _rows(y, keep[keep >= m] - m)
        units = units.relabelled(keep)
        m = len(x)
    both = _joined(x, y)
    coordinates, points = Coordinates.placed(both, kinds)
    features = Features.choose(points, coordinates, seed)
    weighted = features.weighted(points)
    along = _projection(points)
    median = median_distance(weighted[np.argsort(along, kind="stable")])
    units = units.arranged(along, m, seed)
    bandwidths = [median * scale for scale in SCALES]
    weighted = weighted[units.order]
    if units.size == 1 and 16e-6 * len(weighted) ** 2 < memory_mb / 4:
        kernel = mixed(row_kernels(weighted, bandwidths, device=device))
    else:
        kernel = mixed(_unit_kernels(weighted, units, bandwidths, memory_mb / 4, device))
    entered = points[units.order]
    return Pooled(
        coordinates,
        features,
        units,
        _unit_features(features, units, entered),
        units.means(weighted).astype(np.float32),
        kernel,
        np.where(coordinates.indicator, entered.sum(axis=0), 0).astype(np.int64),
        units.note,
    )


def _unit_kernels(
    points: NDArray[np.float32],
    units: Units,
    bandwidths: Sequence[float],
    memory_mb: float,
    device: Any,
) -> Any:
    """(L, U, U) mean kernels between the rows of two units."""
    import torch

    sums = unit_sums(points, units, bandwidths, memory_mb=memory_mb, device=device)
    own = torch.arange(units.count, device=sums.device)
    sizes = torch.as_tensor(units.sizes, dtype=torch.float32, device=sums.device)
    sums[:, own, own] += sizes  # a row's pair with itself
    if units.size != 1:
        sums /= sizes[:, None]
        sums /= sizes
    return sums if units.size else _without_own(sums)


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
    means, places, spectra = [], [], []
    ones = np.zeros(len(features.weight))
    for part in units.chunks(_CHUNK):
        side, order = (x, part.order) if part.first[0] else (y, part.order - m)
        points = coordinates.transform(_rows(side, order))
        weighted = features.weighted(points)
        means.append(part.means(features.of(points)).astype(np.float32))
        places.append(part.means(weighted).astype(np.float32))
        spectra.append(_spectrum(waves, part, torch.as_tensor(weighted, device=device)))
        ones += points.sum(axis=0, dtype=np.float64)
    spectrum = torch.cat(spectra).transpose(0, 1)
    kernels = spectrum @ spectrum.transpose(1, 2)
    approximated = (
        f"{_FREQUENCIES} random frequencies a bandwidth in place of the kernel: its part of the "
        "power is theirs, that of the other statistics is whole"
    )
    return Pooled(
        coordinates,
        features,
        units,
        np.concatenate(means),
        np.concatenate(places),
        mixed(kernels if units.size else _without_own(kernels)),
        np.where(coordinates.indicator, np.rint(ones), 0).astype(np.int64),
        "; ".join(note for note in (approximated, units.note) if note),
    )


def _unit_features(
    features: Features, units: Units, entered: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(U, K) unit means, some units at a time where the features are many."""
    start, found = 0, []
    for part in units.chunks(_CHUNK):
        stop = start + len(part.order)
        found.append(part.means(features.of(entered[start:stop])).astype(np.float32))
        start = stop
    return np.concatenate(found)


def _spectrum(waves: Fourier, units: Units, points: Any) -> Any:
    """(U, L, 2 D) mean waves of units."""
    import torch

    if units.size:
        return waves.unit_means(points, units.size)
    single = waves.unit_means(points, 1)
    means = units.means(single.cpu().numpy()).astype(np.float32)
    return torch.as_tensor(means, device=single.device)


def _without_own(kernels: Any) -> Any:
    """Kernels where a block's mean with the others stands in for that with itself.

    The fewer rows a block has, the more the pairs of a row with itself would say.
    """
    import torch

    own = torch.arange(kernels.shape[1], device=kernels.device)
    kernels[:, own, own] = 0
    kernels[:, own, own] = kernels.sum(2) / max(kernels.shape[1] - 1, 1)
    return kernels


def _projection(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) a value by which rows are sorted: any fixed direction will do."""
    weights = np.random.default_rng(0).normal(size=points.shape[1])
    return np.asarray(points @ weights)


def _rounded(frame: Any, name: Any, kind: Any) -> Any:
    """The frame with one column rounded to a float type."""
    with np.errstate(over="ignore"):
        column = numbers(frame[name]).astype(kind)
    changed = frame.copy(deep=False)
    changed[name] = column
    return changed


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
        if old.dtype.kind in "biuf" and new.dtype.kind in "biuf":
            return pd.Series(np.concatenate([numbers(old), numbers(new)]))
        old, new = old.astype(object), new.astype(object)
    return pd.concat([old, new], ignore_index=True)
