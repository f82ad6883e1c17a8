"""Labelled rows of a query: all of them, or only what is new where the query asks for `:since`.

With `:since`, rows that were read before are kept in the model's folder, and the query is asked for
those that came after, or whose label may have come meanwhile: what is older than the newest row by
twice `data.label_delay` and a day is not looked at again.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from models import sql
from models.data import times
from models.errors import DataFault

if TYPE_CHECKING:
    from tasks.config import Config

log = logging.getLogger(__name__)

_DAY = timedelta(days=1)


def source(config: Config) -> sql.SqlSource:
    """The config's query, where the config or the environment says that it is asked."""
    assert config.data.query is not None
    return sql.SqlSource(config.data_url, config.data.query, config.data.time)


def read(config: Config, now: datetime) -> pd.DataFrame:
    """The query's rows of up to `now`. Raises DataFault, also when there are none."""
    asked, time = source(config), config.data.time
    if "since" not in sql.parameters(asked.query) or time is None:
        frame = asked.read(until=now if time else None)
    else:
        frame = _with_kept(config, asked, time, now)
    if not len(frame):
        raise DataFault(f"data.query gives no rows at {config.data.called}: correct it")
    return frame


def _with_kept(config: Config, asked: sql.SqlSource, time: str, now: datetime) -> pd.DataFrame:
    path = _place(config)
    kept = _kept(path)
    if kept is None or not len(kept):
        frame = asked.read(until=now)
        _keep(config, path, frame)
        return frame
    when = times(kept, time)
    since = min(when.max().to_pydatetime(), now) - 2 * config.data.label_delay - _DAY
    fresh = asked.read(after=since, until=now)
    old = kept[(when <= since).to_numpy()]
    frame = pd.concat([part for part in (old, fresh) if len(part)] or [fresh], ignore_index=True)
    log.info("%s: %d rows kept, %d read since %s", config.name, len(old), len(fresh), since)
    if len(fresh) and times(fresh, time).max() >= when.max():  # not a replay of an earlier time
        _keep(config, path, frame)
    return frame


def _place(config: Config) -> Path:
    """One file for each query: another query's rows are not these."""
    asked = f"{config.data.called}\n{config.data.query}\n{config.data.time}"
    mark = hashlib.sha256(asked.encode()).hexdigest()[:12]
    return config.folder / "data" / f"rows-{mark}.parquet"


def _kept(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as fault:
        log.warning("%s cannot be read (%s): all rows are read anew", path, fault)
        return None


def _keep(config: Config, path: Path, frame: pd.DataFrame) -> None:
    if not len(frame):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    try:
        frame.to_parquet(half, index=False)
        half.replace(path)
    except (OSError, ValueError, TypeError) as fault:  # a column of mixed types, a full disk
        log.warning("%s: rows cannot be kept, the next read is of all: %s", config.name, fault)
        half.unlink(missing_ok=True)
        return
    for other in path.parent.glob("rows-*.parquet"):
        if other != path:
            other.unlink(missing_ok=True)
