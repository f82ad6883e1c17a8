"""The MMD test as a signal: has the served input moved away from what the champion learnt on?"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from monitoring.embedding import Embedding
from monitoring.errors import WindowFault
from monitoring.mmd import mmd_test
from monitoring.records import Kind, Signal

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


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
) -> Signal:
    """Drift in the joint distribution of `columns` (name -> 'number' or 'category').

    Breached when the permutation p-value is at or below `p_value`. At most `rows` rows of each side
    enter, drawn without replacement by `seed`; the embedding is fitted on the whole reference. Too
    few rows, or rows that cannot be read, give a signal that says so instead of 'no drift'. When
    `permutations` cannot reach `p_value` (1 / (1 + B) is the smallest p), more are made.
    """
    needed = math.ceil(1 / p_value - 1e-9) - 1
    permutations = max(permutations, needed)
    threshold = f"p <= {p_value:g}"

    def silent(reason: str) -> Signal:
        return Signal(
            "mmd", Kind.DRIFT, None, threshold=threshold, rows=len(current), reason=reason
        )

    floor = max(minimum_rows, 2)
    for name, frame in (("current", current), ("reference", reference)):
        if len(frame) < floor:
            return silent(f"{len(frame):,} {name} rows; at least {floor:,} are needed")
    rng = np.random.default_rng(seed)
    try:
        embedding = Embedding.fit(reference, columns)
        x = embedding.transform(_sample(reference, rows, rng))
        y = embedding.transform(_sample(current, rows, rng))
        result = mmd_test(x, y, permutations=permutations, seed=seed)
    except WindowFault as fault:
        _log.warning("the MMD test could not read the rows: %s", fault)
        return silent(str(fault))
    return Signal(
        "mmd",
        Kind.DRIFT,
        result.p_value <= p_value,
        value=result.statistic,
        p_value=result.p_value,
        threshold=threshold,
        rows=len(y),
        detail={
            "reference_rows": len(x),
            "permutations": result.permutations,
            "bandwidth": result.bandwidth,
            "bandwidths": list(result.bandwidths),
            "statistics": list(result.statistics),
            "coordinates": x.shape[1],
            "seed": seed,
        },
    )


def _sample(frame: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(frame) <= rows:
        return frame
    return frame.iloc[np.sort(rng.choice(len(frame), size=rows, replace=False))]
