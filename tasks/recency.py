"""Two small models for the question whether newer rows teach better: `monitoring.recency`.

The older one learns the reference, a sample of what the champion has learnt; the newer one as many
of the newest labelled rows that the champion has not. Both are scored on labelled rows after those.
"""

from __future__ import annotations

import logging
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import places

if TYPE_CHECKING:
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config

log = logging.getLogger(__name__)

LEAST = 200  # rows that either learns
SCORED = 4_000  # rows at most that they are scored on


def losses(
    config: Config,
    store: TelemetryStore,
    reference: pd.DataFrame,
    unseen_after: datetime,
    now: datetime,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Log loss per row of the older and of the newer model; None where there are too few rows."""
    from models.errors import DataFault

    target = config.data.target
    inputs = {*config.data.columns, target}
    if config.telemetry.never_store or not inputs <= set(reference):  # an input that no row has
        return None
    most = SCORED + len(reference)
    fresh = store.labelled(unseen_after, now, now, limit_newest=most)
    fresh = fresh.rename(columns={"label": target})
    for name in config.data.columns:
        if name not in fresh:  # a column that no request carried
            fresh[name] = None
    scored = min(SCORED, len(fresh) // 2)
    learnt = min(len(reference), len(fresh) - scored)
    if learnt < LEAST:
        return None
    newer, rows = fresh.iloc[len(fresh) - scored - learnt :].iloc[:learnt], fresh.tail(scored)
    try:
        older = reference.sample(learnt, random_state=config.train.seed)
        return _losses(config, older, rows), _losses(config, newer, rows)
    except DataFault:  # rows of one class alone teach nothing
        return None
    except Exception:  # one detector's fault ends no check
        log.exception("%s: the two small models could not be compared", config.name)
        return None


def _losses(config: Config, learnt: pd.DataFrame, rows: pd.DataFrame) -> NDArray[np.float64]:
    from models import families
    from models.bundle import Predictor
    from models.data import to_labels
    from models.metrics import per_row_log_loss
    from models.training import fit_bundle

    columns = list(config.data.columns)
    with TemporaryDirectory() as folder:
        made = fit_bundle(
            learnt[[*columns, config.data.target]],
            places.schema(config),
            families.defaults(config.train.families)[0],
            folder=f"{folder}/proxy",
            seed=config.train.seed,
            trainer=config.train.trainer,
        )
        model = Predictor.load(made.bundle)
        proba = model.predict_proba({name: rows[name].to_numpy() for name in columns})
    codes = to_labels(rows[config.data.target], tuple(config.data.classes))
    return np.asarray(per_row_log_loss(codes, proba))
