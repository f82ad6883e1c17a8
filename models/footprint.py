"""What answering with a model takes: latency, throughput, CPU and size, measured in passing.

The figures are of the model alone on encoded rows, on one thread of the machine that tunes: of its
ONNX form where that is given, since that is what a bundle serves. They compare trials of one
search; a server adds encoding and its protocol.
"""

from __future__ import annotations

import io
import pickle
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded

if TYPE_CHECKING:
    from models.families import Fitted
    from models.onnx.export import Form

_FEWEST, _MOST = 3, 200  # single rows that are timed
_BATCHES = 5  # times that all rows are answered at most, of which the quickest counts
_WAITED = 5.0  # times `seconds` that may pass by the wall's clock while others have the processor


def footprint(
    fitted: Fitted, rows: Encoded, *, seconds: float = 0.02, form: Form | None = None
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """(probabilities of `rows`, figures): single rows timed for some `seconds` of CPU, and batches.

    Figures: throughput_rows_s (of `rows` as one batch, at its best), latency_ms and latency_p95_ms
    (single rows, median and 95th percentile), predict_cpu_ms (of a single row), size_mb (in memory,
    or of the ONNX `form`; left out for a model whose size cannot be told).
    """
    served = form.session if form is not None else fitted
    began = time.perf_counter()
    proba = served.predict_proba(rows)
    batch = max(time.perf_counter() - began, 1e-9)
    for _ in range(1, _BATCHES):  # the first one pays for what is set up once
        if time.perf_counter() - began + batch > seconds:
            break
        again = time.perf_counter()
        served.predict_proba(rows)
        batch = min(batch, max(time.perf_counter() - again, 1e-9))
    single = rows.take(slice(0, 1))
    served.predict_proba(single)
    taken: list[float] = []
    start, cpu = time.perf_counter(), time.thread_time()
    last = start
    while len(taken) < _MOST and (
        len(taken) < _FEWEST
        # on a busy machine few answers fit into so much of the wall's time, and tell little
        or (last - start < _WAITED * seconds and time.thread_time() - cpu < seconds)
    ):
        served.predict_proba(single)
        now = time.perf_counter()
        taken.append(now - last)
        last = now
    figures = {
        "throughput_rows_s": len(rows) / batch,
        "latency_ms": 1_000 * float(np.median(taken)),
        "latency_p95_ms": 1_000 * float(np.quantile(taken, 0.95)),
        "predict_cpu_ms": 1_000 * (time.thread_time() - cpu) / len(taken),
    }
    size = _bytes(fitted) if form is None else len(form.model)
    return proba, figures if size is None else {**figures, "size_mb": size / 1e6}


class _Counter(io.RawIOBase):
    """A file that counts what is written to it, and keeps nothing."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        self.count += size
        return size

    def take(self, buffer: pickle.PickleBuffer) -> None:
        """Count an array that stays out of the stream."""
        self.count += buffer.raw().nbytes


def _bytes(fitted: Fitted) -> int | None:
    """Bytes of the model's arrays and structure. Pickled to be counted: nothing is ever loaded."""
    counter = _Counter()
    try:  # arrays are handed out as they lie, so that large models are not copied
        pickle.Pickler(counter, protocol=5, buffer_callback=counter.take).dump(fitted)
    except Exception:  # a user's estimator may hold what cannot be pickled
        return None
    return counter.count
