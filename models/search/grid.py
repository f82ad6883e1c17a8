"""Grid search without an end: evenly spaced points in a seeded order, then a grid twice as fine.

Numbers have `POINTS` evenly spaced points on their own scale, both ends included, or all their
values where there are no more; choices have all. The grid is never written out: cell i is found by
a permutation of the cells' numbers, so that 5 ** 200 cells cost no more than 25.

Cells that are one configuration (they differ in inactive parameters only), that the constraints
refuse, or that were tried are passed over. When a grid is done, the next has a point between every
two.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from models.records import Scalar
from models.search.base import WALKED, Key, Pending, Searcher, fresh, generator, key, under_way
from models.space import Categorical, Float, Parameter, Space

POINTS = 5
_LOOKED = 4_096  # cells passed over for one trial; beyond, it is drawn
_ROUNDS = 4


class GridSearch(Searcher):
    """Evenly spaced points in a seeded order."""

    kind = "grid"

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self._first = (0, 0)  # grid and cell before which all are told or refused

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._first = (0, 0)

    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        told = {key(trial.params) for trial in self._trials.values()}
        self._first = self._look(told, self._first)[1]
        taken, numbers = under_way(self.history, pending)
        params: dict[str, Scalar] = {}
        place = self._first
        for number in numbers:
            found, place = self._look(taken, place)
            params = found if found is not None else self._draw(number, taken)
            taken.add(key(params))
        return params

    def _look(
        self, taken: set[Key], place: tuple[int, int]
    ) -> tuple[dict[str, Scalar] | None, tuple[int, int]]:
        """The first allowed configuration from `place` on that is not taken, and its place."""
        grid, cell = place
        axes = self._axes(grid)
        for _ in range(_LOOKED):
            cells = math.prod(axes)
            if cell == cells:
                if not self._finer(axes):
                    break
                grid, cell = grid + 1, 0
                axes = self._axes(grid)
                cells = math.prod(axes)
            params = self._cell(axes, permuted(cell, cells, f"{self.seed}:{grid}"))
            if key(params) not in taken and self.space.allows(params):
                return params, (grid, cell)
            cell += 1
        return None, (grid, cell)

    def _axes(self, grid: int) -> list[int]:
        """How many points each parameter has on that grid."""
        points = (POINTS - 1) * 2**grid + 1
        return [
            int(p.size() if isinstance(p, Categorical) else min(p.size(), points))
            for p in self.space.parameters
        ]

    def _finer(self, axes: list[int]) -> bool:
        return any(n < p.size() for n, p in zip(axes, self.space.parameters, strict=True))

    def _cell(self, axes: list[int], index: int) -> dict[str, Scalar]:
        params: dict[str, Scalar] = {}
        for n, parameter in zip(axes, self.space.parameters, strict=True):
            index, place = divmod(index, n)
            if self.space.is_active(parameter, params):
                params[parameter.name] = _point(parameter, place, n)
        return params

    def _draw(self, number: int, taken: set[Key]) -> dict[str, Scalar]:
        def draw(attempt: int) -> dict[str, Scalar]:
            return self.space.sample(generator(self.seed, number, attempt))

        return fresh(draw, taken, self.space, generator(self.seed, number, WALKED))


def _point(parameter: Parameter, place: int, points: int) -> Scalar:
    if points == parameter.size():
        return parameter.option(place)
    if isinstance(parameter, Float) and parameter.step is None:
        short = float(f"{parameter.from_unit(place / (points - 1)):.12g}")  # 0.3, not 0.1 + 0.2
        return min(max(short, float(parameter.low)), float(parameter.high))
    return parameter.from_unit(place / (points - 1))


def permuted(index: int, size: int, seed: str) -> int:
    """Place of `index` in a pseudo-random order of range(size); each place has one index.

    A Feistel network over the next even number of bits, walked until it falls into the range
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", method 2).

    >>> sorted(permuted(i, 10, "0") for i in range(10))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(_ROUNDS):
            text = f"{seed}:{turn}:{right}".encode()
            mixed = int.from_bytes(hashlib.shake_256(text).digest(half // 8 + 1), "big")
            left, right = right, left ^ (mixed & mask)
        index = left << half | right
        if index < size:
            return index
