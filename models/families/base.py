"""What a model family is, and what all of them share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoding import UNKNOWN, Encoded
from models.errors import BundleFault, DataFault
from models.records import Params
from models.space import Space

MANY = 20_000  # rows above which a fit without steps of its own is first made on fewer of them
ABSENT = 1e-6  # probability of a class that training did not show: its loss stays finite


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Encoded rows, their labels `y` int64 (n,) as codes below `k`, and the codes per category.

    `weights` (n,) say how much each row counts, 1 in the mean; None: all alike. `target` are rows
    without labels of the domain that is served, for a fit that adapts to them (`models.transfer`).
    """

    encoded: Encoded
    y: NDArray[np.int64]
    k: int
    cardinality: tuple[int, ...]
    weights: NDArray[np.float64] | None = None
    target: Encoded | None = None

    def __post_init__(self) -> None:
        if len(self.y) != len(self.encoded):
            raise DataFault(
                f"one label per row, got {len(self.y)} for {len(self.encoded)} rows: align them"
            )
        if len(np.unique(self.y)) < 2:
            raise DataFault(
                f"a fit needs rows of two or more classes, got {len(np.unique(self.y))} in "
                f"{len(self.y):,} rows: add rows of the other class"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of columns there are."""
        here = {
            "number": self.encoded.numbers.shape[1] > 0,
            "category": self.encoded.codes.shape[1] > 0,
            "text": self.encoded.texts is not None,
        }
        return frozenset(kind for kind, there in here.items() if there)


class Fitted(Protocol):
    """A fitted model. `predict_proba` is thread-safe and its rows sum to one."""

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k) in the order of the schema's classes."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model's files, without pickle."""
        ...


class Watch(Protocol):
    """Who is told of a fit's learning curve while it goes on."""

    @property
    def valid(self) -> Encoded:
        """The rows whose probabilities are reported."""
        ...

    def report(self, fidelity: float, proba: NDArray[np.float64]) -> None:
        """Probabilities (n, k) of `valid` at that share, in (0, 1), of the trees, epochs or rows.

        Whatever it raises ends the fit.
        """
        ...


class Family(Protocol):
    """One kind of model: a search space, a configuration to start from, `fit` and `load`.

    `reads` are the kinds of columns that it learns from; the others are nothing to it. `adapts` are
    the ways in which it can be fitted for another domain (`models.transfer.adapt`).
    `seconds` bounds the fit where the algorithm can be stopped; it then raises FitTimeout. `watch`
    is told of the learning curve where that costs little (see `marks`); a fit that is watched to
    its end answers as it does unwatched, up to an optimiser's tolerance. It is for trials: what is
    saved is fitted without.
    """

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> frozenset[str]: ...
    @property
    def adapts(self) -> frozenset[str]: ...
    @property
    def space(self) -> Space: ...
    @property
    def default(self) -> Params | None: ...

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> Fitted: ...

    def load(self, folder: Path) -> Fitted: ...


class FitTimeout(DataFault):
    """A fit that took longer than it may."""


def stopwatch(seconds: float | None) -> Callable[[], None]:
    """A check to call in a loop: raises FitTimeout once `seconds` have passed."""
    began = time.monotonic()

    def check() -> None:
        if seconds is not None and time.monotonic() - began > seconds:
            raise FitTimeout(
                f"a fit may take {seconds:g} s and was stopped: give more seconds or fewer rows"
            )

    return check


def marks(total: int, shares: Iterable[float], least: int) -> list[int]:
    """Counts of trees, epochs or rows at which a fit of `total` reports: `least` or more of them.

    >>> marks(200, (1 / 8, 1 / 4, 1 / 2), 32), marks(10, (1 / 4, 1 / 2), 10)
    ([50, 100], [])
    """
    counts = {math.ceil(total * share) for share in shares}
    return sorted(count for count in counts if least <= count < total)


def samples(data: TrainingData, seed: int) -> list[NDArray[np.int64]]:
    """Rows of a ninth and of a third of `data`, one within the other, for fits that have no steps.

    None of a table of `MANY` rows or fewer, whose fits are short, and none that lacks a class.
    """
    n = len(data)
    if n <= MANY:
        return []
    order = np.random.default_rng(seed).permutation(n)
    classes = len(np.unique(data.y))
    parts = [np.sort(order[: math.ceil(n * share)]) for share in (1 / 9, 1 / 3)]
    return [part for part in parts if len(np.unique(data.y[part])) == classes]


def folded(codes: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Codes below `limit`; the rarer ones (codes are ranked by frequency) become unknown."""
    return np.where(codes < limit, codes, UNKNOWN)


def matrix(encoded: Encoded, limit: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Numbers (NaN kept) and folded codes side by side (n, d_num + d_cat)."""
    width = encoded.numbers.shape[1]
    X = np.empty((len(encoded), width + encoded.codes.shape[1]), dtype=dtype)
    X[:, :width] = encoded.numbers
    X[:, width:] = folded(encoded.codes, limit)
    return X


def spread(proba: NDArray[Any], present: Iterable[int], k: int) -> NDArray[np.float64]:
    """Probabilities of the classes that training showed, laid out over all `k`."""
    places = np.asarray(list(present), dtype=np.int64)
    if len(places) == k:
        return np.asarray(proba, dtype=np.float64)
    result = np.full((len(proba), k), ABSENT)
    result[:, places] = proba * (1 - ABSENT * (k - len(places)))
    return result


def dump_skops(model: object, path: Path) -> None:
    """Write a scikit-learn model with skops."""
    import skops.io

    skops.io.dump(model, path)


def load_skops(path: Path, trusted: Callable[[str], bool]) -> Any:
    """Read a model that skops wrote; each type in it that skops does not know must be trusted.

    Raises BundleFault for any other type: it is refused before any of it is built.
    """
    import skops.io

    try:
        types = skops.io.get_untrusted_types(file=path)
        if strange := [name for name in types if not trusted(name)]:
            raise BundleFault(
                f"{path.name} may hold known types only, got {', '.join(strange)}: it was not "
                "written by this family, train it anew"
            )
        return skops.io.load(path, trusted=types)
    except BundleFault:
        raise
    except Exception as fault:  # a damaged archive fails in as many ways as zip and JSON have
        raise BundleFault(f"{path} is not readable: {fault}: train the model anew") from fault
