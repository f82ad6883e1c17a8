"""ADWIN, the adaptive window over a stream of errors (Bifet and Gavaldà 2007).

An exponential histogram holds the window: row r has at most M + 1 buckets of 2**r values each. The
older part is dropped while some cut of the window into old | new has means further apart than

    epsilon = sqrt(2 / m * v * ln(2 ln(n) / delta)) + 2 / (3 m) * ln(2 ln(n) / delta)

with v the window's variance and m the harmonic mean of the two lengths (equation 3.1 there, with
delta' = delta / ln n). Memory is O(M log n).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

BUCKETS = 5  # M
CLOCK = 32  # cuts are looked for every so many values
SHORTEST = 5  # values on either side of a cut
GRACE = 10  # values before the first cut


class Adwin:
    """Feed values one by one; `update` answers whether the window was cut."""

    def __init__(self, delta: float = 0.002) -> None:
        self.delta = delta
        self.width = 0  # values in the window
        self.total = 0.0
        self.rises = 0  # cuts after which the mean was higher
        self._spread = 0.0  # sum of squared deviations from the window's mean
        self._seen = 0
        self._rows: list[list[tuple[float, float]]] = [[]]  # (sum, spread) of each, oldest first

    @property
    def mean(self) -> float:
        return self.total / self.width if self.width else 0.0

    def update(self, value: float) -> bool:
        """Take one value; True when the older part of the window was dropped, for it differs."""
        if self.width:
            apart = value - self.mean
            self._spread += self.width * apart * apart / (self.width + 1)
        self.width += 1
        self.total += value
        self._rows[0].append((value, 0.0))
        self._compress()
        self._seen += 1
        if self._seen % CLOCK or self.width <= GRACE:
            return False
        cut, before = False, self.mean
        while self._differs():
            self._drop()
            cut = True
        self.rises += cut and self.mean > before
        return cut

    def feed(self, values: Iterable[float]) -> int:
        """Take many values; how many of them led to a cut."""
        return sum([self.update(float(value)) for value in values])

    def _compress(self) -> None:
        """Where a row is full, its two oldest buckets become one of the next row."""
        for r, row in enumerate(self._rows):
            if len(row) <= BUCKETS:
                return
            size = 2**r
            (a, u), (b, v) = row[0], row[1]
            del row[:2]
            apart = (a - b) / size
            if r + 1 == len(self._rows):
                self._rows.append([])
            self._rows[r + 1].append((a + b, u + v + apart * apart * size / 2))

    def _drop(self) -> None:
        """Forget the oldest bucket."""
        size, (total, spread) = 2 ** (len(self._rows) - 1), self._rows[-1].pop(0)
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
        self.width -= size
        self.total -= total
        if self.width:
            apart = total / size - self.mean
            lost = size * self.width * apart * apart / (size + self.width)
            self._spread = max(self._spread - spread - lost, 0.0)
        else:
            self._spread = 0.0

    def _differs(self) -> bool:
        """Whether some cut separates two parts whose means are too far apart."""
        if self.width <= GRACE:
            return False
        n0, sum0 = 0, 0.0
        logarithm = math.log(2 * math.log(self.width) / self.delta)
        variance = self._spread / self.width
        for r in range(len(self._rows) - 1, -1, -1):
            for total, _ in self._rows[r]:
                n0 += 2**r
                sum0 += total
                n1 = self.width - n0
                if n1 < SHORTEST + 1:
                    return False
                if n0 < SHORTEST + 1:
                    continue
                m = 1 / (n0 - SHORTEST + 1) + 1 / (n1 - SHORTEST + 1)
                epsilon = math.sqrt(2 * m * variance * logarithm) + 2 / 3 * logarithm * m
                if abs(sum0 / n0 - (self.total - sum0) / n1) > epsilon:
                    return True
        return False
