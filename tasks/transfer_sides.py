"""The two domains of a study: values of a column, files, or the rows that were served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import DataFault
from models.schema import closest
from tasks import places, rows

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.config import Config

SERVED = "served"  # the rows that the model's server answered
_TABLES = (".csv", ".csv.gz", ".parquet")
_DISTINCT = 1_000  # values of a column that may name domains
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Side:
    """One domain: all inputs, and the label where one is known (missing where not)."""

    name: str
    frame: pd.DataFrame


def sides(
    config: Config,
    source: str,
    target: str,
    *,
    by: str | None,
    now: datetime,
    rows_each: int,
    seed: int,
) -> tuple[Side, Side, str | None]:
    """Both domains, at most `rows_each` rows of each, and the column whose values they are.

    `source` and `target` are values of the column `by` of the config's data (of whichever column
    holds both, where none is named), or files with the config's columns, or 'served'. Raises
    DataFault for a domain without rows, and for a source without labels.
    """
    plain = [text for text in (source, target) if not _elsewhere(text)]
    frame = rows.source_rows(config, now) if plain else None
    if frame is not None:
        by = by or _column(frame, plain)
        if by not in frame:
            raise DataFault(
                f"the data have no column {by!r}: {closest(by, map(str, frame.columns))}"
            )
    found = []
    for text in (source, target):
        side = _frame(config, text, frame, by, now, rows_each)
        side = _whole(config, text, side)
        if len(side) > rows_each:
            side = side.sample(rows_each, random_state=seed).sort_index()
        found.append(
            Side(Path(text).name if _elsewhere(text) else text, side.reset_index(drop=True))
        )
    if not found[0].frame[config.data.target].notna().any():
        raise DataFault(
            f"the source has to have labels, got none in the {len(found[0].frame):,} rows of "
            f"{source!r}: name a domain whose {config.data.target!r} is known"
        )
    return found[0], found[1], by if plain else None


def codes(config: Config, frame: pd.DataFrame) -> NDArray[np.int64]:
    """Labels (n,) as positions in the config's classes, -1 where unknown."""
    import numpy as np

    from models.data import to_labels

    known = frame[config.data.target].notna().to_numpy()
    result = np.full(len(frame), -1, dtype=np.int64)
    if known.any():
        labels = frame.loc[known, config.data.target]
        result[known] = to_labels(labels, tuple(config.data.classes))
    return result


def _elsewhere(text: str) -> bool:
    return text == SERVED or text.lower().endswith(_TABLES)


def _frame(
    config: Config,
    text: str,
    frame: pd.DataFrame | None,
    by: str | None,
    now: datetime,
    most: int,
) -> pd.DataFrame:
    from models.data import read_table

    if text == SERVED:
        with places.telemetry(config) as store:
            served = store.rows(None, now, limit=most, as_of=now)
        return served.rename(columns={"label": config.data.target})
    if _elsewhere(text):
        return read_table(Path(text))
    assert frame is not None
    assert by is not None
    own = frame[frame[by].astype(str) == text]
    if not len(own):
        values = frame[by].astype(str).value_counts().index[:_SHOWN]
        raise DataFault(f"no row has {text!r} in {by!r}: {closest(text, values)}")
    return own


def _column(frame: pd.DataFrame, values: list[str]) -> str:
    """The one column that holds all of `values`."""
    holding = [
        str(name)
        for name in frame.columns
        if frame[name].nunique() <= _DISTINCT
        and set(values) <= set(frame[name].dropna().astype(str).unique())
    ]
    if len(holding) != 1:
        what = "no column holds" if not holding else f"{' and '.join(holding)} hold"
        raise DataFault(
            f"domains are values of one column, and {what} {' and '.join(values)}: name the column "
            f"with --by, one of {', '.join(map(str, frame.columns[:_SHOWN]))}, or name files"
        )
    return holding[0]


def _whole(config: Config, text: str, frame: pd.DataFrame) -> pd.DataFrame:
    """All inputs and the target, which may be unknown."""
    import pandas as pd

    if missing := [name for name in config.data.columns if name not in frame]:
        raise DataFault(
            f"the rows of {text!r} need every column the config names, got no {missing}: add them"
        )
    if len(frame) < 4:
        raise DataFault(f"a domain needs at least 4 rows, got {len(frame)} of {text!r}: bring more")
    target = config.data.target
    labels = frame[target] if target in frame else pd.Series(None, index=frame.index, dtype=object)
    return frame[list(config.data.columns)].assign(**{target: labels})
