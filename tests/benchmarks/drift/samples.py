"""What is drawn: pairs of samples with a known change between them, and none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 10
LEVELS = 4  # of the category column


@dataclass(frozen=True)
class Case:
    """One change: `change(rng, y)` turns stationary rows (n, columns) into those after it.

    `category` marks the last column as codes 0, 1, ...; NaN is a missing value.
    """

    name: str
    change: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    category: bool = False
    columns: int = COLUMNS

    def draw(self, rng: np.random.Generator, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Reference rows (m, columns) and current rows (n, columns), float32."""
        pooled = rng.normal(size=(m + n, self.columns)).astype(np.float32)
        if self.category:
            pooled[:, -1] = rng.integers(LEVELS, size=m + n)
        return pooled[:m], self.change(rng, pooled[m:]).astype(np.float32)


def _pair(r: float) -> Callable[[np.random.Generator, np.ndarray], np.ndarray]:
    def change(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
        y[:, 1] = r * y[:, 0] + np.sqrt(1 - r * r) * y[:, 1]
        return y

    return change


def _one_column(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    y[:, 0] += 0.3
    return y


def _missing(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    y[:, :2] = np.where(rng.random((len(y), 2)) < 0.05, np.nan, y[:, :2])
    return y


def _new_category(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    y[:, -1] = np.where(rng.random(len(y)) < 0.05, LEVELS, y[:, -1])
    return y


def _heavy_tails(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Student's t with 3 degrees of freedom and variance 1, every column."""
    return rng.standard_t(3, size=y.shape) / np.sqrt(3)


def _mixture(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """One row in ten comes from elsewhere: +1 sigma in every column."""
    return y + (rng.random((len(y), 1)) < 0.1)


NONE = Case("none", lambda rng, y: y)
CASES = (
    Case("mean +0.1 in every column", lambda rng, y: y + 0.1),
    Case("one column +0.3", _one_column),
    Case("one pair correlated 0.3", _pair(0.3)),
    Case("one pair correlated 0.5", _pair(0.5)),
    Case("two columns, correlated 0.3", _pair(0.3), columns=2),
    Case("two columns, correlated 0.5", _pair(0.5), columns=2),
    Case("scale x1.15", lambda rng, y: y * 1.15),
    Case("5 % missing in two columns", _missing),
    Case("new category in 5 %", _new_category, category=True),
    Case("heavy tails (t3)", _heavy_tails),
    Case("one row in ten +1", _mixture),
)


def frame(rows: np.ndarray, category: bool) -> pd.DataFrame:
    """Rows as a user has them: numbers, the category column as text."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=[f"c{i}" for i in range(rows.shape[1])])
    if category:
        table[table.columns[-1]] = [f"level {int(code)}" for code in rows[:, -1]]
    return table


def plain(x: np.ndarray, y: np.ndarray, category: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same rows for tests that take numbers only: one-hot categories, no missing value.

    A missing value becomes its column's mean over the reference, as is usually done; left in place
    it makes these tests alarm, or fail, whatever the rows are.
    """
    mean = np.nanmean(x, axis=0)
    x, y = (np.where(np.isnan(rows), mean, rows) for rows in (x, y))
    if category:
        x, y = (np.hstack([rows[:, :-1], rows[:, -1:] == np.arange(LEVELS + 1)]) for rows in (x, y))
    return x.astype(np.float32), y.astype(np.float32)
