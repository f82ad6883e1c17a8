"""What is compared: each answers block by block and may retrain when the block's labels have come.

Every entry starts from the same first champion. Those that follow a schedule or ADWIN fit its
parameters anew on all rows so far, with no gate, by the same code as everfit's final fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from models.metrics import per_row_error
from tests.benchmarks.loop.adwin import Adwin
from tests.benchmarks.loop.learner import Learner, Model
from tests.benchmarks.loop.streams import Stream


@dataclass(frozen=True, slots=True)
class Attempt:
    """One retrain: after which block, why, and whether its model serves."""

    block: int
    passed: bool
    why: tuple[str, ...]
    rule: str = ""
    verdict: str = ""


@dataclass
class Log:
    """What an entry answered and did."""

    proba: np.ndarray  # (n, k), NaN before the first block
    attempts: list[Attempt] = field(default_factory=list)
    seconds: float = 0.0  # of training
    watching: float = 0.0  # seconds of measuring and deciding
    notes: list[str] = field(default_factory=list)

    @property
    def retrains(self) -> int:
        return len(self.attempts)


class Entry(Protocol):
    name: str
    log: Log

    def predict(self, block: int) -> None: ...
    def learn(self, block: int) -> None: ...


class Frozen:
    """The first champion, left alone; the others build on it."""

    name = "frozen"

    def __init__(self, stream: Stream, learner: Learner, first: Model) -> None:
        self.stream, self.learner, self.model = stream, learner, first
        self.log = Log(np.full((len(stream.y), len(stream.schema.classes)), np.nan))

    def predict(self, block: int) -> None:
        a, b = self.stream.edges[block], self.stream.edges[block + 1]
        self.log.proba[a:b] = self.model.predict(self.stream.rows(a, b), self.stream.schema)

    def learn(self, block: int) -> None:
        """The labels of `block` are known; the frozen model does nothing with them."""

    def refit(self, block: int, why: str) -> None:
        """Fit the first champion's parameters on every row so far."""
        rows = self.stream.rows(0, int(self.stream.edges[block + 1]))
        now = self.stream.ends(block)
        self.model, seconds = self.learner.fit(rows, self.model.params, now)
        self.log.seconds += seconds
        self.log.attempts.append(Attempt(block, True, (why,)))

    def last(self, block: int) -> bool:
        """Nothing is asked after the last block, so nobody retrains then."""
        return block == self.stream.blocks - 1


class Scheduled(Frozen):
    """Fitted anew after every `every` blocks, whatever happens."""

    def __init__(self, stream: Stream, learner: Learner, first: Model, *, every: int = 1) -> None:
        super().__init__(stream, learner, first)
        self.every = every
        self.name = "every block" if every == 1 else f"every {every} blocks"

    def learn(self, block: int) -> None:
        if not self.last(block) and (block + 1) % self.every == 0:
            self.refit(block, "the schedule")


class Triggered(Frozen):
    """Fitted anew after a block in which ADWIN found that the model's error had risen."""

    name = "ADWIN on errors"

    def __init__(
        self, stream: Stream, learner: Learner, first: Model, *, delta: float = 0.002
    ) -> None:
        super().__init__(stream, learner, first)
        self._adwin = Adwin(delta)

    def learn(self, block: int) -> None:
        a, b = self.stream.edges[block], self.stream.edges[block + 1]
        self._adwin.feed(per_row_error(self.stream.y[a:b], self.log.proba[a:b]))
        if self._adwin.rises and not self.last(block):
            self.refit(block, f"ADWIN: the error has risen to {self._adwin.mean:.3f}")
            self._adwin = Adwin(self._adwin.delta)  # the errors are another model's from here on
