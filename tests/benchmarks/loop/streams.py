"""A labelled stream in blocks: from a file in its order of arrival, or made with a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from models.data import FileSource, read_table, times, to_labels
from models.errors import DataFault
from models.schema import Schema, infer
from tasks.rows import TIME

DAY = timedelta(days=1)
START = datetime(2020, 1, 1, tzinfo=UTC)
BLOCKS = 60  # of a stream whose block size is not given
FIRST = 0.1  # share of the rows that the first champion learns from
SYNTHETIC = ("still", "harmless", "abrupt")


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows in order of arrival; `frame` has the inputs, the target and TIME (UTC, increasing)."""

    name: str
    frame: pd.DataFrame
    schema: Schema
    y: np.ndarray  # (n,) codes
    edges: np.ndarray  # (blocks + 1,) block b is rows edges[b] to edges[b + 1]; first ends at [0]
    block: int  # rows
    span: timedelta  # a block's length on the stream's clock, in the median
    notes: tuple[str, ...] = ()
    shifts: tuple[int, ...] = ()  # blocks after which a synthetic stream moves
    truth: str = ""  # 'still', 'harmless' or 'abrupt' where it is known

    @property
    def blocks(self) -> int:
        return len(self.edges) - 1

    def rows(self, start: int, end: int) -> pd.DataFrame:
        """Rows `start` to `end` of the stream, by position."""
        return self.frame.iloc[start:end]

    def ends(self, block: int) -> datetime:
        """When the block's last label is known."""
        last = self.frame[TIME].iloc[self.edges[block + 1] - 1]
        return last.to_pydatetime() + timedelta(milliseconds=1)


def from_file(
    path: Path,
    target: str,
    *,
    time: str | None = None,
    block: int | None = None,
    shuffle: int | None = None,
) -> Stream:
    """Read a table of any columns; rows without a label are left out.

    With `time` the rows are ordered by it and it is the clock; without, a block is a day. `shuffle`
    is a seed by which all rows are put out of order: a stream without drift.
    """
    frame = FileSource(path, time).read() if time else read_table(path)
    schema, notes = infer(frame, target, time)
    frame = frame[frame[target].notna()].reset_index(drop=True)
    if shuffle is not None:
        frame = frame.sample(frac=1.0, random_state=shuffle).reset_index(drop=True)
        time = None
    if time:
        clock = times(frame, time)
        order = np.argsort(clock.to_numpy(), kind="stable")
        frame = frame.iloc[order].reset_index(drop=True)
        clock = clock.iloc[order].reset_index(drop=True)
    else:
        clock = None
    name = path.name.split(".")[0] + ("" if shuffle is None else f" (rows shuffled by {shuffle})")
    truth = "" if shuffle is None else "still"
    return cut(name, frame, schema, block=block, clock=clock, notes=notes, truth=truth)


def cut(
    name: str,
    frame: pd.DataFrame,
    schema: Schema,
    *,
    block: int | None = None,
    clock: pd.Series | None = None,
    notes: Sequence[str] = (),
    shifts: Sequence[int] = (),
    truth: str = "",
) -> Stream:
    """Blocks of `block` rows after the first part; a last block under half as long is joined."""
    n = len(frame)
    block = block or max(100, round((1 - FIRST) * n / BLOCKS))
    y = to_labels(frame[schema.target], schema.classes)
    first = max(round(FIRST * n / block), 2) * block
    while first < n and np.sort(np.bincount(y[:first], minlength=2))[-2] < 10:
        first += block  # one class alone teaches nothing
    count = round((n - first) / block)
    if count < 4:
        raise DataFault(
            f"a stream has at least 4 blocks after its first part, got {max(count, 0)} of "
            f"{block:,} rows from {n:,}: give a smaller --block, or more rows"
        )
    edges = np.append(first + block * np.arange(count), n)
    inputs = [c.name for c in schema.columns]
    table = frame[[*inputs, schema.target]].copy()
    for each in (*schema.categories, *schema.texts):
        known = table[each].notna()
        table[each] = table[each].astype(object).where(known, None).map(_text)
    if clock is None:
        since = pd.to_timedelta(np.arange(n) * (86_400_000 // block), unit="ms")
        table[TIME] = pd.Timestamp(START) + since
        span = DAY
    else:
        table[TIME] = clock.dt.floor("us").array
        seen = table[TIME].iloc[np.append(0, edges[:-1])]
        span = max(seen.diff().iloc[1:].median().to_pytimedelta(), timedelta(seconds=1))
    moves = tuple(int(s) for s in shifts)
    return Stream(name, table, schema, y, edges, block, span, tuple(notes), moves, truth)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def synthetic(kind: str, *, rows: int = 30_000, block: int | None = None, seed: int = 0) -> Stream:
    """A stream whose truth is known; log-odds are additive in three numbers and a category.

    still: nothing moves. harmless: a column that has nothing to do with the label moves by two
    deviations after a third of the rows, another after two thirds. abrupt: at the same places the
    signs of two effects turn.
    """
    from models.schema import Column

    if kind not in SYNTHETIC:
        raise DataFault(f"a synthetic stream is one of {', '.join(SYNTHETIC)}, got {kind!r}")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    group = rng.integers(0, 4, size=rows)
    block = block or max(100, round((1 - FIRST) * rows / BLOCKS))
    first = max(round(FIRST * rows / block), 2) * block
    count = round((rows - first) / block)
    at = [count // 3, 2 * count // 3]
    phase = np.searchsorted(first + block * np.array(at), np.arange(rows), side="right")
    turned = phase if kind == "abrupt" else np.zeros(rows, dtype=int)
    signs = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])[turned]
    odds = 1.2 * signs[:, 0] * x[:, 0] + 0.9 * signs[:, 1] * x[:, 1] - 0.6 * np.abs(x[:, 2])
    odds += np.array([-0.5, 0.0, 0.4, 0.8])[group]
    label = rng.random(rows) < 1 / (1 + np.exp(-odds))
    if kind == "harmless":
        x[:, 4] += 2.0 * (phase >= 1)
        x[:, 5] += 2.0 * (phase >= 2)
    x[rng.random(x.shape) < 0.02] = np.nan
    names = [f"x{i}" for i in range(6)]
    frame = pd.DataFrame(x, columns=names)
    frame["group"] = np.array(["a", "b", "c", "d"], dtype=object)[group]
    frame["label"] = label.astype(int)
    schema = Schema(
        (*(Column(name, "number") for name in names), Column("group", "category")), "label", (0, 1)
    )
    shifts = () if kind == "still" else at
    return cut(f"synthetic {kind}", frame, schema, block=block, shifts=shifts, truth=kind)


def demo(name: str, block: int | None = None) -> Stream:
    """A demo's rows whose label came, by their own clock: flights in blocks of about a week, mails
    in blocks of 100."""
    from deployments.demo import world as worlds
    from models.schema import Column, Kind

    world = worlds.get(name)
    rows = world.load()
    rows = rows[rows[world.target].notna()].reset_index(drop=True)
    frame = rows[[*world.inputs, world.target]].copy()
    frame[world.target] = [world.classes[int(y)] for y in rows[world.target]]
    kinds: dict[str, Kind] = dict.fromkeys(world.inputs, "number")
    kinds |= dict.fromkeys(world.categories, "category") | dict.fromkeys(world.texts, "text")
    columns = tuple(Column(column, kind) for column, kind in kinds.items())
    schema = Schema(columns, world.target, world.classes)
    size = block or (len(frame) // 52 if name == "flights" else 100)
    return cut(name, frame, schema, block=size, clock=rows[worlds.TIME])
