"""Quasi-random search: the Sobol sequence, spread more evenly than independent draws.

The points are decoded by the space, so choices and conditions are spread as evenly as numbers;
Optuna's sampler of this name draws choices and conditional parameters independently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from models.records import Scalar
from models.search.base import WALKED, Key, Pending, Searcher, fresh, generator, key, under_way

_SCRAMBLE = 1_000_031


class QuasiRandomSearch(Searcher):
    """Trial i is point i of a Sobol sequence that the seed scrambles (Owen 1998)."""

    kind = "quasi-random"
    _engine: tuple[tuple[int, int], Any] | None = None  # ready for (seed, dimensions)

    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        taken, numbers = under_way(self.history, pending)
        params: dict[str, Scalar] = {}
        for number in numbers:
            params = self._draw(number, taken)
            taken.add(key(params))
        return params

    def _draw(self, number: int, taken: set[Key]) -> dict[str, Scalar]:
        def draw(attempt: int) -> dict[str, Scalar]:
            if not attempt:
                return self.space.decode(self._point(number))
            return self.space.sample(generator(self.seed, number, attempt))

        return fresh(draw, taken, self.space, generator(self.seed, number, WALKED))

    def _point(self, number: int) -> NDArray[np.float64]:
        d = len(self.space)
        if not 0 < d <= qmc.Sobol.MAXDIM:
            return generator(self.seed, number, _SCRAMBLE).random(d)
        if self._engine is None or self._engine[0] != (self.seed, d):
            rng = generator(self.seed, 0, _SCRAMBLE)
            self._engine = (self.seed, d), qmc.Sobol(d, scramble=True, rng=rng)
        engine = self._engine[1].reset()
        if number:
            engine.fast_forward(number)
        point: NDArray[np.float64] = engine.random(1)[0]
        return point
