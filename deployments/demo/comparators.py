"""The two that everfit is compared with: one that never learns again, one that always does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deployments.demo.world import TIME, World

if TYPE_CHECKING:
    from models.records import Params
    from models.schema import Schema

# Labelled rows to a predictor whose files go to the folder, and the seconds that fitting took.
Fit = Callable[[pd.DataFrame, Path], tuple[Any, float]]
EVERY_DAYS = 7


def columns(world: World, rows: pd.DataFrame) -> dict[str, list[Any] | np.ndarray]:
    """The inputs of some rows as a predictor takes them."""
    worded = {*world.categories, *world.texts}
    return {
        name: rows[name].astype(str).tolist() if name in worded else rows[name].values
        for name in world.inputs
    }


def positive(world: World, predictor: Any, rows: pd.DataFrame) -> np.ndarray:
    """(n,) probability of the positive class, which comes last."""
    if not len(rows):
        return np.zeros(0)
    return np.asarray(predictor.predict_proba(columns(world, rows)))[:, -1]


class Frozen:
    """The first champion, left alone."""

    retrains = 0
    seconds = 0.0

    def __init__(self, world: World, first: Any) -> None:
        self._world, self._predictor = world, first

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return positive(self._world, self._predictor, rows)


class Weekly:
    """Fitted anew every seventh day on all rows whose label has come, whatever happens.

    It keeps the first champion's parameters, and it has no gate: each new fit answers at once.
    """

    def __init__(self, world: World, first: Any, fit: Fit, folder: Path) -> None:
        self._world, self._predictor, self._fit, self._folder = world, first, fit, folder
        self.retrains = 0
        self.seconds = 0.0  # of fitting

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return positive(self._world, self._predictor, rows)

    def turn(self, day: int, rows: pd.DataFrame, now: datetime) -> bool:
        """Morning of a replayed day: refit if a week has gone by since the last fit."""
        if day == 0 or day % EVERY_DAYS:
            return False
        self.retrains += 1
        place = self._folder / f"{self.retrains:02d}"
        self._predictor, seconds = self._fit(self._world.table(rows, now), place)
        self.seconds += seconds
        shutil.rmtree(self._folder / f"{self.retrains - 1:02d}", ignore_errors=True)
        return True


def bundle_fit(schema: Schema, params: Params, seed: int) -> Fit:
    """How `Weekly` fits: the same code as everfit's own final fit."""
    from models.bundle import Predictor
    from models.training import fit_bundle

    def fit(table: pd.DataFrame, folder: Path) -> tuple[Any, float]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = fit_bundle(table, schema, params, folder=folder, seed=seed, times=table[TIME])
        return Predictor.load(folder), made.seconds

    return fit
