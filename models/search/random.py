"""Random search: the baseline that every searcher has to beat."""

from __future__ import annotations

from models.records import Scalar
from models.search.base import WALKED, Key, Pending, Searcher, fresh, generator, key, under_way


class RandomSearch(Searcher):
    """Uniform draws of the space."""

    kind = "random"

    def ask(self, pending: Pending = 0) -> dict[str, Scalar]:
        taken, numbers = under_way(self.history, pending)
        params: dict[str, Scalar] = {}
        for number in numbers:
            params = self._draw(number, taken)
            taken.add(key(params))
        return params

    def _draw(self, number: int, taken: set[Key]) -> dict[str, Scalar]:
        def draw(attempt: int) -> dict[str, Scalar]:
            return self.space.sample(generator(self.seed, number, attempt))

        return fresh(draw, taken, self.space, generator(self.seed, number, WALKED))
