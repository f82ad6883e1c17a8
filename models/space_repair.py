"""From a unit point that decodes to what the constraints refuse to one nearby that they allow.

Pure in the unit point. Values are chosen in the parameters' order; one that breaks a constraint
with those before it is moved: a number that must lie in an interval is folded back into it, so that
a small step of the point stays a small step and what is repaired does not pile up at the border; a
choice goes to one of the others, which one its place within the bin decides. When nothing fits, an
earlier one is moved. The search is bounded; beyond the bound stands one allowed configuration found
when the space was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.constraints import EVERYTHING, Bounds, Constraint, Ordered
from models.errors import SpaceFault
from models.parameters import Categorical, Float, Int, Ordinal, Parameter, shown
from models.records import Scalar

if TYPE_CHECKING:
    from models.space import Space

_TRIES = 2_000  # values tried for one point
_PROBES = 8  # points tried before a space counts as empty
_NUDGES = (1e-9, 1e-6, 1e-3)  # unit steps of a real number that may not have one exact value
_GRID = 16


class _SpentError(Exception):
    """The bounded search is over."""


class Repair:
    """The constraints of a space compiled for repair.

    Raises SpaceFault when they leave nothing, as far as a bounded search can tell.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        d = len(space)
        self._due: list[list[Constraint]] = [[] for _ in range(d)]
        self._movable = [False] * d
        for constraint in space.constraints:
            places = [space.index[name] for name in constraint.names]
            self._due[max(places)].append(constraint)
            self._free(places)
        self._bounds = _static(space)
        self._witness = self._probe()

    def __call__(self, unit: NDArray[np.float64]) -> dict[str, Scalar]:
        found = self._search(unit)
        return dict(self._witness) if found is None else found

    def _free(self, places: list[int]) -> None:
        """What a constraint names may be moved, and what decides on its being active."""
        for place in places:
            if not self._movable[place]:
                self._movable[place] = True
                conditions = self.space.parameters[place].conditions
                self._free([self.space.index[parent] for parent, _ in conditions])

    def _probe(self) -> dict[str, Scalar]:
        rng = np.random.default_rng(0)
        for attempt in range(_PROBES):
            unit = np.full(len(self.space), 0.5) if not attempt else rng.random(len(self.space))
            found = self._search(unit)
            if found is not None:
                return found
        raise SpaceFault(
            "the constraints leave some configuration, as far as a bounded search can tell; got "
            f"{shown(self.space.constraints)}: relax one of them"
        )

    def _search(self, unit: NDArray[np.float64]) -> dict[str, Scalar] | None:
        space, params, tries = self.space, dict[str, Scalar](), [_TRIES]
        frames: list[tuple[int, int, Iterator[Scalar]]] = []
        place = 0
        try:
            while place < len(space):
                parameter = space.parameters[place]
                if not space.is_active(parameter, params):
                    place += 1
                elif not self._movable[place]:
                    params[parameter.name] = parameter.from_unit(float(unit[place]))
                    place += 1
                else:
                    u = min(max(float(unit[place]), 0.0), 1.0)
                    values = self._values(place, u, params, tries)
                    frames.append((place, len(params), values))
                    place = _advance(frames, params, space)
        except _SpentError:
            return None
        return params if place == len(space) else None

    def _values(
        self, place: int, u: float, params: dict[str, Scalar], tries: list[int]
    ) -> Iterator[Scalar]:
        """Values of one parameter that fit those before it, in the order to try."""
        parameter, due = self.space.parameters[place], self._due[place]
        low, high = self._bounds.get(parameter.name, EVERYTHING)
        for constraint in due:
            a, b = constraint.bounds(parameter.name, params)
            low, high = max(low, a), min(high, b)
        for value in _candidates(parameter, u, (low, high)):
            tries[0] -= 1
            if tries[0] < 0:
                raise _SpentError
            params[parameter.name] = value
            broken = any(constraint.broken(params) for constraint in due)
            del params[parameter.name]
            if not broken:
                yield value


def _advance(
    frames: list[tuple[int, int, Iterator[Scalar]]], params: dict[str, Scalar], space: Space
) -> int:
    """Take the next value of the last choice that has one; the place to go on from."""
    while frames:
        place, before, values = frames[-1]
        while len(params) > before:
            params.popitem()
        value = next(values, None)
        if value is not None:
            params[space.parameters[place].name] = value
            return place + 1
        frames.pop()
    return len(space) + 1


