"""Small models of equal size, one per block, for the recency test.

The proxy of block b learns the newest `rows` rows before b, so that two proxies differ in nothing
but when their rows came. They are of one fixed configuration and cost one small fit a block.
"""

from __future__ import annotations

import time

import numpy as np

from models import families
from models.errors import DataFault
from models.metrics import per_row_log_loss
from monitoring.recency import recency_signals
from monitoring.records import Signal
from tests.benchmarks.loop import settings
from tests.benchmarks.loop.learner import Learner, Model
from tests.benchmarks.loop.streams import Stream


class Proxies:
    """The proxies of one stream; they hang on no champion, so all entries share them."""

    def __init__(self, stream: Stream, learner: Learner) -> None:
        self.stream, self._learner = stream, learner
        self._models: dict[int, Model | None] = {}
        self._loss: dict[tuple[int, int], np.ndarray] = {}
        self.rows = min(settings.PROXY_ROWS, int(stream.edges[0]))
        self.seconds = 0.0  # of fitting

    def signals(self, block: int, champion_from: int) -> tuple[Signal, ...]:
        """The recency signals once the labels of `block` are known.

        The older proxy of each block learnt rows from before the champion's last one
        (`champion_from` is the first block after its training), and from LAG_BLOCKS ago where the
        champion is younger than that.
        """
        pairs = []
        for b in range(max(1, block - settings.RECENCY_BLOCKS + 1), block + 1):
            older = min(champion_from, max(0, b - settings.LAG_BLOCKS))
            if older < b and self._model(older) and self._model(b):
                pairs.append((self._losses(older, b), self._losses(b, b)))
        old = np.concatenate([a for a, _ in pairs]) if pairs else np.zeros(0)
        new = np.concatenate([b for _, b in pairs]) if pairs else np.zeros(0)
        return recency_signals(
            old,
            new,
            floor=settings.RECENCY_FLOOR,
            tolerance=settings.TOLERANCE,
            confidence=settings.CONFIDENCE,
            minimum_rows=settings.RECENCY_ROWS,
        )

    def _model(self, block: int) -> Model | None:
        if block not in self._models:
            end = int(self.stream.edges[block])
            frame = self.stream.rows(end - self.rows, end)
            params = families.defaults(self._learner.limits.families[:1])[0]
            began = time.perf_counter()
            try:
                model, _ = self._learner.fit(frame, params, self.stream.ends(max(block - 1, 0)))
            except DataFault:  # rows of one class alone
                model = None
            self._models[block] = model
            self.seconds += time.perf_counter() - began
        return self._models[block]

    def _losses(self, model: int, block: int) -> np.ndarray:
        key = (model, block)
        if key not in self._loss:
            a, b = self.stream.edges[block], self.stream.edges[block + 1]
            fitted = self._models[model]
            assert fitted is not None
            proba = fitted.predict(self.stream.rows(a, b), self.stream.schema)
            self._loss[key] = per_row_log_loss(self.stream.y[a:b], proba)
        return self._loss[key]
