"""Rows of both sides as points on common terms, made without a look at which side a row is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.crossfit import Floats, standardised
from monitoring.embedding import Embedding, numbers
from monitoring.errors import WindowFault


def place(
    reference: Any, current: Any, columns: Mapping[str, str] | None
) -> tuple[Floats, NDArray[np.int64], tuple[str, ...], int]:
    """Pooled coordinates (m + n, q), the column that each belongs to, the columns' names, and m.

    Everything here treats the rows of both sides alike: the level rests on it.
    """
    import pandas as pd

    if columns is None:
        if not isinstance(reference, pd.DataFrame):
            reference, current = _array(reference), _array(current)
            if reference.shape[1] != current.shape[1]:
                raise WindowFault(
                    "both sides must have the same columns, got "
                    f"{reference.shape[1]} and {current.shape[1]}: align them"
                )
            labels = [f"column {j}" for j in range(reference.shape[1])]
            reference = pd.DataFrame(reference, columns=labels)
            current = pd.DataFrame(current, columns=labels)
        columns = dict.fromkeys(map(str, reference.columns), "number")
    if not columns:
        raise WindowFault("a classifier needs at least one column, got none: name them")
    for frame in (reference, current):
        absent = [name for name in columns if name not in frame]
        if absent:
            raise WindowFault(
                f"columns {absent} are not in the rows, which have {list(frame.columns)[:20]}: "
                "record them, or take them out of the config"
            )
    pooled = pd.concat([reference[list(columns)], current[list(columns)]], ignore_index=True)
    names, parts, owners = tuple(columns), [], []
    for owner, (name, kind) in enumerate(columns.items()):
        if kind == "number":
            values = numbers(pooled[name])
            missing = np.isnan(values)
            part = [_normal_scores(values)]
            if missing.any():
                part.append(standardised(missing.astype(float)[:, None])[:, 0])
        else:  # a kind that is neither is refused by the embedding
            indicators = Embedding.fit(pooled, {name: kind}).transform(pooled).astype(float)
            part = list(standardised(indicators[:, indicators.any(axis=0)]).T)
        part = [p for p in part if p.any()]  # constants tell nothing
        parts += part
        owners += [owner] * len(part)
    coordinates = np.stack(parts, axis=1) if parts else np.zeros((len(pooled), 1))
    return coordinates, np.asarray(owners or [0]), names, len(reference)


def _array(values: Any) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    found = np.asarray(values, dtype=np.float64)
    if found.ndim == 1:
        found = found[:, None]
    if found.ndim != 2:
        raise WindowFault(f"rows must be an array (rows, columns), got shape {found.shape}")
    return found


def _normal_scores(values: Floats) -> Floats:
    """Ranks as quantiles of the normal distribution (van der Waerden); missing ones at 0."""
    from scipy.stats import norm, rankdata

    known = ~np.isnan(values)
    scores = np.zeros(len(values))
    if known.any():
        found = norm.ppf((rankdata(values[known]) - 0.5) / known.sum())
        spread = found.std()
        scores[known] = (found - found.mean()) / spread if spread > 1e-9 else 0.0
    return scores
