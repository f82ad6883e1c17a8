"""river's drift detectors as they come; run by the interpreter of the environment `streams`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from meter import serve
from river import drift
from river.drift import binary

MAKES: dict[str, Callable[[], Any]] = {
    "ADWIN": drift.ADWIN,
    "Page-Hinkley": drift.PageHinkley,
    "KSWIN": lambda: drift.KSWIN(seed=0),
    "DDM": binary.DDM,
    "EDDM": binary.EDDM,
}


def alarms(make: Callable[[], Any], values: Iterable[float], every: int) -> list[int]:
    """The hours at whose end the detector had spoken; it starts anew after that by itself."""
    detector, hours = make(), []
    for place, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected and (not hours or hours[-1] != place // every):
            hours.append(place // every)
    return hours


def streams(job: dict[str, Any], place: Path) -> list[dict[str, list[int]]]:
    """Alarm hours by detector, for each of errors.npy (streams, rows) and columns.npy (.., h, d).

    On errors: every row's 0 or 1, its label known at once. On columns: one detector for each
    column's hourly mean, any of them.
    """
    found = []
    per_hour = job["per_hour"]
    for errors, columns in zip(
        np.load(place / "errors.npy"), np.load(place / "columns.npy"), strict=True
    ):
        one: dict[str, list[int]] = {}
        wrong, rates = errors.tolist(), errors.reshape(-1, per_hour).mean(1).tolist()
        for name in ("ADWIN", "Page-Hinkley", "DDM", "EDDM"):
            values = [bool(e) for e in wrong] if "DDM" in name else wrong
            one[f"{name}, errors"] = alarms(MAKES[name], values, per_hour)
        one["KSWIN, hourly error"] = alarms(MAKES["KSWIN"], rates, 1)
        for name in ("ADWIN", "Page-Hinkley", "KSWIN"):
            each = [alarms(MAKES[name], column.tolist(), 1) for column in columns.T]
            one[f"{name}, columns"] = sorted(set().union(*each))
        found.append(one)
    return found


if __name__ == "__main__":
    serve({"streams": streams})
