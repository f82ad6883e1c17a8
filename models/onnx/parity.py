"""Whether a model in ONNX answers as the model that it was made from.

Looked at on recorded rows and on rows beside them, in batches of every kind that a server meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoding import FIRST, MISSING, UNKNOWN, Encoded

TOLERANCE = 5e-6  # of a probability; half of what a bundle's self-check allows between machines
ROWS = 512  # recorded rows that are looked at, and as many beside them

_BATCHES = (1, 2, 33)
_TURNS = 8  # batches of each size
_HUGE = np.float32(3e38)


class Answers(Protocol):
    """A fitted model, or a session."""

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]: ...


def difference(
    session: Answers, fitted: Answers, recorded: Encoded, cards: Sequence[int], *, seed: int = 0
) -> tuple[float, int]:
    """(largest difference of a probability, number of rows); infinite for NaN or a wrong shape.

    `recorded` are rows of training or later; at most ROWS of them, evenly spread, are used.
    """
    rows = recorded.take(np.unique(np.linspace(0, len(recorded) - 1, ROWS).astype(np.int64)))
    beside = perturbed(rows, cards, np.random.default_rng(seed))
    every = Encoded(
        np.concatenate([rows.numbers, beside.numbers]),
        np.concatenate([rows.codes, beside.codes]),
        _both(rows.texts, beside.texts),
    )
    with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn adds up huge values
        expected = fitted.predict_proba(every)
    largest = _apart(session.predict_proba(every), expected)
    order = np.random.default_rng(seed + 1).permutation(len(every))
    for size in _BATCHES:
        for turn in range(_TURNS):
            chosen = order[turn * size : (turn + 1) * size]
            if len(chosen):
                got = session.predict_proba(every.take(chosen))
                largest = max(largest, _apart(got, expected[chosen]))
    return largest, len(every)


def _apart(got: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max())


def perturbed(rows: Encoded, cards: Sequence[int], rng: np.random.Generator) -> Encoded:
    """As many rows, each changed in about a third of its columns.

    A number becomes missing, huge, another row's, or the next float32 above or below that; a
    category becomes unknown, missing, or any other; a text empty, another row's, or the two joined.
    """
    n, width = rows.numbers.shape
    changed = rng.random((n, width)) < 1 / 3
    others = rng.permuted(rows.numbers, axis=0)
    towards = np.where(rng.random((n, width)) < 0.5, -_HUGE, _HUGE)
    kind = rng.integers(0, 6, (n, width))
    guises = [np.full_like(others, np.nan), towards, np.zeros_like(others), others]
    near = np.nextafter(others, towards)
    numbers = np.select([kind == i for i in range(len(guises))], guises, default=near)
    changed_codes = rng.random(rows.codes.shape) < 1 / 3
    drawn = rng.integers(0, np.maximum(np.asarray(cards, dtype=np.int64), FIRST), rows.codes.shape)
    special = rng.random(rows.codes.shape)
    drawn = np.select([special < 0.2, special < 0.4], [UNKNOWN, MISSING], default=drawn)
    return Encoded(
        np.where(changed, numbers, rows.numbers).astype(np.float32),
        np.where(changed_codes, drawn, rows.codes).astype(np.int64),
        None if rows.texts is None else _mixed(rows.texts, rng),
    )


def _mixed(texts: NDArray[np.object_], rng: np.random.Generator) -> NDArray[np.object_]:
    others = rng.permuted(texts, axis=0)
    kind = rng.integers(0, 9, texts.shape)  # from 3 on: as it is
    return np.select([kind == 0, kind == 1, kind == 2], ["", others, texts + " " + others], texts)


def _both(
    one: NDArray[np.object_] | None, other: NDArray[np.object_] | None
) -> NDArray[np.object_] | None:
    return None if one is None or other is None else np.concatenate([one, other])
