"""Rows with a label made ready to be measured, and their figures with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.clusters import stretches
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, bootstrap, share_of
from monitoring.records import Value
from monitoring.rules import Threshold
from monitoring.wording import short

if TYPE_CHECKING:
    import pandas as pd

HIGHER_IS_BETTER = {
    "accuracy": True,
    "error": False,
    "log_loss": False,
    "roc_auc": True,
    "calibration_gap": False,
}


class LabelledRows(NamedTuple):
    """Probabilities and true classes of the rows whose label could be read."""

    proba: NDArray[np.float64]  # (n, k)
    codes: NDArray[np.int64]  # (n,)
    set_aside: int  # labelled rows that could not be read
    groups: NDArray[np.int64] | None = None  # (n,) ids of rows that came together

    @property
    def blocks(self) -> int:
        return 0 if self.groups is None else len(np.unique(self.groups))

    def unbounded(self, block: timedelta | None) -> str:
        """Why no figure of these rows can have an interval over blocks; empty when it can."""
        if block is None or self.blocks > 1:
            return ""
        if self.groups is None:
            return f"the rows have no times to make blocks of {short(block)} of: use no block"
        return (
            f"all {len(self.codes):,} labelled rows lie in one block of {short(block)}; at least 2 "
            "are needed: widen the window, or shorten the block"
        )


def class_codes(labels: Iterable[Value], classes: Sequence[Value]) -> list[int | None]:
    """Each label's place in `classes`, by value or by its text; None for another value.

    >>> class_codes([1, "0", 2], (0, 1))
    [1, 0, None]
    """
    codes_of: dict[Value, int] = {str(value): code for code, value in enumerate(classes)}
    codes_of |= {value: code for code, value in enumerate(classes)}
    return [codes_of.get(label, codes_of.get(str(label))) for label in labels]


def labelled_rows(
    frame: pd.DataFrame, classes: Sequence[Value], block: timedelta | None = None
) -> LabelledRows:
    """The rows of `frame` with a label (columns `label` and `proba`), made ready to be measured.

    With a `block` and a column `time`, rows of so long a stretch are a group.
    """
    missing = [name for name in ("label", "proba") if name not in frame]
    if missing:
        raise WindowFault(
            f"a frame of predictions has the columns label and proba; {missing} missing, got "
            f"{list(frame.columns)[:10]}: read it with TelemetryStore.rows"
        )
    codes, probabilities, places = [], [], []
    known = np.flatnonzero(frame["label"].notna())
    labels, answers = frame["label"].iloc[known].tolist(), frame["proba"].iloc[known].tolist()
    for place, code, row in zip(known, class_codes(labels, classes), answers, strict=True):
        if code is not None and row is not None and np.size(row) == len(classes):
            codes.append(code)
            probabilities.append(row)
            places.append(place)
    proba = np.asarray(probabilities, dtype=np.float64).reshape(-1, len(classes))
    read = np.isfinite(proba).all(axis=1)
    groups = None
    if block is not None and "time" in frame:
        kept = np.asarray(places, dtype=np.int64)[read]
        groups = stretches(frame["time"].iloc[kept], block)
    return LabelledRows(
        proba[read],
        np.asarray(codes, dtype=np.int64)[read],
        len(known) - int(read.sum()),
        groups,
    )


def figures(
    rows: LabelledRows, metrics: Sequence[str], confidence: float, seed: int, resamples: int
) -> dict[str, Interval]:
    """Each of `metrics` with its interval; one that the rows do not define is left out."""
    right = rows.proba.argmax(axis=1) == rows.codes
    found = {
        "accuracy": share_of(right, confidence=confidence, groups=rows.groups),
        "error": share_of(~right, confidence=confidence, groups=rows.groups),
    }
    sampled = [m for m in dict.fromkeys(metrics) if m not in found]
    if not sampled:
        return found
    return found | bootstrap(
        rows.proba,
        rows.codes,
        sampled,
        confidence=confidence,
        seed=seed,
        resamples=resamples,
        groups=rows.groups,
    )


def at_the_gate(
    proof: pd.DataFrame | None,
    classes: Sequence[Value],
    thresholds: Sequence[Threshold],
    block: timedelta | None,
    confidence: float,
    seed: int,
    resamples: int,
) -> dict[str, Interval]:
    """The figures that `worse_by` compares with, each with its interval."""
    asked = [
        t.metric for t in thresholds if t.worse_by is not None and t.metric in HIGHER_IS_BETTER
    ]
    if proof is None or not asked:
        return {}
    rows = labelled_rows(proof, classes, block)
    if len(rows.codes) < 2:
        return {}
    found = figures(rows, asked, confidence, seed + 1, resamples)  # other draws than the window's
    return {metric: found[metric] for metric in asked if metric in found}
