"""Answering with ONNX Runtime: NumPy in, NumPy out, one thread, bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoding import Encoded

_EXACT = {"arena_extend_strategy": "kSameAsRequested"}  # by default its memory doubles
_QUIET = 3  # errors; a warning on every load tells a server's operator nothing


class Session:
    """A loaded model. `predict_proba` may be called from several threads at once.

    A run uses the calling thread alone, since parallelism is over requests and workers. Rows beyond
    `rows_at_once` are answered in turns: the session keeps the memory of its largest run, since
    asking the system for it anew makes a batch of 100 rows take up to three times as long.

    `tokens` cuts texts for a model that reads them: int64 (n, L) of the rows of an Encoded.
    """

    def __init__(
        self,
        model: bytes,
        rows_at_once: int,
        tokens: Callable[[Encoded], NDArray[np.int64]] | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_mem_pattern = False  # patterns are of fixed shapes, batches vary
        options.log_severity_level = _QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=[("CPUExecutionProvider", _EXACT)]
        )
        # The model's bytes, up to 64 MB, are kept for a change of providers, which never comes.
        self._session._model_bytes = None
        self._inputs = frozenset(given.name for given in self._session.get_inputs())
        self._numbers, self._codes = "numbers" in self._inputs, "codes" in self._inputs
        self._tokens = tokens if "tokens" in self._inputs else None
        self._rows_at_once = rows_at_once

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k) in the order of the schema's classes, n > 0."""
        if len(encoded) <= self._rows_at_once:
            return self._answer(encoded)
        starts = range(0, len(encoded), self._rows_at_once)
        parts = [encoded.take(slice(at, at + self._rows_at_once)) for at in starts]
        return np.concatenate([self._answer(part) for part in parts])

    def _answer(self, encoded: Encoded) -> NDArray[np.float64]:
        feed: dict[str, NDArray[Any]] = {}
        if self._numbers:
            feed["numbers"] = encoded.numbers
        if self._codes:
            feed["codes"] = encoded.codes
        if self._tokens is not None:
            feed["tokens"] = self._tokens(encoded)
        result: NDArray[np.float64] = self._session.run(None, feed)[0]
        return result
