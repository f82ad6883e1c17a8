"""A slot holds one loaded model version; the server answers from whichever slot is current.

Beside it there may be another: a challenger as shadow or canary, or the champion before this one,
kept warm while the new one bakes.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from deployments.serving import routing
from deployments.serving.errors import RequestFault
from deployments.serving.rows import Checked, Column
from models.records import Release


class Model(Protocol):
    """What a slot needs of a loaded bundle; `models.bundle.Predictor` is one."""

    @property
    def schema(self) -> Any: ...

    @property
    def encoder(self) -> Any: ...

    @property
    def classes(self) -> Sequence[Any]: ...

    def predict_rows(
        self,
        numbers: np.ndarray,
        categories: Sequence[Sequence[Any]],
        texts: Sequence[Sequence[Any]],
    ) -> np.ndarray: ...

    def self_check(self) -> None: ...


@dataclass(slots=True)
class Answer:
    """What the model says about one request's rows, before a protocol writes it down."""

    name: str
    version: str
    classes: Sequence[Any]
    ids: list[str]
    labels: list[Any]  # the likeliest class of each row; the first one on a tie
    probabilities: np.ndarray  # (n, k), in the order of `classes`
    ignored: list[str]


class Slot:
    """A loaded version that has answered its own input example as it did when it was made."""

    def __init__(self, release: Release, model: Model) -> None:
        self.release = release
        self.model = model
        self.columns: tuple[Column, ...] = tuple(model.schema.columns)
        kinds = ("number", "category", "text")  # as in `Checked`: numbers, then categories, texts
        self.order = tuple(c.name for kind in kinds for c in self.columns if c.kind == kind)
        self.classes = tuple(model.classes)
        self.loaded = datetime.now(UTC)
        self.runtime: str = getattr(model, "runtime", "native")  # or onnx
        self.runtime_reason: str = getattr(model, "reason", "")  # why it is not onnx
        self._known = {name: frozenset(v) for name, v in model.encoder.categories.items()}

    def answer(self, rows: Checked) -> Answer:
        """Score checked rows."""
        categories, texts = list(rows.categories.values()), list(rows.texts.values())
        return self.answered(rows, *self.score(rows.numbers, categories, texts))

    def score(
        self,
        numbers: np.ndarray,
        categories: Sequence[Sequence[Any]],
        texts: Sequence[Sequence[Any]],
    ) -> tuple[np.ndarray, list[Any]]:
        """Probabilities (n, k) and the likeliest class of each row, of rows as in `Checked`."""
        probabilities = self.model.predict_rows(numbers, categories, texts)
        classes = self.classes
        return probabilities, [classes[i] for i in probabilities.argmax(axis=1).tolist()]

    def answered(self, rows: Checked, probabilities: np.ndarray, labels: list[Any]) -> Answer:
        """What was scored, as the answer to `rows`."""
        return Answer(
            self.release.name,
            self.release.version,
            self.classes,
            rows.ids,
            labels,
            probabilities,
            rows.ignored,
        )

    def unknown(self, rows: Checked) -> Mapping[str, int]:
        """How many values of each category column the model has never seen; they are allowed."""
        if not self._known:
            return {}
        found: Counter[str] = Counter()
        for name, known in self._known.items():
            number = sum(
                _text(v) not in known for v in rows.categories[name] if v not in (None, "")
            )
            if number:
                found[name] = number
        return found


def _text(value: Any) -> str:
    """A category as the encoder matches it: 3, 3.0 and '3' are one."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


@dataclass(frozen=True, slots=True)
class Canary:
    """A challenger that answers a share of the callers."""

    slot: Slot
    share: float


@dataclass(slots=True)
class Failure:
    """A version that could not be loaded, or did not answer its example."""

    version: str
    reason: str  # the class of the fault only: details go to the log
    at: datetime


RECENT = 32  # requests that are kept to warm the next version with


@dataclass(slots=True)
class Slots:
    """The current slot, and those beside it. Reading `current` once is a request's whole part in a
    swap: it keeps its slot until it has answered, then the old version is freed."""

    current: Slot | None = None
    challenger: Slot | None = None
    canary: Canary | None = None  # the challenger, if it has a share
    previous: Slot | None = None  # the champion before, kept warm
    beside: Slot | None = None  # that answers too, off the path: the challenger, else the previous
    failure: Failure | None = None
    swaps: int = 0
    recent: deque[Checked] = field(default_factory=lambda: deque(maxlen=RECENT))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def swap(self, slot: Slot) -> None:
        """From the next request on, `slot` answers; the one before it stays warm until `warm`."""
        with self._lock:
            self.previous, self.current = self.current, slot
            if self.challenger is not None:
                self.challenger, self.canary = None, None
            self.beside = self.previous
            self.failure = None
            self.swaps += 1

    def try_out(self, slot: Slot | None, share: float = 0.0) -> None:
        """A challenger as shadow or, with a share, as canary; None ends it."""
        with self._lock:
            self.challenger = slot
            self.canary = Canary(slot, share) if slot is not None and share > 0 else None
            self.beside = slot or self.previous

    def warm(self, slot: Slot | None) -> None:
        """The champion before this one, ready to come back; None frees it."""
        with self._lock:
            self.previous = slot
            self.beside = self.challenger or slot

    def told(self) -> dict[str, Any]:
        """Who stands beside the current one, for those who ask the server."""
        challenger, canary, previous = self.challenger, self.canary, self.previous
        return {
            "challenger": challenger.release.version if challenger else None,
            "share": canary.share if canary else 0.0,
            "previous": previous.release.version if previous else None,
        }

    def pick(self, key: str) -> Slot:
        """The slot that answers a caller: the canary its share of all keys, else the current."""
        canary = self.canary
        if canary is not None and routing.takes(key, canary.slot.release.version, canary.share):
            return canary.slot
        return self.get()

    def other(self, slot: Slot) -> Slot | None:
        """The one that is compared with what `slot` has answered."""
        beside, current = self.beside, self.current
        return beside if slot is current else current if slot is beside else None

    def get(self, version: str | None = None) -> Slot:
        """The slot that answers, or the canary by its version. Raises RequestFault: 503 before one
        is ready, 404 for another version."""
        slot, canary = self.current, self.canary
        if slot is None:
            failed = self.failure
            why = f": version {failed.version} was not loaded ({failed.reason})" if failed else ""
            raise RequestFault(
                503,
                "model",
                f"no champion is ready yet{why}",
                "try again shortly; train a first champion if there is none",
                headers={"retry-after": "1"},
            )
        if version is None or version == slot.release.version:
            return slot
        if canary is not None and version == canary.slot.release.version:
            return canary.slot
        raise RequestFault(
            404,
            "version",
            f"the version served is {slot.release.version}",
            "ask for it, or leave the version out",
            received=version,
        )
