"""What a demo replays: rows in order of time with labels that come later, and words for them.

The replay, what is compared and the report know a world only through this record; the flights and
the mails are two of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

DAY = timedelta(days=1)
ID, TIME, KNOWN = "id", "time", "arrived"  # columns of every world's rows, see `World.load`
WORLDS = {"flights": "deployments.demo.flights", "spam": "deployments.demo.mails"}


@dataclass(frozen=True, slots=True)
class Words:
    """How a person is told of it; each is a part of a sentence of the report."""

    title: str  # of the page
    question: str  # of the picture
    asked: str  # a whole sentence: what the model is asked
    row: str  # 'flight'
    rows: str  # 'flights'
    positive: str  # 'late'
    moved: str  # the world moved on, with ...
    truth: str  # how the label comes: 'as flights landed'
    never: str  # why some have no label: 'were cancelled or diverted'
    alike: str  # why whole days are drawn
    exchanged: str  # why the shift test exchanges whole days, or how it exchanges rows
    ranked: str  # what the ROC AUC counts
    source: str  # of the data, with its licence


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One demo's rows and clock."""

    name: str
    config: str  # file in this folder; it names `name`.parquet as its source
    read: Callable[[], pd.DataFrame] = field(repr=False)
    inputs: tuple[str, ...]
    categories: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    target: str
    classes: tuple[int, int] | tuple[str, str]  # the positive one last
    start: datetime  # the first replayed moment
    first: datetime  # of the rows that the first champion learns from
    end: datetime  # nothing is replayed after it
    weeks: int  # replayed when nobody says how many
    runs: Path  # everything that is written, when nobody says where
    quick: Mapping[str, str]  # what `--quick` changes in the config
    words: Words

    def load(self) -> pd.DataFrame:
        """All rows in order of `time`.

        Columns: `id`, `time` (UTC, when the prediction is asked for), the inputs, the target (1.0
        for the positive class, 0.0, NaN where the label never comes) and `arrived` (when the label
        came to exist, UTC; NaT where it never does).
        """
        return self.read()

    def days(self, weeks: int) -> int:
        """How many days are replayed, at most `weeks` weeks."""
        return min(7 * weeks, -(-(self.end - self.start) // DAY))

    def table(self, rows: pd.DataFrame, now: datetime) -> pd.DataFrame:
        """What may be learnt at `now`: inputs, time and target of rows whose label has come."""
        known = labelled(rows[(rows[TIME] < now).to_numpy()], now)
        table = known[[TIME, *self.inputs, self.target]].copy()
        zero, one = self.classes
        table[self.target] = [one if y > 0.5 else zero for y in known[self.target]]
        for name in self.categories:
            table[name] = table[name].astype(str)
        return table


def get(name: str) -> World:
    """The world of a name in WORLDS."""
    world = importlib.import_module(WORLDS[name]).WORLD
    assert isinstance(world, World)
    return world


def labelled(rows: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """The rows whose label has come by `now`."""
    return rows[(rows[KNOWN] <= now).to_numpy()]


def between(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """The rows with start <= time < end; `rows` are in order of time."""
    first, last = rows[TIME].searchsorted([pd.Timestamp(start), pd.Timestamp(end)])
    return rows.iloc[int(first) : int(last)]
