"""The shift test as a signal: has the served input moved away from what the champion learnt on?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.records import Kind, Signal
from monitoring.shift import ShiftResult, shift_test

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

TIME = "time"  # the column of both frames that blocks are made of
_KINDS = ("number", "category", "text")
_TOLD = 10  # columns and pairs named in the detail
_CERTAIN = 0.05  # adjusted p-value up to which a column is named as moved


def mmd_signal(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    p_value: float = 0.001,
    permutations: int = 999,
    rows: int = 500,
    seed: int = 0,
    minimum_rows: int = 200,
    block: timedelta | None = None,
) -> Signal:
    """Drift in the joint distribution of `columns` (name -> 'number', 'category' or 'text').

    A text column enters as points (`monitoring.text.points`) beside the others.

    Breached when the p-value of `monitoring.shift_test` is at or below `p_value`; permutations are
    spent as that level needs. At most `rows` rows of each side enter, drawn without replacement by
    `seed`. With a `block`, all rows of so long a stretch of time are permuted together, by the
    column `time` of both frames: for rows that resemble their neighbours; as many rows are drawn
    of each block on both sides. Too few rows or blocks,
    or rows that cannot be read, give a signal that says so instead of 'no drift'.
    """
    threshold = f"p <= {p_value:.3g}"

    def silent(reason: str) -> Signal:
        return Signal(
            "mmd", Kind.DRIFT, None, threshold=threshold, rows=len(current), reason=reason
        )

    fault = _fault(reference, current, columns, max(minimum_rows, 2), block)
    if fault:
        return silent(fault)
    rng = np.random.default_rng(seed)
    blocks = None
    if block is None:
        x, y = _sample(reference, rows, rng), _sample(current, rows, rng)
    else:
        blocks = (blocks_of(reference[TIME], block), blocks_of(current[TIME], block))
        fault = _too_few_blocks(blocks, p_value, block)
        if fault:
            return silent(fault)
        each = max(1, min(rows // len(np.unique(side)) for side in blocks))
        picked = [_of_each(side, each, rng) for side in blocks]
        x, y = reference.iloc[picked[0]], current.iloc[picked[1]]
        blocks = (blocks[0][picked[0]], blocks[1][picked[1]])
    old, new, kinds = x[list(columns)], y[list(columns)], columns
    if "text" in columns.values():
        from monitoring.text.points import placed

        old, new, kinds = placed(old, new, columns, "point")
    try:
        result = shift_test(
            old,
            new,
            permutations=permutations,
            level=p_value,
            seed=seed,
            blocks=blocks,
            kinds=kinds,
        )
    except WindowFault as fault:
        _log.warning("the shift test could not read the rows: %s", fault)
        return silent(str(fault))
    return Signal(
        "mmd",
        Kind.DRIFT,
        result.p_value <= p_value,
        value=result.statistic,
        p_value=result.p_value,
        threshold=threshold,
        rows=len(y),
        detail={**_told(result), "reference_rows": len(x), "seed": seed},
    )


def _told(result: ShiftResult) -> dict[str, Any]:
    per = float(np.sqrt(1 / result.units[0] + 1 / result.units[1]))
    told: dict[str, Any] = {
        "permutations": result.permutations,
        "route": result.route,
        "note": result.note,
        "units": list(result.units),
        "parts": dict(result.parts),
    }
    for name, found in (("moved", result.columns), ("pairs", result.pairs)):
        told[name] = [
            {
                "column": " with ".join(each.names),
                "what": each.what,
                "p_value": each.p_adjusted,
                "effect": each.z * per,  # in deviations of what is permuted
            }
            for each in found[:_TOLD]
            if each.p_adjusted <= _CERTAIN
        ]
    return told


def _fault(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    floor: int,
    block: timedelta | None,
) -> str:
    if not columns:
        return "no column is named to be watched"
    wrong = {name: kind for name, kind in columns.items() if kind not in _KINDS}
    if wrong:
        return f"a column is one of {', '.join(_KINDS)}, got {wrong}"
    for name, frame in (("current", current), ("reference", reference)):
        if len(frame) < floor:
            return f"{len(frame):,} {name} rows; at least {floor:,} are needed"
        missing = [column for column in columns if column not in frame]
        if missing:
            return f"the {name} rows lack {missing}: they were not recorded, or are named otherwise"
        if block is not None and TIME not in frame:
            return f"the {name} rows have no times to make blocks of: retrain once, or use no block"
    return ""


def _sample(frame: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(frame) <= rows:
        return frame
    return frame.iloc[np.sort(rng.choice(len(frame), size=rows, replace=False))]


def _of_each(blocks: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of at most `most` rows of each block: as many on both sides, since blocks of fewer
    rows vary more and would not be exchangeable."""
    order = rng.permutation(len(blocks))
    order = order[np.argsort(blocks[order], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(blocks[order]) != 0])
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return np.sort(order[place < most])


def blocks_of(times: pd.Series, block: timedelta) -> NDArray[np.int64]:
    """(rows,) which stretch of `block` each time lies in."""
    import pandas as pd

    whole = pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")
    micros = whole.astype("int64").to_numpy()
    return np.asarray(micros // int(block.total_seconds() * 1e6))


def smallest_p(of_reference: int, of_current: int) -> float:
    """The smallest p-value that permuting so many blocks can give; 1 with fewer than 2 a side.

    >>> smallest_p(3, 2), smallest_p(2, 2), smallest_p(1, 9)
    (0.1, 0.3333333333333333, 1.0)
    """
    from math import comb

    if min(of_reference, of_current) < 2:
        return 1.0
    ways = comb(of_reference + of_current, of_current)
    if of_reference == of_current:
        ways //= 2  # swapping the sides changes nothing
    return 1 / ways


def _too_few_blocks(
    blocks: tuple[NDArray[np.int64], NDArray[np.int64]], p_value: float, block: timedelta
) -> str:
    """Why so few blocks cannot reach the level, whatever happened; empty when they can."""
    of_reference, of_current = (len(np.unique(side)) for side in blocks)
    if min(of_reference, of_current) < 2:
        return f"{of_reference} and {of_current} blocks of {block}; at least 2 a side are needed"
    if smallest_p(of_reference, of_current) > p_value:
        return (
            f"{of_reference} and {of_current} blocks of {block} can be told apart in too few ways "
            f"for p <= {p_value:g}: a longer window, or shorter blocks"
        )
    return ""
