"""A trial's learning curve while it is fitted, and the end of one that cannot win."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.errors import DataFault

if TYPE_CHECKING:
    from models.search.fidelity import Forecast, Judge

Score = Callable[[NDArray[np.int64], NDArray[np.float64]], float]


class Hopeless(Exception):
    """Raised in a fit that is not expected to win; it carries what it would have ended with."""

    def __init__(self, forecast: Forecast) -> None:
        super().__init__(str(forecast))
        self.forecast = forecast


class Watched:
    """The `Watch` of one trial (see `models.families.base`): scores what is reported, and judges.

    valid, y: the rows it is scored on; began: `time.perf_counter()` at the trial's begin.
    """

    def __init__(
        self, valid: Encoded, y: NDArray[np.int64], score: Score, judge: Judge, began: float
    ) -> None:
        self.valid = valid
        self._y, self._score, self._judge, self._began = y, score, judge, began
        self._curve: list[tuple[float, float]] = []
        self._seconds: list[float] = []

    def report(self, fidelity: float, proba: NDArray[np.float64]) -> None:
        """Raises Hopeless. What has no finite loss says nothing: the end decides about it."""
        try:
            loss = self._score(self._y, proba)
        except DataFault:  # probabilities that are none, as a fit that diverges gives
            return
        if not math.isfinite(loss):
            return
        self._curve.append((fidelity, loss))
        self._seconds.append(time.perf_counter() - self._began)
        forecast = self._judge.forecast(self._curve)
        if forecast is not None and forecast.hopeless:
            raise Hopeless(forecast)

    @property
    def told(self) -> dict[str, Any]:
        """The fields of a Trial: its curve so far, and the fidelity that it reached."""
        reached = self._curve[-1][0] if self._curve else 1.0
        seconds = tuple(round(s, 6) for s in self._seconds)
        return {"curve": tuple(self._curve), "curve_seconds": seconds, "fidelity": reached}
