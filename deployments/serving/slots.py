"""A slot holds one loaded model version; the server answers from whichever slot is current."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

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
        self, numbers: np.ndarray, categories: Sequence[Sequence[Any]]
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
        self.classes = tuple(model.classes)
        self.loaded = datetime.now(UTC)
        self._known = {name: frozenset(v) for name, v in model.encoder.categories.items()}

    def answer(self, rows: Checked) -> Answer:
        """Score checked rows."""
        return self.answered(rows, *self.score(rows.numbers, list(rows.categories.values())))

    def score(
        self, numbers: np.ndarray, categories: Sequence[Sequence[Any]]
    ) -> tuple[np.ndarray, list[Any]]:
        """Probabilities (n, k) and the likeliest class of each row, of rows as in `Checked`."""
        probabilities = self.model.predict_rows(numbers, categories)
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


@dataclass(slots=True)
class Failure:
    """A version that could not be loaded, or did not answer its example."""

    version: str
    reason: str  # the class of the fault only: details go to the log
    at: datetime


@dataclass(slots=True)
class Slots:
    """The current slot, and what became of the others. Reading `current` once is a request's whole
    part in a swap: it keeps its slot until it has answered, then the old version is freed."""

    current: Slot | None = None
    failure: Failure | None = None
    swaps: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def swap(self, slot: Slot) -> None:
        """From the next request on, `slot` answers."""
        with self._lock:
            self.current = slot
            self.failure = None
            self.swaps += 1

    def get(self, version: str | None = None) -> Slot:
        """The slot that answers. Raises RequestFault: 503 before one is ready, 404 for another
        version than the one that is served."""
        slot = self.current
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
        if version is not None and version != slot.release.version:
            raise RequestFault(
                404,
                "version",
                f"the version served is {slot.release.version}",
                "ask for it, or leave the version out",
                received=version,
            )
        return slot
