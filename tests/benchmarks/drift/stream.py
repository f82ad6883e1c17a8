"""A simulated service: so many rows an hour, a reference before them, and perhaps a change.

Rows are normal with variance 1 in every column; `phi` is the correlation of a row with the one
before it (an autoregression of order one), 0 for independent rows. A change moves the mean of the
first `MOVED` columns, and the concept with them: the model, fitted before, errs more from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLUMNS, MOVED = 10, 3
WEEK_HOURS = 168


@dataclass(frozen=True)
class Stream:
    """`reference` (rows, 10) and, from `rows`, `hours` of `per_hour` rows each; float32."""

    seed: int
    per_hour: int = 100
    phi: float = 0.0

    def reference(self, rows: int) -> np.ndarray:
        return self._draw(np.random.default_rng((self.seed, 0)), rows)

    def rows(self, hours: int, change: float = 0.0, at: int = 0) -> np.ndarray:
        """(hours * per_hour, 10); the mean moves by `change` sigma at the start of hour `at`."""
        found = self._draw(np.random.default_rng((self.seed, 1)), hours * self.per_hour)
        found[at * self.per_hour :, :MOVED] += change
        return found

    def errors(self, rows: np.ndarray, change: float = 0.0, at: int = 0) -> np.ndarray:
        """(rows,) 1 where the model is wrong; about one row in seven before any change."""
        score = rows[:, :MOVED].sum(1) / np.sqrt(MOVED)
        noise = np.random.default_rng((self.seed, 2)).normal(scale=0.5, size=len(rows))
        truth = score + noise
        truth[at * self.per_hour :] -= change * np.sqrt(MOVED)
        return ((truth > 0) != (score > 0)).astype(np.uint8)

    def _draw(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        if not self.phi:
            return rng.standard_normal(size=(rows, COLUMNS), dtype=np.float32)
        from scipy.signal import lfilter

        noise = rng.standard_normal(size=(rows, COLUMNS))
        noise[0] /= np.sqrt(1 - self.phi**2)  # stationary from the first row on
        found = lfilter([np.sqrt(1 - self.phi**2)], [1, -self.phi], noise, axis=0)
        return found.astype(np.float32)


def hourly_means(rows: np.ndarray, per_hour: int) -> np.ndarray:
    """(hours, 10): every column's mean in units of its standard error for independent rows."""
    return rows.reshape(-1, per_hour, rows.shape[1]).mean(axis=1) * np.sqrt(per_hour)
