"""Weights in as few bytes as they need, and the file that holds them.

Of a matrix with many zeros only the others are kept: each with the gap to the one before it in one
byte (a gap that is longer is bridged by zeros). A matrix on a grid (`models.compress.grid`) has one
byte a weight in the place of four. Whichever is smallest is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.compress import grid
from models.errors import BundleFault

SHAPES = "shapes"  # of the matrices: an array that no other file has
_LONGEST = 255
_MOST = 2**28  # weights of one matrix that a file may state


@dataclass(frozen=True)
class Packed:
    """A matrix. gaps uint8 (n,), if its zeros are left out; values float32 or int8 (n,), of all the
    weights without gaps; step float32 (rows, 1) or (1, columns), if the values
    are whole numbers of steps."""

    shape: tuple[int, ...]
    values: NDArray[Any]
    gaps: NDArray[np.uint8] | None = None
    step: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.values, self.gaps, self.step) if a is not None)

    def unpacked(self) -> NDArray[np.float32]:
        """The matrix, float32."""
        flat = self.values
        if self.gaps is not None:
            flat = np.zeros(int(np.prod(self.shape)), dtype=self.values.dtype)
            flat[np.cumsum(self.gaps.astype(np.int64)) - 1] = self.values
        whole = flat.reshape(self.shape).astype(np.float32)
        return whole if self.step is None else np.asarray(whole * self.step)


def pack(matrix: NDArray[np.float32], step: NDArray[np.float32] | None = None) -> Packed:
    """The smallest form of a matrix (rows, columns); `step` if it lies on that grid.

    >>> m = np.zeros((30, 100), np.float32); m[3, 5] = m[29, 99] = 2.0
    >>> p = pack(m); p.nbytes < 80, bool((p.unpacked() == m).all())
    (True, True)
    """
    matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    flat = (matrix if step is None else grid.whole(matrix, step)).ravel()
    dense = Packed(matrix.shape, flat, None, step)
    gaps, at = gapped(np.flatnonzero(flat))
    sparse = Packed(matrix.shape, flat[at], gaps, step)
    return sparse if sparse.nbytes < dense.nbytes else dense


def gapped(places: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(gaps, places) such that the gaps add up to the places plus one; where a gap is too long for
    a byte, places are added that were not given."""
    if not len(places):
        return np.zeros(0, np.uint8), places
    gaps = np.diff(places, prepend=-1)
    bridges = (gaps - 1) // _LONGEST
    out = np.full(len(gaps) + int(bridges.sum()), _LONGEST, dtype=np.int64)
    ends = np.cumsum(bridges + 1) - 1
    out[ends] = gaps - bridges * _LONGEST
    return out.astype(np.uint8), np.cumsum(out) - 1


def write(path: Path, matrices: Mapping[str, Packed], plain: Mapping[str, NDArray[Any]]) -> None:
    """Write matrices and other arrays as an .npz without pickle."""
    arrays: dict[str, NDArray[Any]] = {f"plain/{name}": array for name, array in plain.items()}
    shapes = {}
    for name, matrix in matrices.items():
        shapes[name] = list(matrix.shape)
        for part in ("values", "gaps", "step"):
            if (array := getattr(matrix, part)) is not None:
                arrays[f"{part}/{name}"] = array
    arrays[SHAPES] = np.frombuffer(json.dumps(shapes).encode(), dtype=np.uint8)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read(path: Path) -> tuple[dict[str, Packed], dict[str, NDArray[Any]]]:
    """What `write` wrote. Raises BundleFault for any other file; nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return taken_apart(arrays)
    except BundleFault:
        raise
    except Exception as fault:  # a damaged archive fails in as many ways as zip and JSON have
        raise BundleFault(f"{path} is not readable: {fault}: train the model anew") from fault


def taken_apart(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Packed], dict[str, Any]]:
    """Matrices and other arrays of a file's arrays. Raises BundleFault for a matrix that can't be,
    KeyError or ValueError for what is no such file."""
    shapes = json.loads(arrays[SHAPES].tobytes())
    matrices = {name: _checked(name, tuple(shape), arrays) for name, shape in shapes.items()}
    plain = {n.removeprefix("plain/"): a for n, a in arrays.items() if n.startswith("plain/")}
    return matrices, plain


def _checked(name: str, shape: tuple[int, ...], arrays: Mapping[str, NDArray[Any]]) -> Packed:
    values, gaps = arrays[f"values/{name}"], arrays.get(f"gaps/{name}")
    size = int(np.prod(shape))
    if gaps is None:
        fits = len(values) == size
    else:
        fits = len(values) == len(gaps) and int(gaps.sum(dtype=np.int64)) <= size
    kind = values.dtype in (np.float32, np.int8) and (gaps is None or gaps.dtype == np.uint8)
    step = arrays.get(f"step/{name}")
    if step is not None:
        fits = fits and step.ndim == len(shape) and np.broadcast_shapes(shape, step.shape) == shape
    if not (fits and kind and size <= _MOST and (gaps is None or gaps.all())):
        raise BundleFault(
            f"a matrix of {shape} has as many weights, got {values.dtype} {values.shape} of "
            f"{name!r}: it was not written here, train the model anew"
        )
    return Packed(shape, values, gaps, step)
