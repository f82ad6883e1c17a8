"""Columns made ready for a test of each by itself: a bounded sample, clean values, gaps counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.embedding import numbers, texts

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("number", "category")
_EXPECTED = 5.0  # least expected count of a category on the smaller side
_RARE = "(rare)"


@dataclass(frozen=True, slots=True)
class Checked:
    """One column made ready: `tested` when both sides have values to compare."""

    name: str
    kind: str
    tested: bool
    missing: tuple[float, float]  # share of the reference's rows, of the current rows
    missing_p: float | None  # None where no value is missing on either side


def schema_fault(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str], minimum_rows: int
) -> str:
    """Why the two frames cannot be compared, or ''."""
    if not columns:
        return "no column is named to be watched"
    wrong = {name: kind for name, kind in columns.items() if kind not in KINDS}
    if wrong:
        return f"a column is a 'number' or a 'category', got {wrong}"
    for name, frame in (("current", current), ("reference", reference)):
        if len(frame) < max(minimum_rows, 2):
            return f"{len(frame):,} {name} rows; at least {max(minimum_rows, 2):,} are needed"
        missing = [column for column in columns if column not in frame]
        if missing:
            return f"the {name} rows lack {missing}: they were not recorded, or are named otherwise"
        repeated = set(frame.columns[frame.columns.duplicated()])
        doubled = [column for column in columns if column in repeated]
        if doubled:
            return f"the {name} rows have {doubled} more than once"
    return ""


def prepare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    rows: int,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame, list[Checked]]:
    """Both frames with clean columns (finite float64, text, NaN for missing) and what they hold.

    At most `rows` of either side are taken, the same ones for all columns: drawn without
    replacement by `seed`, in the order in which they came.
    """
    import pandas as pd
    from scipy.stats import fisher_exact

    rng = np.random.default_rng(seed)
    drawn = [_draw(len(frame), rows, rng) for frame in (reference, current)]
    before, after, checked = {}, {}, []
    for name, kind in columns.items():
        sides = [
            frame[name] if places is None else frame[name].iloc[places]
            for frame, places in zip((reference, current), drawn, strict=True)
        ]
        if kind == "number":
            old, new = (_finite(side) for side in sides)
        else:
            old, new = _lump(*(texts(side).reset_index(drop=True) for side in sides))
        gaps = (int(old.isna().sum()), int(new.isna().sum()))
        missing_p = None
        if any(gaps):
            table = [[gaps[0], len(old) - gaps[0]], [gaps[1], len(new) - gaps[1]]]
            missing_p = float(fisher_exact(table)[1])
        tested = gaps[0] < len(old) and gaps[1] < len(new)
        shares = (gaps[0] / len(old), gaps[1] / len(new))
        if not tested and gaps == (len(old), len(new)):
            missing_p = None  # no value on either side: nothing to say
        checked.append(Checked(name, kind, tested, shares, missing_p))
        before[name], after[name] = old, new
    return pd.DataFrame(before), pd.DataFrame(after), checked


def _draw(available: int, rows: int, rng: np.random.Generator) -> np.ndarray | None:
    """Positions of the rows to look at; None for all of them."""
    if available <= rows:
        return None
    return np.sort(rng.choice(available, rows, replace=False, shuffle=False))


def _finite(column: pd.Series) -> pd.Series:
    import pandas as pd

    values = numbers(column)
    return pd.Series(np.where(np.isfinite(values), values, np.nan))


def _lump(old: pd.Series, new: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Categories too rare for chi-square become one."""
    import pandas as pd

    known = (int(old.notna().sum()), int(new.notna().sum()))
    if not min(known):
        return old, new
    pooled = pd.concat([old, new], ignore_index=True)
    codes, levels = pd.factorize(pooled)  # -1 where missing
    expected = np.bincount(codes[codes >= 0]) * (min(known) / sum(known))
    kept = np.where(expected < _EXPECTED, _RARE, np.asarray(levels, dtype=object))
    lumped = pd.Series(np.append(kept, np.nan).astype(object)[codes], dtype=object)
    return lumped.iloc[: len(old)], lumped.iloc[len(old) :].reset_index(drop=True)
