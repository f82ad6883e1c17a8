"""What happened in a replay, in records that the report and the JSON file are written from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deployments.demo.scoreboard import EVERFIT, FROZEN, METRICS, NAMES, WEEKLY, Table, Week
from deployments.demo.world import Words
from monitoring.records import Decision, Signal, to_dict


@dataclass(frozen=True, slots=True)
class Check:
    """One daily check: what was measured and what was decided."""

    day: int  # replayed day, 0 is the first
    time: datetime
    window_id: str
    version: str
    action: str
    rule: str
    reasons: tuple[str, ...]
    mmd: float | None = None  # -log10 of the shift test's p-value
    mmd_p_value: float | None = None
    mmd_alarmed: bool = False  # at the level that this check had
    drifted_share: float | None = None  # of the columns, in [0, 1]
    unseen: float | None = None  # share of words that the training texts never had, in [0, 1]
    unseen_alarmed: bool = False  # the vocabulary had moved
    words: tuple[str, ...] = ()  # what moved in it, in sentences
    report: str | None = None  # the Evidently page, relative to the report, if one was drawn


@dataclass(frozen=True, slots=True)
class Retrain:
    """One retrain that a check started, and how it ended."""

    number: int  # 1 is the first
    day: int
    time: datetime
    window_id: str
    rule: str
    reasons: tuple[str, ...]
    passed: bool  # the gate let it through, and it serves
    verdict: str
    version: str | None
    seconds: float  # of training: all trials and the final fit
    trials: int
    warm: bool = False  # the search started from what earlier ones learnt
    gain: float | None = None  # log loss per row that the challenger saves, on the gate's rows
    low: float | None = None
    high: float | None = None
    gate_rows: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """A whole replay."""

    world: str  # its name
    words: Words
    texts: tuple[str, ...]  # inputs that are texts
    start: datetime  # first replayed moment
    days: int
    first_rows: int  # the first champion learnt from so many
    first: datetime  # of those rows
    requests: int
    rows: int  # answered
    unlabelled: int  # answered, and never labelled
    weeks: tuple[Week, ...]
    checks: tuple[Check, ...]
    retrains: tuple[Retrain, ...]
    table: Table
    weekly_retrains: int
    training_seconds: Mapping[str, float]  # after the first champion's, by name
    wall_seconds: float
    p_value_limit: float | None  # of each check; None: a share of the year's error budget
    share_limit: float
    gate_margin: float  # log loss per row that a challenger's gain must exceed
    window_days: float  # that each drift check looks back
    headline: tuple[str, ...] = field(default=())

    @property
    def retrain_share(self) -> float | None:
        """everfit's retrains over weekly's; refused ones count, since they cost as much."""
        return len(self.retrains) / self.weekly_retrains if self.weekly_retrains else None


def check_of(decision: Decision, day: int, folder: Path) -> Check:
    """A decision as one line of the story; the report's path is made relative to `folder`.

    Drift figures are None where their detector could not speak.
    """
    spoke = {s.name: s for s in decision.signals.items if s.breached is not None}
    mmd, evidently, vocabulary = (spoke.get(n) for n in ("mmd", "evidently", "vocabulary"))
    page = Path(decision.signals.report) if decision.signals.report else None
    if page is not None:
        page = Path(os.path.relpath(page, folder))
    return Check(
        day=day,
        time=decision.time,
        window_id=decision.window_id,
        version=decision.signals.window.version,
        action=decision.action.value,
        rule=decision.rule,
        reasons=decision.reasons,
        mmd=-math.log10(mmd.p_value) if mmd and mmd.p_value else None,
        mmd_p_value=mmd and mmd.p_value,
        mmd_alarmed=bool(mmd and mmd.breached),
        drifted_share=evidently and evidently.value,
        unseen=vocabulary and vocabulary.value,
        unseen_alarmed=bool(vocabulary and vocabulary.breached),
        words=_sentences(vocabulary) if vocabulary and vocabulary.breached else (),
        report=page.as_posix() if page is not None else None,
    )


def _sentences(vocabulary: Signal) -> tuple[str, ...]:
    from monitoring.text.signal import sentences

    return sentences(vocabulary.detail)


def to_json(story: Story) -> dict[str, Any]:
    """The final table with stable keys, and everything it rests on.

    `table[name]` has log_loss, roc_auc, error, retrains and training_seconds for frozen, weekly and
    everfit; `differences` their paired intervals; `headline.gain_share` the share of weekly's
    log-loss gain over frozen that everfit has, `headline.retrain_share` everfit's retrains over
    weekly's; `retrains`, `checks` and `weeks` are the lines behind them.
    """
    retrains = {FROZEN: 0, WEEKLY: story.weekly_retrains, EVERFIT: len(story.retrains)}
    share = story.table.gain_share
    return {
        "schema": 2,
        "replayed": {
            "world": story.world,
            "start": story.start.isoformat(),
            "days": story.days,
            "weeks": len(story.weeks),
            "requests": story.requests,
            "rows": story.rows,
            "rows_scored": story.table.rows,
            "rows_never_labelled": story.unlabelled,
            "positive_share": story.table.positive,
        },
        "table": {
            name: {
                **{metric: story.table.metrics[name][metric] for metric in METRICS},
                "retrains": retrains[name],
                "training_seconds": round(story.training_seconds[name], 2),
            }
            for name in NAMES
        },
        "differences": [to_dict(d) for d in story.table.differences],
        "headline": {
            "gain_share": share.value,
            "gain_share_low": share.low,
            "gain_share_high": share.high,
            "retrain_share": story.retrain_share,
            "words": list(story.headline),
        },
        "retrains": [to_dict(r) for r in story.retrains],
        "weeks": [to_dict(w) for w in story.weeks],
        "checks": [to_dict(c) for c in story.checks],
        "interval": {
            "confidence": story.table.confidence,
            "resamples": story.table.resamples,
            "block": "day",
        },
        "wall_seconds": round(story.wall_seconds, 1),
    }


def write_json(story: Story, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(story), indent=2) + "\n", encoding="utf-8")
    return path
