"""Trials: a model, labelled reference rows that it did not learn from, and windows to estimate.

A stream is cut in order of time: the model learns from rows, the next ones are the reference, and
the windows follow, up to where the next trial's windows begin. A table is cut at random, and tilted
along one of its number columns in turn: a covariate shift whose labels stay what they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

STREAMS = ("flights", "elec2", "noaa_weather")
TILTS = {"still": 0.0, "tilted": 1.5, "steep": 4.0}  # log odds from the lowest to the highest rank


@dataclass(frozen=True, eq=False)
class Rows:
    frame: pd.DataFrame  # the columns, as the model takes them
    codes: np.ndarray  # (n,)
    proba: np.ndarray  # (n, k)


@dataclass(frozen=True, eq=False)
class Trial:
    name: str
    columns: dict[str, str]
    classes: int
    reference: Rows
    windows: tuple[Rows, ...]


@dataclass(frozen=True)
class Cut:
    """Rows to learn from, of the reference and of a window."""

    train: int
    reference: int
    window: int


CUTS = {
    "flights": Cut(24_000, 2_000, 2_000),  # about four weeks, three days and three days
    "elec2": Cut(10_000, 2_000, 1_000),
    "noaa_weather": Cut(5_000, 2_000, 1_000),
}


def data() -> Path:
    return Path(os.environ.get("EVERFIT_DATA") or "../shared/data")


def load(name: str, target: str = "target") -> tuple[pd.DataFrame, pd.Series]:
    """Columns and labels in order of time, by name of a stream or path of a file."""
    if name == "flights":
        from deployments.demo import flights

        rows = flights.load()
        rows = rows[rows[flights.TARGET].notna()].reset_index(drop=True)
        return rows[list(flights.INPUTS)], rows[flights.TARGET].astype(int)
    path = Path(name) if Path(name).suffix else data() / f"{name}.csv.gz"
    if not path.is_file():
        raise SystemExit(f"no data at {path}: set EVERFIT_DATA to the folder of the data")
    rows = pd.read_csv(path)
    # what numbers the days would let a model look its answer up, and no later row has met it
    clock = [c for c in rows if c in {"timestamp_approx", "date"}]
    return rows.drop(columns=[target, *clock]), rows[target]


def stream(name: str, cut: Cut, *, trials: int = 1, target: str = "target") -> Iterator[Trial]:
    """`trials` models, each learnt later in the stream than the one before; one is the first part.

    Each trial's windows run to the end of the stream when it is the only one, and otherwise to
    where the next one's begin.
    """
    columns, labels = load(name, target)
    first = cut.train + cut.reference
    edges = np.linspace(first, len(columns), trials + 1).astype(int)
    for start, end in pairwise(edges):
        known = np.arange(start - first, start - cut.reference)
        model = Model(columns, labels, known)
        starts = range(start, end - cut.window + 1, cut.window)
        yield Trial(
            name,
            model.kinds,
            model.classes,
            model.rows(np.arange(start - cut.reference, start)),
            tuple(model.rows(np.arange(s, s + cut.window)) for s in starts),
        )


def table(name: str, *, repeats: int = 20, seed: int = 0) -> Iterator[Trial]:
    """A quarter of the rows to learn from; the rest dealt to reference and window anew each time.

    Under a tilt, rows go to the window with odds that rise (or fall, every other time) along one
    number column.
    """
    columns, labels = load(name)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(columns))
    columns, labels = columns.iloc[order].reset_index(drop=True), labels.iloc[order]
    known = min(len(columns) // 4, 8_000)
    model = Model(columns, labels, np.arange(known))
    numbers = [c for c in columns if model.kinds[c] == "number" and columns[c].nunique() > 10]
    side = min((len(columns) - known) * 3 // 5, 2_000)
    for number in range(repeats):
        rest = known + rng.permutation(len(columns) - known)
        along = numbers[number % len(numbers)] if numbers else None
        place = (
            columns[along].rank(pct=True).fillna(0.5).to_numpy() * (1 if number % 2 else -1)
            if along
            else np.zeros(len(columns))
        )
        for label, tilt in TILTS.items():
            if tilt and along is None:
                continue
            # draws without replacement by weight (Efraimidis and Spirakis 2006)
            ranked = rest[np.argsort(np.log(rng.random(len(rest))) / np.exp(tilt * place[rest]))]
            window = ranked[-min(len(ranked) // 3, 2_000) :]
            left = rng.permutation(ranked[: len(ranked) - len(window)])
            yield Trial(
                f"{Path(name).name} {label}",
                model.kinds,
                model.classes,
                model.rows(left[:side]),
                (model.rows(window),),
            )


class Model:
    """HistGradientBoosting on some rows of a frame, and what it says of any."""

    def __init__(self, columns: pd.DataFrame, labels: pd.Series, known: np.ndarray) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.kinds = {
            c: "number" if pd.api.types.is_numeric_dtype(columns[c]) else "category"
            for c in columns
        }
        self.frame = columns.copy()
        for name, kind in self.kinds.items():
            if kind == "category":
                text = columns[name].astype(str)
                levels = list(text.iloc[known].value_counts().index[:200])
                self.frame[name] = pd.Categorical(text.where(text.isin(levels)), levels)
        values = np.unique(labels.iloc[known])
        self.classes = len(values)
        codes = np.searchsorted(values, labels)
        self.codes = np.minimum(codes, self.classes - 1)
        self.model = HistGradientBoostingClassifier(
            random_state=0, categorical_features=[k == "category" for k in self.kinds.values()]
        ).fit(self.frame.iloc[known], self.codes[known])

    def rows(self, places: np.ndarray) -> Rows:
        frame = self.frame.iloc[places].reset_index(drop=True)
        return Rows(frame, self.codes[places], self.model.predict_proba(frame))
