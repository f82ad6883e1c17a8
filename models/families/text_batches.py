"""Texts as tensors for training: ids of all texts in one row, and batches of them without a loop
over texts.

A bag takes flat ids with offsets, so nothing is padded. What reads texts in order takes padded
batches of texts of about the same length (buckets), so little is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.text.tokenizer import PAD

BUCKETS = 2**17  # rows of the wide table that runs of tokens are hashed into
PRIME = 1_000_003

_BUCKET = 32  # batches that are sorted by length together: the order stays random beyond


@dataclass(frozen=True, slots=True)
class Texts:
    """Ids of n texts: `ids` int64 (total,), those of text i from `starts[i]`, `lengths[i]` long."""

    ids: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Texts:
        """Of lists of ids."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        flat = np.fromiter((i for row in rows for i in row), np.int64, count=int(lengths.sum()))
        starts = np.cumsum(lengths) - lengths
        return cls(torch.from_numpy(flat), torch.from_numpy(starts), torch.from_numpy(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    def flat(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(ids of those texts one after the other, how many are of each)."""
        lengths = self.lengths[rows]
        ends = torch.cumsum(lengths, 0)
        offsets = ends - lengths
        places = torch.arange(int(ends[-1]) if len(ends) else 0)
        shift = torch.repeat_interleave(self.starts[rows] - offsets, lengths)
        return self.ids[places + shift], lengths

    @property
    def owner(self) -> Tensor:
        """Which text each id is of (total,)."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    def runs(self, phrases: int, vocabulary: int) -> Texts:
        """Rows of the wide table of each text, as `text_network.runs` gives of padded ones."""
        owner, hashed, ids = self.owner, self.ids, self.ids
        found, owners = [ids], [owner]
        for n in range(2, phrases + 1):
            if len(ids) < n:
                break
            last = ids[n - 1 :]
            hashed = (hashed[: len(last)] * PRIME + last) % BUCKETS
            inside = owner[: len(last)] == owner[n - 1 :]
            found.append(hashed[inside] + vocabulary)
            owners.append(owner[: len(last)][inside])
        flat, of = torch.cat(found), torch.cat(owners)
        lengths = torch.bincount(of, minlength=len(self))
        return Texts(flat[torch.argsort(of, stable=True)], lengths.cumsum(0) - lengths, lengths)

    def padded(self, rows: Tensor) -> Tensor:
        """Ids (m, longest), filled up with PAD."""
        lengths = self.lengths[rows]
        width = max(1, int(lengths.max()) if len(lengths) else 1)
        column = torch.arange(width)
        inside = column < lengths[:, None]
        places = torch.where(inside, self.starts[rows][:, None] + column, 0)
        if not len(self.ids):
            return torch.full((len(rows), width), PAD)
        return torch.where(inside, self.ids[places], PAD)


def batches(
    lengths: Tensor, size: int, generator: torch.Generator, *, bucketed: bool
) -> Iterator[Tensor]:
    """Rows of one epoch in random order, `size` at a time; bucketed: of about equal lengths."""
    order = torch.randperm(len(lengths), generator=generator)
    if bucketed:
        parts: list[Tensor] = []
        for chunk in torch.split(order, size * _BUCKET):
            chunk = chunk[torch.argsort(lengths[chunk], stable=True)]  # noqa: PLW2901
            parts += torch.split(chunk, size)
        turn = torch.randperm(len(parts), generator=generator).tolist()
        return iter([parts[place] for place in turn])
    return iter(torch.split(order, size))


def steps_of(n: int, size: int, *, bucketed: bool) -> int:
    """How many batches an epoch of n rows has."""
    if not bucketed:
        return math.ceil(n / size)
    whole, rest = divmod(n, size * _BUCKET)
    return whole * _BUCKET + math.ceil(rest / size)
