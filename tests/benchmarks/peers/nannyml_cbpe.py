"""nannyml's confidence-based performance estimation; run by the interpreter of `nannyml`."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"  # it reports home otherwise
warnings.filterwarnings("ignore")

import nannyml  # noqa: E402 - warnings come from what is imported here
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from meter import serve  # noqa: E402

METRICS = ("accuracy", "roc_auc")  # it has no log loss


def estimates(job: dict[str, Any], place: Path) -> list[dict[str, Any]]:
    """Per trial and window the estimates with nannyml's bounds, three sampling deviations wide.

    Trial t has `proba_t` (n, k), `codes_t` (n,) and `windows_t` (windows, m, k).
    """
    answers = []
    for number in range(job["trials"]):
        proba, codes, windows = (
            np.load(place / f"{name}_{number}.npy") for name in ("proba", "codes", "windows")
        )
        answers.append(_estimates(proba, codes, windows))
    return answers


def _estimates(proba: np.ndarray, codes: np.ndarray, windows: np.ndarray) -> dict[str, Any]:
    count, rows, classes = windows.shape
    reference = _frame(proba).assign(y=codes)
    binary = classes == 2
    started = time.perf_counter()
    estimator = nannyml.CBPE(
        metrics=list(METRICS),
        y_true="y",
        y_pred="pred",
        y_pred_proba="p_1" if binary else {k: f"p_{k}" for k in range(classes)},
        problem_type="classification_binary" if binary else "classification_multiclass",
        chunk_size=rows,
    )
    estimator.fit(reference)
    current = _frame(windows.reshape(count * rows, classes))
    found = estimator.estimate(current).filter(period="analysis").to_df()
    parts = ("value", "lower_confidence_boundary", "upper_confidence_boundary")
    return {
        "seconds": (time.perf_counter() - started) / count,
        "windows": [
            {m: [float(row[(m, part)]) for part in parts] for m in METRICS}
            for _, row in found.iterrows()
        ],
    }


def _frame(proba: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(proba, columns=[f"p_{k}" for k in range(proba.shape[1])])
    return frame.assign(pred=proba.argmax(axis=1))


if __name__ == "__main__":
    serve({"estimates": estimates})
