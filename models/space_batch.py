"""Many points of a space at once: what `Space.encode` and `Space.decode` answer, by columns.

A tuner weighs hundreds of points before each trial; here a column of the unit cube is one NumPy
expression. Discrete coordinates are the same to the last bit as those of the scalar path, real ones
to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.parameters import Condition, Float, Int, Parameter, among, same
from models.records import Params, Scalar

if TYPE_CHECKING:
    from models.space import Space

Units = NDArray[np.float64]
Mask = NDArray[np.bool_]

_TABLE = 4_096  # log integers of at most so many values have their bin centres in a table
_MISSING = object()


def _bins(parameter: Parameter) -> float:
    """Number of equal bins; infinite for a real interval, 0 for the growing bins of a log Int."""
    return 0.0 if isinstance(parameter, Int) and parameter.log else parameter.size()


class Batch:
    """A space compiled for whole arrays: units (n, d) to units, masks and configurations."""

    def __init__(self, space: Space) -> None:
        self.space = space
        bins = np.array([_bins(p) for p in space.parameters])
        self._equal = np.flatnonzero(np.isfinite(bins) & (bins > 0))
        self._count = bins[self._equal]
        self._growing = [
            (j, p, _centres(p))
            for j, p in enumerate(space.parameters)
            if isinstance(p, Int) and p.log
        ]
        self._conditions = [
            (j, space.index[condition[0]], condition)
            for j, p in enumerate(space.parameters)
            for condition in p.conditions
        ]

    def canonical(self, units: Units) -> tuple[Units, Mask]:
        """(n, d) units to (units, active): each row as `encode(decode(row))` answers it."""
        snapped = self._snapped(units)
        active = self._active(snapped)
        snapped[~active] = 0.5
        for row in self._refused(units, active):
            params = self.space.decode(units[row])
            snapped[row] = self.space.encode(params)
            active[row] = [name in params for name in self.space.index]
        return snapped, active

    def decode(self, units: Units) -> list[dict[str, Scalar]]:
        """(n, d) units to n configurations, each as `decode(row)` answers it."""
        units = _table(units, len(self.space))
        active = self._active(self._snapped(units))
        out: list[dict[str, Scalar]] = [{} for _ in range(len(units))]
        for j, parameter in enumerate(self.space.parameters):
            rows = np.flatnonzero(active[:, j])
            if not len(rows):
                continue
            name, values = parameter.name, values_of(parameter, units[rows, j])
            for row, value in zip(rows.tolist(), values, strict=True):
                out[row][name] = value
        for row in self._refused(units, active):
            out[row] = self.space.decode(units[row])
        return out

    def encode(self, params: Sequence[Params]) -> Units:
        """n valid configurations to units (n, d)."""
        unit = np.full((len(params), len(self.space)), 0.5)
        for j, parameter in enumerate(self.space.parameters):
            column = [row.get(parameter.name, _MISSING) for row in params]
            rows = [i for i, value in enumerate(column) if value is not _MISSING]
            if rows:
                unit[rows, j] = units_of(parameter, [column[i] for i in rows])
        return unit

    def _refused(self, units: Units, active: Mask) -> list[int]:
        """Rows that the constraints refuse."""
        refused = np.zeros(len(units), dtype=bool)
        for constraint in self.space.constraints:
            places = [self.space.index[name] for name in constraint.names]
            rows = np.flatnonzero(active[:, places].all(axis=1) & ~refused)
            columns = (values_of(self.space.parameters[j], units[rows, j]) for j in places)
            refused[rows] = [constraint.breaks(values) for values in zip(*columns, strict=True)]
        return np.flatnonzero(refused).tolist()

    def _snapped(self, units: Units) -> Units:
        units = _table(units, len(self.space))
        out = np.clip(units, 0.0, 1.0)
        index = np.floor(out[:, self._equal] * self._count)
        out[:, self._equal] = (np.minimum(index, self._count - 1) + 0.5) / self._count
        for j, parameter, centres in self._growing:
            index = _whole(parameter, out[:, j]) - parameter.low
            out[:, j] = centres[index] if centres is not None else _log_units(parameter, index)
        return out

    def _active(self, snapped: Units) -> Mask:
        active = np.ones(snapped.shape, dtype=bool)
        for j, parent, condition in self._conditions:
            holds = _holds(condition, self.space.parameters[parent], snapped[:, parent])
            active[:, j] &= active[:, parent] & holds
        return active


def _holds(condition: Condition, parent: Parameter, snapped: Units) -> Mask:
    wanted = among(condition)
    if math.isinf(parent.size()):  # one exact real number: to rounding is not enough
        values = values_of(parent, snapped)
        return np.array([any(same(v, w) for w in wanted) for v in values], dtype=bool)
    holds = np.zeros(len(snapped), dtype=bool)
    for value in wanted:
        holds |= snapped == parent.to_unit(value)
    return holds


def _table(units: Units, d: int) -> Units:
    units = np.asarray(units, dtype=np.float64)
    if units.ndim != 2 or units.shape[1] != d:
        raise SpaceFault(
            f"units are (n, {d}), one column per parameter; got shape {units.shape}: reshape them"
        )
    return units


def _centres(parameter: Int) -> Units | None:
    """Bin centres of a log Int, by value; None when there are too many to list."""
    n = int(parameter.size())
    return _log_units(parameter, np.arange(n)) if n <= _TABLE else None


@lru_cache(maxsize=256)
def _steps(parameter: Float) -> tuple[float, ...]:
    return tuple(parameter.option(i) for i in range(int(parameter.size())))


def _log_units(parameter: Int, index: NDArray[np.int64]) -> Units:
    return np.array([parameter.to_unit(parameter.low + i) for i in index.tolist()])


def _whole(parameter: Int, unit: Units) -> NDArray[np.int64]:
    """Values of a log Int at clipped units (n,)."""
    low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
    raw = np.exp(low + unit * (high - low))
    whole = np.clip(np.rint(raw), parameter.low, parameter.high).astype(np.int64)
    # NumPy's exp and that of the scalar path may differ in the last bit: it decides at an edge.
    for i in np.flatnonzero(np.abs(raw % 1.0 - 0.5) < 1e-9 * raw + 1e-9).tolist():
        whole[i] = parameter.from_unit(float(unit[i]))
    return whole


def values_of(parameter: Parameter, unit: Units) -> list[Any]:
    """Units (n,) of one parameter to its values, as plain Python scalars."""
    unit = np.clip(unit, 0.0, 1.0)
    if isinstance(parameter, Float) and parameter.step is None:
        raw = unit * parameter.span
        if parameter.log:  # math.exp and not NumPy's, whose last bit depends on the processor
            raw = parameter.low * np.array([math.exp(x) for x in raw.tolist()])
        else:
            raw = parameter.low + raw
        return np.clip(raw, parameter.low, parameter.high).tolist()  # type: ignore[no-any-return]
    if isinstance(parameter, Int) and parameter.log:
        return _whole(parameter, unit).tolist()  # type: ignore[no-any-return]
    n = parameter.size()
    index = np.minimum(np.floor(unit * n), n - 1).astype(np.int64)
    if isinstance(parameter, Int):
        return (parameter.low + index * (parameter.step or 1)).tolist()  # type: ignore[no-any-return]
    if isinstance(parameter, Float):
        if n > _TABLE:
            return [parameter.option(i) for i in index.tolist()]
        options: Sequence[Scalar] = _steps(parameter)
    else:
        options = parameter.options
    return [options[i] for i in index.tolist()]


def units_of(parameter: Parameter, values: Sequence[Any]) -> Units:
    """Valid values of one parameter to its units (n,)."""
    if isinstance(parameter, Float | Int):
        if parameter.log or parameter.low == parameter.high or parameter.step is not None:
            return np.array([parameter.to_unit(value) for value in values])
        x = np.array([float(value) for value in values])
        if isinstance(parameter, Int):
            return (x - parameter.low + 0.5) / parameter.span
        return np.clip((x - parameter.low) / parameter.span, 0.0, 1.0)
    places = {(isinstance(v, bool), v): i for i, v in enumerate(parameter.options)}
    n = len(places)
    return np.array(
        [
            (places[key] + 0.5) / n
            if (key := (isinstance(v, bool), v)) in places
            else parameter.to_unit(v)
            for v in values
        ]
    )
