"""The ways to adapt as parameters of a search: `adapt`, and how much of it, `adapt_strength`.

A family says in `adapts` which it can be given: 'weights' (every family that weighs rows), 'coral'
(the source's numbers are moved; of networks, the hidden layer is regularised), 'mmd' (of networks),
'self' (the model's surest answers on the target's rows teach it further). The rows to adapt to are
`TrainingData.target`; they have no labels.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.compress.choices import AS_IS, shrinks
from models.encoding import Encoded
from models.errors import SpaceFault
from models.records import Params, Scalar
from models.space import Categorical, Float, Space
from models.transfer.align import aligned
from models.transfer.features import points
from models.transfer.teach import self_trained
from models.transfer.weights import importance

if TYPE_CHECKING:
    from models.families.base import Family, Fitted, TrainingData, Watch

Method = Literal["weights", "coral", "mmd", "self"]
METHODS: tuple[str, ...] = get_args(Method)
NONE = "none"
CHOICE, STRENGTH = "adapt", "adapt_strength"
USUAL = {"weights": 0.5, "coral": 0.5, "mmd": 0.5, "self": 0.9}  # strengths to begin with
_ROWS = 5_000  # of the target, at most, that weights are learnt from


def offered(family: Family, methods: Collection[str]) -> tuple[str, ...]:
    """Of `methods` those that the family can be given, in the order of METHODS.

    Raises SpaceFault for a method that there is not.
    """
    if strange := [method for method in methods if method not in METHODS]:
        raise SpaceFault(f"a way to adapt is one of {METHODS}, got {strange}: use one of them")
    return tuple(m for m in METHODS if m in methods and m in family.adapts)


def widened(family: Family, methods: Collection[str]) -> Space:
    """The family's space, and with methods that it can be given, which of them and how much."""
    found = offered(family, methods)
    if not found:
        return family.space
    return Space(
        (
            *family.space.parameters,
            Categorical(CHOICE, (NONE, *found)),
            Float(STRENGTH, 0.05, 1.0, when=(CHOICE, found)),
        ),
        family.space.constraints,
    )


def wanted(params: Params) -> bool:
    """Whether a family's own parameters ask for adaptation."""
    return str(params.get(CHOICE, NONE)) != NONE


def prepared(
    family: Family, data: TrainingData, params: Params, *, seed: int
) -> tuple[TrainingData, dict[str, Scalar]]:
    """The data as the family is to learn it, and the parameters that are left for `fit`.

    Networks (families that take 'mmd') are given 'coral' and 'mmd' as parameters, and the target
    rows. Raises SpaceFault for a method that the family cannot be given, or without target rows.
    """
    own = dict(params)
    method = str(own.pop(CHOICE, NONE))
    strength = float(own.pop(STRENGTH, USUAL.get(method, 0.5)))
    if method == NONE:
        return (data if data.target is None else replace(data, target=None)), own
    if method not in offered(family, METHODS):
        able = ", ".join(sorted(family.adapts)) or "nothing"
        raise SpaceFault(f"{family.name} can adapt by {able}, got {method!r}: choose another")
    if data.target is None or len(data.target) < 2:
        raise SpaceFault(
            f"{CHOICE}: {method} needs rows of the domain that is served, got none: fit with "
            f"target rows, or set {CHOICE} to {NONE}"
        )
    if method == "weights":
        weights = _weights(data, strength, seed)
        return replace(data, weights=weights, target=None), own
    if method == "self" or "mmd" in family.adapts:
        return data, {**own, CHOICE: method, STRENGTH: strength}
    numbers = aligned(data.encoded.numbers, data.target.numbers, strength=strength)
    encoded = Encoded(numbers, data.encoded.codes, data.encoded.texts)
    return replace(data, encoded=encoded, target=None), own


def fit(
    family: Family,
    data: TrainingData,
    params: Params,
    *,
    seed: int,
    seconds: float | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """The family's fit of what `prepared` gave; with 'self', four of them, of which the last one is
    watched, and made small where the parameters ask for that: the others only teach."""
    own = dict(params)
    if own.get(CHOICE) != "self":
        return family.fit(data, own, seed=seed, seconds=seconds, watch=watch)
    del own[CHOICE]
    share, began = float(own.pop(STRENGTH)), time.monotonic()

    def once(rows: TrainingData, last: bool) -> Fitted:
        left = None if seconds is None else max(seconds - (time.monotonic() - began), 1e-3)
        asked = own if last or not shrinks(own) else {**own, **AS_IS}
        return family.fit(rows, asked, seed=seed, seconds=left, watch=watch if last else None)

    return self_trained(once, data, share)


def _weights(data: TrainingData, strength: float, seed: int) -> NDArray[np.float64]:
    assert data.target is not None
    rng = np.random.default_rng([seed, 7])
    target = data.target
    if len(target) > _ROWS:
        target = target.take(np.sort(rng.choice(len(target), _ROWS, replace=False)))
    source, other = points(data.encoded, target, data.cardinality, seed=seed)
    return importance(source, other, strength=strength, seed=seed).values
