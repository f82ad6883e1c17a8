"""What a permutation moves: single rows, random bins of rows, or whole blocks.

A permutation test is exact for any set of units that are exchangeable under no drift. Rows that are
independent may therefore be averaged into random bins of equal size within each side, and the bins
permuted: the observed statistic stays what it was, and a quadratic form over U bins costs U² in
place of N² a permutation. Rows that depend on their neighbours (a day's weather) are exchangeable
only as whole blocks, such as days.

The price in power is that of a smaller permutation group: a t-test with U - 2 instead of N - 2
degrees of freedom, which is nothing measurable from about a hundred units a side on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault

MOST_UNITS = 512  # bins of both sides together, where the sides allow it
LEAST_UNITS = 128  # bins of the smaller side, where it has the rows
_LEAST_LARGER = 4_096  # rows of the larger side that are always used
_LARGER = 8  # times the smaller side: more rows would take at most 1/8 off the variance


@dataclass(frozen=True, slots=True)
class Units:
    """Pooled rows grouped into units.

    `order` (N,) picks the rows that enter, unit after unit; `unit` (N,) is each one's unit,
    ascending; `first` (U,) is 1 for the units of the first side; `size` is the rows of each unit
    where all are equal, else 0.
    """

    order: NDArray[np.int64]
    unit: NDArray[np.int64]
    first: NDArray[np.int8]
    size: int
    note: str
    key: int = 0  # of the rows, whatever their order and the sides': what is random differs by it

    @property
    def count(self) -> int:
        return len(self.first)

    @property
    def smaller(self) -> int:
        """Units of the side that has fewer."""
        ones = int(self.first.sum())
        return min(ones, self.count - ones)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(U,) rows of each unit."""
        return np.bincount(self.unit, minlength=self.count)

    def relabelled(self, kept: NDArray[np.int64]) -> Units:
        """The same where of all pooled rows only `kept` (ascending) are left."""
        return replace(self, order=np.searchsorted(kept, self.order))

    def arranged(self, along: NDArray[np.float64], m: int, seed: int) -> Units:
        """The same for rows as they came, with nothing left of their order or of the sides'.

        `along` (N,) is any value of each pooled row that does not know its side; the first `m` rows
        are of the first side. Units are sorted by its mean. Bins, and the rows of a side of which
        only some enter, are drawn among a side's rows sorted by it, by `seed` and `key`s of
        those values: by `seed` alone the same ranks would be put together in every check, and such
        bins are not exchangeable. `size` 0 (blocks) keeps its rows.
        """
        order, spans = self.order, ((0, m), (m, len(along)))
        keys = [_digest(along[start:stop]) for start, stop in spans]
        if self.size:
            picked = []
            for (start, stop), key in zip(spans, keys, strict=True):
                of_side = np.count_nonzero((order >= start) & (order < stop))
                ranked = start + np.argsort(along[start:stop], kind="stable")
                if self.size > 1 or of_side < stop - start:
                    ranked = np.random.default_rng([seed, key]).permutation(ranked)[:of_side]
                picked.append(ranked)
            order = np.concatenate(picked)
        heights = self.means(along[order][:, None])[:, 0]
        ranked = np.argsort(heights, kind="stable")
        place = np.empty(len(ranked), np.int64)
        place[ranked] = np.arange(len(ranked))
        unit = place[self.unit]
        again = np.argsort(unit, kind="stable")
        return replace(
            self,
            order=order[again],
            unit=unit[again],
            first=self.first[ranked],
            key=keys[0] ^ keys[1],
        )

    def chunks(self, rows: int) -> Iterator[Units]:
        """Some units at a time, about `rows` rows, of one side where the first side's come first.

        Only while the sides are not mixed yet, or where it does not matter which side they are of.
        """
        ends = np.cumsum(self.sizes)
        turn = int(self.first.sum()) if self.first[: int(self.first.sum())].all() else self.count
        start = 0
        while start < self.count:
            begin = int(ends[start - 1]) if start else 0
            stop = max(int(np.searchsorted(ends, begin + rows, side="right")), start + 1)
            stop = min(stop, turn if start < turn else self.count)
            end = int(ends[stop - 1])
            unit = self.unit[begin:end] - start
            yield replace(
                self, order=self.order[begin:end], unit=unit, first=self.first[start:stop]
            )
            start = stop

    def means(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Mean of (N, k) values, already in `order`, over each unit: (U, k)."""
        if self.size == 1:
            return rows.astype(np.float64)
        if self.size:
            shape = (self.count, self.size, *rows.shape[1:])
            return np.asarray(rows.reshape(shape).mean(axis=1, dtype=np.float64))
        starts = np.flatnonzero(np.r_[True, self.unit[1:] != self.unit[:-1]])
        sizes = np.bincount(self.unit, minlength=self.count)
        total = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
        return np.asarray(total / sizes.reshape(-1, *[1] * (rows.ndim - 1)))


def _digest(values: NDArray[np.float64]) -> int:
    """A whole number for values in any order, as far as they are free of rounding errors."""
    size = np.abs(values)
    said = f"{size.mean():.9e} {(size**2).mean():.9e} {size.max():.9e}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:7], "big")


def of_rows(
    m: int,
    n: int,
    seed: int,
    *,
    most: int = MOST_UNITS,
    least: int = LEAST_UNITS,
    cap: int = 100_000,
) -> Units:
    """Independent rows: themselves while they are few, random bins of equal size beyond.

    `order` refers to m rows of one side followed by n of the other; `arranged` frees it of the
    order in which they came. There are at most `cap` units, for a `cap` that holds two of each
    side. Sizes depend on m and n alone, alike for both sides.
    """
    fewer = min(m, n)
    limit = max(_LEAST_LARGER, _LARGER * fewer)
    kept = [min(rows, limit) for rows in (m, n)]
    size = max(1, min(-(-sum(kept) // min(most, cap)), fewer // least), -(-2 * fewer // cap))
    bins = [rows // size for rows in kept]
    larger = max(cap - min(bins), min(bins))  # what the cap leaves to the side that has more
    bins = [min(count, larger) for count in bins]
    sides, notes = [], []
    for rows, count in zip((m, n), bins, strict=True):
        entered = count * size
        drawn = np.arange(rows)
        if entered < rows or size > 1:
            drawn = np.random.default_rng([seed, rows]).permutation(rows)[:entered]
        sides.append(drawn)
        if rows - entered >= size:
            notes.append(f"{entered:,} of {rows:,} rows of the larger side drawn")
    if size > 1:
        notes.append(f"rows averaged into {bins[0]} + {bins[1]} random bins of {size}")
    else:  # no bins: keep the order that was given
        sides = [np.sort(side) for side in sides]
    order = np.concatenate([sides[0], m + sides[1]])
    first = np.r_[np.ones(bins[0], np.int8), np.zeros(bins[1], np.int8)]
    return Units(order, np.repeat(np.arange(len(first)), size), first, size, "; ".join(notes))


def of_blocks(x_blocks: Any, y_blocks: Any) -> Units:
    """Whole blocks: rows of one side with the same id move together, each block with equal weight.

    Exact when blocks are exchangeable: longer than the rows' memory, and of about equal size.
    Raises WindowFault when a side has fewer than two blocks.
    """
    orders: list[NDArray[np.int64]] = []
    units: list[NDArray[np.int64]] = []
    first: list[NDArray[np.int8]] = []
    start = 0
    for place, (name, blocks) in enumerate((("x", x_blocks), ("y", y_blocks))):
        ids = np.asarray(blocks).ravel()
        _, codes = np.unique(ids, return_inverse=True)
        count = int(codes.max()) + 1 if len(codes) else 0
        if count < 2:
            raise WindowFault(
                f"a permutation of blocks needs at least 2 blocks a side, {name} has {count}: "
                "shorten the blocks or widen the window"
            )
        offset = len(orders[0]) if orders else 0
        orders.append(np.argsort(codes, kind="stable") + offset)
        units.append(np.sort(codes) + start)
        first.append(np.full(count, 1 - place, np.int8))
        start += count
    return Units(
        np.concatenate(orders),
        np.concatenate(units),
        np.concatenate(first),
        0,
        f"whole blocks permuted, {len(first[0])} + {len(first[1])}",
    )
