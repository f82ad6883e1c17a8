"""What a model answers and weighs: accuracy, files, and the time of an answer in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.compress.tables import Task

TURNS, SECONDS = 300, 0.5


def encoded(task: Task) -> tuple[Any, Any]:
    """The encoder of the training rows, and them as a family is given them."""
    from models.data import to_labels
    from models.encoding import Encoder
    from models.families import TrainingData

    encoder = Encoder.fit(task.train, task.schema)
    y = to_labels(task.train[task.schema.target], task.schema.classes)
    k = len(task.schema.classes)
    return encoder, TrainingData(encoder.transform(task.train), y, k, encoder.cardinality)


def bundled(task: Task, encoder: Any, data: Any, fitted: Any, family: str, folder: Path) -> Any:
    """Write the model's bundle as a retrain does; gives the loaded predictor."""
    from models import bundle
    from models.training import example

    info = {
        "schema": task.schema.to_json(),
        "family": family,
        "params": {"family": family},
        "trainer": None,
        "seed": 0,
        "rows": len(data),
        "trained_from": None,
        "trained_through": None,
        "data_digest": "",
        "base_rates": (np.bincount(data.y, minlength=data.k) / len(data)).tolist(),
        "metrics": {},
        "example": example(task.train, task.schema),
    }
    bundle.write(folder, fitted, encoder, info, data.encoded)
    return bundle.Predictor.load(folder)


def figures(task: Task, predictor: Any, folder: Path) -> dict[str, float]:
    """accuracy and log loss on the test rows, kilobytes of the bundle and of its served form, and
    microseconds of one row and of a hundred, without HTTP."""
    from models.data import to_labels

    y = to_labels(task.test[task.schema.target], task.schema.classes)
    encoded = predictor.encoder.transform(task.test)
    proba = predictor.predict_encoded(encoded)
    form = folder / "model.onnx"
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return {
        "accuracy": 100 * float((proba.argmax(1) == y).mean()),
        "log_loss": float(-np.log(np.maximum(proba[np.arange(len(y)), y], 1e-9)).mean()),
        "bundle_kb": sum(sizes.values()) / 1000,
        "served_kb": sizes["model.onnx"] / 1000 if form.exists() else float("nan"),
        "row_us": _microseconds(predictor, encoded.take(slice(0, 1))),
        "hundred_us": _microseconds(predictor, encoded.take(slice(0, 100))),
    }


def _microseconds(predictor: Any, rows: Any) -> float:
    """The least time of an answer: other processes share the machine."""
    taken: list[float] = []
    while len(taken) < TURNS and (len(taken) < 3 or sum(taken) < SECONDS):
        began = time.perf_counter()
        predictor.predict_encoded(rows)
        taken.append(time.perf_counter() - began)
    return 1e6 * float(np.min(taken))
