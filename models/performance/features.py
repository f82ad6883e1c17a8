"""A family's parameters and the number of rows as coordinates, whatever its space was then.

What was tried tells the coordinates, not a space: spaces change with a config, and trials of all of
them are learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.records import Params, Scalar

Array = NDArray[np.float64]

_LOGARITHMIC = 8.0  # a positive number that spans so many times its smallest value is seen by its
# logarithm
_BEYOND = 1.5  # a value outside of what was seen counts as so far from the middle at most
_FEW = 3  # options of a choice, up to which it may bend what a number does


@dataclass(frozen=True, slots=True)
class Number:
    name: str
    middle: float
    half: float  # of the range that was seen, in logarithms where `log`
    log: bool

    def place(self, value: object) -> float:
        """In [-1, 1] within what was seen; 0 where there is none."""
        if isinstance(value, str) or value is None:
            return 0.0
        number = float(value)  # type: ignore[arg-type]
        if self.log:
            number = math.log(max(number, 1e-300))
        return min(max((number - self.middle) / self.half, -_BEYOND), _BEYOND)


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Features:
    """Coordinates of a family's trials. Parameters that never varied are no coordinates."""

    numbers: tuple[Number, ...]
    choices: tuple[Choice, ...]

    @classmethod
    def fit(cls, params: Sequence[Params], rows: Sequence[int]) -> Features:
        columns: dict[str, list[Scalar]] = {}
        for one in params:
            for name, value in one.items():
                columns.setdefault(name, []).append(value)
        numbers, choices = [], []
        for name, values in sorted(columns.items()):
            if any(isinstance(value, str | bool) for value in values):
                options = tuple(sorted({str(value) for value in values}))
                if len(options) > 1:
                    choices.append(Choice(name, options))
            elif (number := _number(name, [float(value) for value in values])) is not None:
                numbers.append(number)
        counted = [float(count) for count in rows if count > 0]
        if counted and (number := _number("", counted, always=True)) is not None:
            numbers.append(number)
        return cls(tuple(numbers), tuple(choices))

    def points(self, params: Sequence[Params], rows: Sequence[int]) -> Array:
        """(n, numbers + choices): numbers around 0, choices as the place of the option, or -1."""
        out = np.zeros((len(params), len(self.numbers) + len(self.choices)))
        for i, (one, count) in enumerate(zip(params, rows, strict=True)):
            for j, number in enumerate(self.numbers):
                own = (count or None) if number.name == "" else one.get(number.name)
                out[i, j] = number.place(own)
            for j, choice in enumerate(self.choices, len(self.numbers)):
                value = str(one.get(choice.name))
                out[i, j] = choice.options.index(value) if value in choice.options else -1
        return out

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Which columns of `points` are choices."""
        return np.arange(len(self.numbers) + len(self.choices)) >= len(self.numbers)

    def terms(self, points: Array) -> tuple[Array, Array]:
        """Terms (n, p) of a second-order polynomial of `points`, and how large each one's weight is
        believed to be (p,): those of second order half as large."""
        d = len(self.numbers)
        x = points[:, :d]
        parts, sizes = [np.ones((len(points), 1)), x], [np.full(1, 2.0), np.ones(d)]
        flags = []
        for j, choice in enumerate(self.choices, d):
            told = (points[:, j, None] == np.arange(len(choice.options))).astype(np.float64)
            flags.append(told)
            parts.append(told)
            sizes.append(np.ones(told.shape[1]))
            if len(choice.options) <= _FEW:
                parts += [told[:, [k]] * x for k in range(told.shape[1])]
                sizes.append(np.full(told.shape[1] * d, 0.5))
        first, second = np.triu_indices(d)
        parts.append(x[:, first] * x[:, second])
        sizes.append(np.full(len(first), 0.5))
        return np.hstack(parts), np.concatenate(sizes)

    def linear(self, points: Array) -> Array:
        """1 and the numbers (n, 1 + numbers), for a trend."""
        return np.hstack([np.ones((len(points), 1)), points[:, : len(self.numbers)]])


def _number(name: str, values: Sequence[float], *, always: bool = False) -> Number | None:
    low, high = min(values), max(values)
    if not high > low:
        return None
    log = low > 0 and (always or high >= _LOGARITHMIC * low)
    if log:
        low, high = math.log(low), math.log(high)
    return Number(name, (low + high) / 2, (high - low) / 2, log)
