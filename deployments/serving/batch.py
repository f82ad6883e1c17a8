"""Requests that are read in the same turn of the event loop, scored by one call of the model.

Nobody waits for company: a request alone is scored in the next turn, some microseconds later. Under
load more requests come in a turn, and a call costs much the same for one row as for thirty, so a
batch grows just when it pays.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.serving.rows import Checked
from deployments.serving.slots import Answer, Slot

_MOST_ROWS = 256  # in one call: health checks wait for as long as it takes
_MOST_TEXT = 65_536  # characters, likewise

Waiting = tuple[Checked, "asyncio.Future[Answer]"]


class Batcher:
    """Used from the event loop's thread alone."""

    def __init__(self, most_rows: int = _MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._waiting: dict[Slot, list[Waiting]] = {}

    def score(self, slot: Slot, rows: Checked) -> asyncio.Future[Answer]:
        """The answer of `slot` to `rows`, or what the model raises for them."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        waiting = self._waiting.get(slot)
        if waiting is None:
            waiting = self._waiting[slot] = []
            loop.call_soon(self._turn, slot)
        waiting.append((rows, future))
        return future

    def _turn(self, slot: Slot) -> None:
        batch: list[Waiting] = []
        rows = characters = 0
        for one in self._waiting.pop(slot):
            if one[1].done():  # given up meanwhile
                continue
            count, length = len(one[0].ids), one[0].characters
            if batch and (rows + count > self._most_rows or characters + length > _MOST_TEXT):
                _score(slot, batch)
                batch, rows, characters = [], 0, 0
            batch.append(one)
            rows += count
            characters += length
        if batch:
            _score(slot, batch)


def _score(slot: Slot, batch: Sequence[Waiting]) -> None:
    if len(batch) == 1:
        rows, future = batch[0]
        try:
            future.set_result(slot.answer(rows))
        except Exception as fault:
            future.set_exception(fault)
        return
    try:
        answers = _together(slot, [rows for rows, _ in batch])
    except Exception:  # one request's fault must not cost the others
        for one in batch:
            _score(slot, [one])
        return
    for (_, future), answer in zip(batch, answers, strict=True):
        future.set_result(answer)


def _together(slot: Slot, requests: Sequence[Checked]) -> list[Answer]:
    """One answer for each request, from one call of the model."""
    numbers = np.concatenate([rows.numbers for rows in requests])
    categories = _joined([rows.categories for rows in requests])
    texts = _joined([rows.texts for rows in requests])
    found, labels = slot.score(numbers, categories, texts)
    answers = []
    end = 0
    for rows in requests:
        start, end = end, end + len(rows.ids)
        answers.append(slot.answered(rows, found[start:end], labels[start:end]))
    return answers


def _joined(columns: Sequence[dict[str, Sequence[Any]]]) -> list[list[Any]]:
    """The values of each column, one request's behind another's."""
    each = zip(*(one.values() for one in columns), strict=True)
    return [list(itertools.chain(*values)) for values in each]