def _static(space: Space) -> dict[str, Bounds]:
    """Intervals that hold whatever the others are, through chains of orders."""
    orders = [
        c
        for c in space.constraints
        if isinstance(c, Ordered) and all(space[name].when is None for name in c.names)
    ]
    bounds = {name: _extent(space[name]) for c in orders for name in c.names}
    for _ in orders:
        for c in orders:
            (a, b), (e, f) = bounds[c.smaller], bounds[c.larger]
            bounds[c.smaller], bounds[c.larger] = (a, min(b, f)), (max(a, e), f)
            if a > f or (c.strict and a >= f):
                raise SpaceFault(
                    f"{c.rule()[0]}, got {c.smaller} from {a:g} and {c.larger} up to {f:g}: "
                    "widen one of them"
                )
    return bounds


def _extent(parameter: Parameter) -> Bounds:
    if isinstance(parameter, Float | Int):
        return float(parameter.low), float(parameter.high)
    numbers = [float(v) for v in parameter.options]
    return min(numbers), max(numbers)


def _candidates(parameter: Parameter, u: float, bounds: Bounds) -> Iterator[Scalar]:
    if isinstance(parameter, Categorical):
        yield from _rotated(parameter, u)
    elif isinstance(parameter, Float) and math.isinf(parameter.size()):
        yield from _reals(parameter, u, bounds)
    else:
        yield from _steps(parameter, u, bounds)


def _rotated(parameter: Categorical, u: float) -> Iterator[Scalar]:
    n = len(parameter.choices)
    k = min(int(u * n), n - 1)
    yield parameter.choices[k]
    start = min(int((u * n - k) * (n - 1)), max(n - 2, 0))
    for i in range(n - 1):
        yield parameter.choices[(k + 1 + (start + i) % (n - 1)) % n]


def _reals(parameter: Float, u: float, bounds: Bounds) -> Iterator[Scalar]:
    low, high = max(bounds[0], parameter.low), min(bounds[1], parameter.high)
    if low > high:
        return
    a, b = parameter.to_unit(low), parameter.to_unit(high)

    def value(unit: float) -> float:
        return min(max(parameter.from_unit(unit), low), high)

    if low <= (first := parameter.from_unit(u)) <= high:
        yield first
    else:
        u = _folded(u, a, b)
        yield value(u)
    for step in _NUDGES:
        yield value(min(u + step, b))
        yield value(max(u - step, a))
    grid = [a + (b - a) * i / _GRID for i in range(_GRID + 1)]
    for unit in sorted(grid, key=lambda x: abs(x - u)):
        yield value(unit)


def _steps(parameter: Float | Int | Ordinal, u: float, bounds: Bounds) -> Iterator[Scalar]:
    inside = _indices(parameter, bounds)
    if inside is None:
        return
    first, last = inside
    n = int(parameter.size())
    a, b = _edge(parameter, first, n), _edge(parameter, last + 1, n)
    if not a <= u <= b:
        u = _folded(u, a, b)
    value = parameter.from_unit(u)
    k = min(max(_index(parameter, value), first), last)
    yield parameter.option(k)
    above = u * n % 1.0 >= 0.5
    for distance in range(1, last - first + 1):
        for i in (k + distance, k - distance) if above else (k - distance, k + distance):
            if first <= i <= last:
                yield parameter.option(i)


def _indices(parameter: Float | Int | Ordinal, bounds: Bounds) -> tuple[int, int] | None:
    """First and last index whose value may lie within the bounds."""
    if isinstance(parameter, Ordinal):
        if bounds == EVERYTHING:
            return 0, len(parameter.values) - 1
        inside = [i for i, v in enumerate(parameter.values) if bounds[0] <= float(v) <= bounds[1]]
        return (inside[0], inside[-1]) if inside else None
    low, high = max(bounds[0], parameter.low), min(bounds[1], parameter.high)
    if low > high:
        return None
    step = parameter.step or 1
    first = math.ceil((low - parameter.low) / step - 1e-9)
    last = math.floor((high - parameter.low) / step + 1e-9)
    return (first, last) if first <= last else None


def _index(parameter: Float | Int | Ordinal, value: Scalar) -> int:
    if isinstance(parameter, Ordinal):
        place = parameter.place(value)
        assert place is not None
        return place
    return round((float(value) - parameter.low) / (parameter.step or 1))


def _edge(parameter: Float | Int | Ordinal, index: int, n: int) -> float:
    """Unit coordinate where the bin of value `index` begins."""
    if isinstance(parameter, Int) and parameter.log:
        low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
        return (math.log(parameter.low + index - 0.5) - low) / (high - low)
    return index / n


def _folded(u: float, a: float, b: float) -> float:
    """A coordinate outside of [a, b] folded at the nearer end and shrunk to fit."""
    if u < a:
        return a + (1.0 - u / a) * (b - a)
    if u > b:
        return b - (u - b) / (1.0 - b) * (b - a)
    return u
