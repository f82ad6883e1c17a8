"""The champion's rows since its promotion, with what the one before it says of the same rows."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks import places

if TYPE_CHECKING:
    from models.records import Release
    from monitoring.probation import Loss, Probation
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config
    from tasks.lineage import Lineage

log = logging.getLogger(__name__)

MOST = 20_000  # rows that are compared
SPANS = 56  # of a probation with more rows, as many of each: a quarter of a day of a fortnight
STRETCHES = 14  # of a probation, where the config does not say which rows come together


def probation(
    config: Config, store: TelemetryStore, champion: Release, made: Lineage, now: datetime
) -> Probation | None:
    """None unless `champion` was promoted lately, over one that could come back.

    Of rows asked within `policy.probation` of the promotion, those whose label is due; so the
    probation ends `data.label_delay` later. A version that a roll-back or a hand has brought back
    is on none: one promotion is taken back once, and a person's choice is not.
    """
    from monitoring.probation import Probation

    length, promoted = config.policy.probation, champion.tags.get("promoted_at")
    if length is None or not promoted or _chosen(champion) >= promoted:
        return None
    since, delay = datetime.fromisoformat(promoted), config.data.label_delay
    if not since <= now <= since + length + delay:
        return None
    previous = places.registry(config).previous()
    if previous is None:
        return None
    through = max(since, min(since + length, now - delay))
    rows = _rows(store, since, through, champion.version, now)
    loss: Loss = "error" if config.train.objective == "error" else "log_loss"
    gate = made.verdict.champion.get(loss) if made.opponent == previous.version else None
    fault = ""
    if len(rows) and config.telemetry.never_store:
        fault = f"it cannot be asked: {', '.join(config.telemetry.never_store)} is not stored"
    elif len(rows):
        try:
            rows = rows.assign(proba_previous=_answers(config, previous.version, rows))
        except Exception as raised:  # it is judged by its figure at the gate then
            log.exception("%s: version %s could not be scored", config.name, previous.version)
            fault = f"it could not be scored: {type(raised).__name__}: {raised}"[:200]
    return Probation(since, previous.version, rows, loss, gate, fault, through, block(config))


def block(config: Config) -> timedelta:
    """Which rows count together: those that the config says come together, else those of a
    fourteenth of the probation, so that there are as many stretches when it ends."""
    length = config.policy.probation
    assert length is not None
    monitor = config.monitor
    return monitor.performance_block or monitor.block or length / STRETCHES


def _rows(
    store: TelemetryStore, since: datetime, through: datetime, version: str, now: datetime
) -> pd.DataFrame:
    """All labelled rows of a time; where they are too many, some of each span of it, since the
    newest alone could all be of one day."""

    def read(start: datetime, end: datetime, most: int) -> pd.DataFrame:
        return store.rows(start, end, version, labelled_only=True, limit=most, as_of=now)

    newest = read(since, through, MOST)
    if len(newest) < MOST:
        return newest
    edges = [since + (through - since) * k / SPANS for k in range(SPANS + 1)]
    parts = [read(start, end, MOST // SPANS) for start, end in pairwise(edges)]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _chosen(champion: Release) -> str:
    """When it was last made champion by anything else than a promotion; '' for never."""
    return max(champion.tags.get(key, "") for key in ("restored_at", "moved_at"))


def _answers(config: Config, version: str, rows: pd.DataFrame) -> pd.Series[Any]:
    from models.bundle import Predictor

    bundle = places.registry(config).download(version, config.folder / "serving")
    columns = {
        name: rows[name].to_numpy() if name in rows else np.full(len(rows), np.nan)
        for name in config.data.columns
    }
    answers = Predictor.load(bundle).predict_proba(columns)
    return pd.Series([row.tolist() for row in answers], index=rows.index)
