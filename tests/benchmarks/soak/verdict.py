"""What a soak has shown: the customers' notes against the store and the times of the kills."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.soak.client import BROKEN, OK, REFUSED, UNANSWERED, WRONG

_AFTER_KILL = 1.0  # seconds in which a broken connection is the kill's doing


class Notes:
    """What the customers wrote."""

    def __init__(self, out: Path) -> None:
        with np.load(out.with_suffix(".npz")) as arrays:
            self.outcome: NDArray[np.int8] = arrays["outcome"]
            self.seconds: NDArray[np.float64] = arrays["seconds"]
            self.answered: NDArray[np.float64] = arrays["answered"]
        told = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
        self.labels: Mapping[str, str] = told["labels"]
        self.label_failures: int = told["label_failures"]
        self.versions: Sequence[str] = told["versions"]

    @property
    def right(self) -> int:
        return int((self.outcome == OK).sum())

    def quantile(self, q: float) -> float:
        """Milliseconds, from when a request was due."""
        took = self.seconds[self.outcome == OK]
        return round(1_000 * float(np.quantile(took, q)), 2) if len(took) else float("nan")


def near(moments: NDArray[np.float64], kills: Sequence[float], before: float) -> NDArray[np.bool_]:
    """Which moments lie within `before` seconds before a kill, or shortly after one."""
    found = np.zeros(len(moments), dtype=bool)
    for kill in kills:
        found |= (moments > kill - before) & (moments < kill + _AFTER_KILL)
    return found


def failures(notes: Notes, kills: Sequence[float]) -> dict[str, Any]:
    """Failed requests by their cause: a kill, or else, of which a swap would be."""
    failed = np.isin(notes.outcome, (REFUSED, BROKEN, UNANSWERED))
    by_kill = failed & near(notes.answered, kills, 0.05)
    return {
        "requests": len(notes.outcome),
        "wrong": int((notes.outcome == WRONG).sum()),
        "failed from kills": int(by_kill.sum()),
        "failed from kills %": round(100 * by_kill.sum() / max(len(notes.outcome), 1), 4),
        "failed else": int((failed & ~by_kill).sum()),
        "labels refused or broken": notes.label_failures,
    }


def telemetry(
    notes: Notes,
    kills: Sequence[float],
    stored: set[str],
    labels: Mapping[str, Any],
    prefix: str,
    promise: float,
) -> dict[str, Any]:
    """Rows and labels that the store does not have. `promise` is the time in seconds before a kill
    whose rows may be lost: a flush interval and one write."""
    answered = np.flatnonzero(notes.outcome == OK)
    missing = np.array([n for n in answered if f"{prefix}-{n}" not in stored], dtype=np.int64)
    excused = near(notes.answered[missing], kills, promise)
    return {
        "rows lost within the promise": int(excused.sum()),
        "rows lost beyond it": int((~excused).sum()),
        "labels": len(notes.labels),
        "labels lost": sum(labels.get(id_) != value for id_, value in notes.labels.items()),
    }
