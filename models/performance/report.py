"""How well a figure is foretold, on trials that were not learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.performance.seen import is_ratio

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Report:
    """What was foretold of `trials` that were held out, against what came.

    r2: share of the variance that is foretold, of logarithms where the figure is a ratio; 0 is no
    better than the mean, None where nothing varies. error: the median of the errors, as a share of
    what was measured for a ratio, and as it is for any other. held: share of the trials within the
    90 % interval. shapes: which shape each family has.
    """

    target: str
    trials: int
    r2: float | None
    error: float
    held: float
    shapes: Mapping[str, str]

    @property
    def relative(self) -> bool:
        return is_ratio(self.target)

    def __str__(self) -> str:
        error = f"{self.error:.0%}" if self.relative else f"{self.error:.2g}"
        r2 = "" if self.r2 is None else f"R2 {self.r2:.2f}, "
        return f"{self.target}: {r2}median error {error} on {self.trials} held-out trials"


def report(
    target: str, real: Array, told: Array, inside: NDArray[np.bool_], shapes: Mapping[str, str]
) -> Report:
    """Of figures `real` (n,) that were foretold as `told` (n,), both as they are measured."""
    ratio = is_ratio(target)
    off = np.abs(told - real) / np.maximum(np.abs(real), 1e-12) if ratio else np.abs(told - real)
    a, b = (np.log(np.maximum(real, 1e-12)), np.log(told)) if ratio else (real, told)
    total = float(((a - a.mean()) ** 2).sum())
    varies = total > 1e-9 * float((a**2).sum())
    r2 = 1.0 - float(((a - b) ** 2).sum()) / total if varies else None
    return Report(target, len(real), r2, float(np.median(off)), float(inside.mean()), dict(shapes))
