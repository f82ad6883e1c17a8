"""Self-training: a model's own answers on rows of the target become labels, the surest first.

Yarowsky, 'Unsupervised word sense disambiguation rivaling supervised methods' (1995). Three rounds
take a third, two thirds and all of the share that is asked for. Labels are given at the source's
shares of the classes: without that, a model that leans to one class on foreign rows teaches itself
to lean further. So it is for targets whose shares of the classes are about the source's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded

if TYPE_CHECKING:
    from models.families.base import Fitted, TrainingData

Array = NDArray[np.float64]

_ROUNDS = 3
_STEPS = 200  # of the levelling, which gains a digit in a few


def self_trained(
    fit: Callable[[TrainingData, bool], Fitted], data: TrainingData, share: float
) -> Fitted:
    """`fit(data, last)` on the labelled rows, then with `share` in (0, 1] of the target's rows.

    Four fits; `last` says which is kept.
    """
    target = data.target
    assert target is not None
    alone = replace(data, target=None)
    shares = np.bincount(data.y, minlength=data.k) / len(data)
    model = fit(alone, False)
    for step in range(1, _ROUNDS + 1):
        proba = levelled(np.asarray(model.predict_proba(target)), shares)
        rows, labels = surest(proba, shares, share * step / _ROUNDS)
        model = fit(_with(alone, target.take(rows), labels), step == _ROUNDS)
    return model


def levelled(proba: Array, shares: Array) -> Array:
    """Probabilities (n, k) scaled by one factor a class until their means are `shares` (k,).

    The labels' shares are then those, whatever the model leans to (Sinkhorn and Knopp 1967). A
    class with a share of 0 gets none.
    """
    found = np.maximum(proba, 1e-12) * (shares > 0)
    for _ in range(_STEPS):
        found = found / found.sum(axis=1, keepdims=True)
        means = found.mean(axis=0)
        if np.abs(means - shares).max() < 1e-6:
            break
        found = found * np.where(means > 0, shares / np.maximum(means, 1e-12), 0.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def surest(
    proba: Array, shares: Array, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and labels: of each class at most `share` x `shares` of all rows, the surest of it."""
    labels, sure = proba.argmax(axis=1), proba.max(axis=1)
    rows = []
    for label, part in enumerate(shares):
        own = np.flatnonzero(labels == label)
        most = int(np.ceil(share * part * len(proba)))
        rows.append(own[np.argsort(-sure[own], kind="stable")][:most])
    chosen = np.sort(np.concatenate(rows))
    return chosen, labels[chosen]


def _with(data: TrainingData, rows: Encoded, labels: NDArray[np.int64]) -> TrainingData:
    """The labelled rows and those that were given labels, which count alike."""
    own = data.encoded
    texts = None
    if own.texts is not None and rows.texts is not None:
        texts = np.concatenate([own.texts, rows.texts])
    encoded = Encoded(
        np.concatenate([own.numbers, rows.numbers]), np.concatenate([own.codes, rows.codes]), texts
    )
    weights = data.weights
    if weights is not None:
        weights = np.concatenate([weights, np.ones(len(rows))])
    return replace(data, encoded=encoded, y=np.concatenate([data.y, labels]), weights=weights)
