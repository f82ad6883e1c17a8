"""Labelled rows for a retrain: the file's, then the telemetry's, with a fresh part held back.

Rows are ordered by time. Telemetry is read only after the file's last row, so that a file that is
refreshed with served rows never counts them twice.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from models.data import FileSource, times
from models.errors import DataFault
from tasks import places

if TYPE_CHECKING:
    from models.gate import GateRule
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config

log = logging.getLogger(__name__)

TIME = "__time__"  # event time in UTC; NaT in files without a time column
HOLDOUT_SHARE = 0.2  # of all rows, at most
SERVED_ROWS = 5_000  # without labels, that a model adapts to


def labelled(config: Config, now: datetime) -> pd.DataFrame:
    """Inputs, target and TIME of every row whose label is known at `now`, oldest first."""
    inputs = [*config.data.columns, config.data.target]
    file = source_rows(config, now)
    missing = [name for name in inputs if name not in file.columns]
    if missing:
        raise DataFault(
            f"{config.data.called} must hold every column the config names; missing: {missing}: "
            f"correct data.columns or the {'query' if config.data.query else 'file'}"
        )
    file[TIME] = (
        times(file, config.data.time)
        if config.data.time
        else pd.Series(pd.NaT, index=file.index, dtype="datetime64[ns, UTC]")
    )
    file = file.loc[file[config.data.target].notna(), [*inputs, TIME]]
    if config.data.time:
        file = file.loc[file[TIME] <= pd.Timestamp(now)].sort_values(TIME, kind="stable")
    last = file[TIME].max() if config.data.time and len(file) else None
    served = served_rows(config, None if last is None else last.to_pydatetime(), now)
    parts = [part for part in (file, served) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else file.reset_index(drop=True)


def source_rows(config: Config, now: datetime) -> pd.DataFrame:
    """What the config's file or query has."""
    source = config.data.source
    if isinstance(source, str):
        from tasks import sql_rows

        return sql_rows.read(config, now)
    return FileSource(source, config.data.time).read(after=None)


def served_rows(config: Config, after: datetime | None, now: datetime) -> pd.DataFrame:
    """Answered rows whose label had come by `now`, in the same columns, but for faulty ones."""
    with places.telemetry(config) as store:
        frame = store.labelled(after=after, before=now, as_of=now)
        frame = frame[~faulty(config, store, frame["time"])]
        frame = _whole(config, store, frame)
    frame = frame.rename(columns={"label": config.data.target, "time": TIME})
    for name in config.data.columns:
        if name not in frame.columns:  # a column that no request carried
            frame[name] = None
    return frame[[*config.data.columns, config.data.target, TIME]]


def unlabelled(config: Config, now: datetime, most: int = SERVED_ROWS) -> pd.DataFrame:
    """The newest answered rows, `most` at most, whose label had not come by `now`: the inputs.

    None where some input is never stored, and none that only windows with a data fault hold.
    """
    from monitoring.recordings import not_stored

    with places.telemetry(config) as store:
        frame = store.rows(None, now, limit=2 * most, as_of=now)
        frame = frame[frame["label"].isna()].tail(most)
        frame = frame[~faulty(config, store, frame["time"])]
        lacking = [name for name in not_stored(store.recordings()) if name in frame]
    frame = frame.iloc[:0] if config.telemetry.never_store else frame.dropna(subset=lacking)
    for name in config.data.columns:
        if name not in frame.columns:  # a column that no request carried
            frame[name] = None
    return frame[list(config.data.columns)].reset_index(drop=True)


def _whole(config: Config, store: TelemetryStore, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with all their inputs. A model that learnt rows without one would learn that it is
    missing, and it is not where the model serves."""
    from monitoring.recordings import not_stored

    never = config.telemetry.never_store
    lacking = [n for n in not_stored(store.recordings()) if n in config.data.columns and n in frame]
    kept = frame.iloc[:0] if never else frame.dropna(subset=lacking) if lacking else frame
    if len(kept) < len(frame):
        log.warning(
            "%s: %d labelled rows are not learnt, since telemetry.never_store kept %s out of them: "
            "bring their rows in %s",
            config.name,
            len(frame) - len(kept),
            ", ".join(never or lacking),
            config.data.called,
        )
    return kept


def faulty(config: Config, store: TelemetryStore, when: pd.Series) -> pd.Series:
    """Which rows asked at these times only windows with a data fault hold.

    None with `policy.learn_faults`, and none of the days in `policy.good_days`, which are UTC's.
    """
    from monitoring.policy_state import PolicyState

    found = pd.Series(False, index=when.index)
    if config.policy.learn_faults or not len(when):
        return found
    for start, end in PolicyState.from_dict(store.state(config.name) or {}).faults:
        found |= (when >= pd.Timestamp(start)) & (when < pd.Timestamp(end))
    if found.any() and config.policy.good_days:
        found &= ~when.dt.date.isin(config.policy.good_days)
    if found.any():
        log.warning("%s: %d rows of data faults are not learnt", config.name, int(found.sum()))
    return found


def hold_back(
    frame: pd.DataFrame, rule: GateRule, *, timed: bool, unseen_after: datetime | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split into training and holdout rows; neither champion nor challenger learns the holdout.

    With times the newest rows are held back, and of them only those after `unseen_after`, the
    champion's last training row, are used. Without times a fixed fifth of the rows, chosen by
    their content, is held back in every generation, so that no model ever trains on it.
    """
    limit = min(rule.rows, int(len(frame) * HOLDOUT_SHARE))
    if timed:
        training, holdout = frame.iloc[: len(frame) - limit], frame.iloc[len(frame) - limit :]
        if unseen_after is not None:
            holdout = holdout[holdout[TIME] > pd.Timestamp(unseen_after)]
        return training, holdout
    keys = pd.util.hash_pandas_object(frame.drop(columns=[TIME]).astype(str), index=False)
    held = (keys % 5 == 0).to_numpy()
    return frame[~held], frame[held].tail(rule.rows)


def now_utc() -> datetime:
    return datetime.now(UTC)
