"""Losses to rewards, once: the direction turns here, and scales end here.

A reward is a rank, so it means the same in every retrain and under every metric. Larger is better
from here on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.records import Trial


def loss_of(trial: Trial) -> float | None:
    """The loss of a complete trial (smaller is better); None for any other, or NaN or infinite.

    What is chosen is chosen by it: a trial that was stopped early has none.
    """
    return learnt_from(trial) if trial.status == "complete" else None


def learnt_from(trial: Trial) -> float | None:
    """The loss that a searcher learns from: of a stopped trial, what it was predicted to end with.

    None when the trial failed or its loss is NaN or infinite.
    """
    if trial.status == "failed" or trial.loss is None or not math.isfinite(trial.loss):
        return None
    return float(trial.loss)


def losses_of(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """What is learnt from each trial (n,), smaller is better; NaN where it failed."""
    losses = [learnt_from(trial) for trial in trials]
    return np.array([math.nan if loss is None else loss for loss in losses], dtype=np.float64)


def ranked(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred rank rewards (n,) in [-1, 1], larger is better; NaN losses get -1, ties the mean.

    r_i = 1 - 2 (rank_i - 1) / (n - 1), with rank 1 for the smallest loss.

    >>> ranked(np.array([0.3, 0.1, np.nan, 0.2])).round(2).tolist()
    [-0.33, 1.0, -1.0, 0.33]
    """
    failed = np.isnan(losses)
    if len(losses) < 2:
        return np.where(failed, -1.0, 0.0)
    ranks = rankdata(np.where(failed, np.inf, losses))
    return np.asarray(np.where(failed, -1.0, 1.0 - 2.0 * (ranks - 1.0) / (len(losses) - 1.0)))
