"""Evidently's count of drifted columns as it comes; run by the interpreter of `streams`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402 - warnings come from what is imported here
import pandas as pd  # noqa: E402
from evidently import Report  # noqa: E402
from evidently.metrics import DriftedColumnsCount  # noqa: E402
from meter import serve  # noqa: E402


def drifted_share(x: np.ndarray, y: np.ndarray) -> float:
    names = [f"c{i}" for i in range(x.shape[1])]
    frames = (pd.DataFrame(rows, columns=names) for rows in (y, x))  # the current rows come first
    return float(
        Report([DriftedColumnsCount()]).run(*frames).dict()["metrics"][0]["value"]["share"]
    )


def p_values(job: dict[str, Any], place: Path) -> list[float]:
    """0 where half of the columns or more drifted, which is its rule for a whole data set."""
    xs, ys = np.load(place / "x.npy"), np.load(place / "y.npy")
    return [0.0 if drifted_share(x, y) >= 0.5 else 1.0 for x, y in zip(xs, ys, strict=True)]


def shares(job: dict[str, Any], place: Path) -> list[float]:
    """Share of drifted columns of every window y.npy (windows, n, d) beside one x.npy (m, d)."""
    x, ys = np.load(place / "x.npy"), np.load(place / "y.npy")
    return [drifted_share(x, y) for y in ys]


if __name__ == "__main__":
    serve({"p_values": p_values, "shares": shares})
