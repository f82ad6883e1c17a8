"""The rules a stream is run under: from its block size, its clock and its first rows' base rates.

A check comes after every block. What must be certain is asked for at 99.9 %, so that a stream of a
hundred checks that never moves stays silent; nothing is then asked to show twice, since the windows
of neighbouring checks overlap and a second look would add delay and little evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

import numpy as np

from models.gate import GateRule
from monitoring.rules import Rules, Threshold
from tests.benchmarks.loop.streams import Stream

CALIBRATION_BLOCKS = 3  # the performance window
RECENCY_BLOCKS = 12  # rows on which older and newer proxies are compared
LAG_BLOCKS = 20  # the older proxy learnt rows at least so far back, where there are such
GATE_ROWS = 200  # or a block, where that is more
GATE_MARGIN = 0.1  # of the base rates' log loss: a block is one weather, and fresh rows help, so
# the gate refuses what may be worse by more than that
CONFIDENCE = 0.999  # of every bound
CALIBRATION_FLOOR = 0.02
RECENCY_FLOOR = 0.005  # nats a row
RECENCY_ROWS = 200  # at least
TOLERANCE = 0.03  # nats a row that a retrain may win before drift counts as harm
WORSE_ERRORS = 4.0  # standard errors of the champion's own figure at the gate
PROXY_ROWS = 4_000
REFERENCE_ROWS = 2_000
MMD_ROWS = 500


# n-grams of letters take ten times as long: two hundred fits of a stream would be an hour
SPACE: dict[str, dict[str, Any]] = {"tfidf.letters": {"value": 0}}
FAMILIES = {False: ("hgb", "logistic"), True: ("tfidf",)}  # without and with columns of text


@dataclass(frozen=True, slots=True)
class Search:
    """What a retrain may spend on its search."""

    families: tuple[str, ...] = ()  # none named: FAMILIES
    trials: int = 12  # the first
    warm_trials: int = 5  # every later one, which starts from what the others learnt
    seconds: float = 120.0
    trial_rows: int = 100_000
    validation: float = 0.2  # the newest share of the training rows
    again: bool = True  # False: retrains keep the first champion's parameters

    def of(self, stream: Stream) -> Search:
        """The search with families that read the stream's columns."""
        return replace(self, families=self.families or FAMILIES[bool(stream.schema.texts)])


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is derived from the stream's size."""

    rules: Rules
    gate: GateRule
    thresholds: tuple[Threshold, ...]
    minimum_rows: int
    search: Search


def plan(stream: Stream, rule_set: str, search: Search, *, age: bool = False) -> Plan:
    """The rules for a stream. `age` leaves the rule on a champion's maximum age on.

    The gate looks at the newest block alone: what it holds back, the challenger has not learnt, and
    where the stream moves that is what the challenger would be better by.

    Cool-down: two and a half blocks, so at most every third block is followed by a retrain. The
    calibration gap of many classes is a sum of many noises: its floor grows with their number.
    """
    rows = stream.block
    window = CALIBRATION_BLOCKS * rows
    noise = 0.75 * math.sqrt(max(len(stream.schema.classes) - 2, 0) / window)
    thresholds = (Threshold("calibration_gap", above=round(CALIBRATION_FLOOR + noise, 4)),)
    enough = min(200, max(rows // 2, 20))
    chosen: dict[str, Any] = {
        "rule_set": rule_set,
        "confirmations": 1,
        "memory": 1,
        "clear_after": 6,
        "cooldown": 2.5 * stream.span,
        "retrains_a_week": None,
        "minimum_new_labels": rows,
        "minimum_growth": 0.1,
        "minimum_growth_harm": 0.0,
        "label_silence": None,
    }
    if not age:
        chosen["maximum_age"] = None
    else:
        chosen["maximum_age"] = 20 * stream.span
    known = {f.name for f in fields(Rules)}
    return Plan(
        Rules(**{name: value for name, value in chosen.items() if name in known}),
        GateRule(
            rows=max(rows, GATE_ROWS),
            minimum_rows=max(enough, 2),
            margin=-round(GATE_MARGIN * guessing(stream), 4),
            refit=True,
        ),
        thresholds,
        enough,
        search,
    )


def guessing(stream: Stream) -> float:
    """Log loss of the base rates of the first rows, their entropy in nats."""
    shares = np.bincount(stream.y[: stream.edges[0]]) / int(stream.edges[0])
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def worse_by(loss_deviation: float, gate_rows: int) -> Threshold:
    """Log loss beyond the gate's own figure by more than that figure's error, at least by 0.02."""
    limit = max(0.02, WORSE_ERRORS * loss_deviation / math.sqrt(max(gate_rows, 1)))
    return Threshold("log_loss", worse_by=round(limit, 4))


def performance_span(stream: Stream) -> timedelta:
    return CALIBRATION_BLOCKS * stream.span
