"""Thresholds and rules as data: what the config says and what the policy reads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any, ClassVar, Literal, get_args

from monitoring.wording import short

Metric = Literal[
    "accuracy",
    "error",
    "log_loss",
    "roc_auc",
    "calibration_gap",  # between the mean probabilities and the shares that came true
    "latency_p95_ms",
    "label_coverage",
    "error_rate",  # share of requests that the server could not answer
    "throughput",  # requests against what is usual at that hour; 1 is as usual
]

RuleSet = Literal["default", "performance-first"]
RULE_SETS: tuple[str, ...] = get_args(RuleSet)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on a measured metric; `None` means unbounded.

    Breached only when the whole confidence interval lies beyond it. `worse_by` is relative to the
    champion's own figure on the rows that proved it at the gate, in the metric's unit: a model that
    was never better than 0.45 log loss is held against 0.45, not against a wish.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    metric: Metric
    below: float | None = None
    above: float | None = None
    worse_by: float | None = None

    def __post_init__(self) -> None:
        if self.below is None and self.above is None and self.worse_by is None:
            raise ValueError(
                f"a threshold needs `below`, `above` or `worse_by`; {self.metric} has none: add one"
            )

    def __str__(self) -> str:
        parts = []
        if self.below is not None:
            parts.append(f"{self.metric} < {self.below:g}")
        if self.above is not None:
            parts.append(f"{self.metric} > {self.above:g}")
        if self.worse_by is not None:
            parts.append(f"{self.metric} worse than at the gate by > {self.worse_by:g}")
        return " or ".join(parts)


@dataclass(frozen=True, slots=True)
class Rules:
    """When to act. The defaults are what a careful team would keep for a daily check.

    Under the rule set `performance-first`, drift does not retrain while the realised or estimated
    performance is certainly within its thresholds; everything else is the same.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rule_set: RuleSet = "default"
    drift_p_value: float | None = None  # fixed level of one MMD test; None: from the error budget
    drifted_share: float = 0.3  # share of drifted columns at which the Evidently report alarms
    minimum_effect: float = 0.05  # of the most moved column: the share of its rows that would have
    # to change for the window to look like the reference; fainter drift is watched
    confirmations: int = 2  # k of n: so many of the last `memory` windows must show the breach
    memory: int = 3
    confirmations_estimated: int = 1  # the same for drift under which the estimated loss is beyond
    clear_after: int = 2  # hysteresis: quiet windows before the same breach counts anew
    cooldown: timedelta = timedelta(days=7)  # between two retrains
    retrains_a_week: int | None = 2  # at most, for whatever reason; None: no limit
    minimum_new_labels: int = 500  # labelled rows the champion has not learnt from
    minimum_growth: float = 0.1  # of labelled rows since the champion's training, for drift alone
    minimum_growth_harm: float = 0.0  # the same for a breach of performance
    relearn_growth: float | None = None  # drift that a retrain answered and that stays may retrain
    # again after so much growth, since the champion has seen only the beginning of it; None: never
    maximum_age: timedelta | None = timedelta(days=60)
    refusal_backoff: float = 2.0  # each refusal by the gate multiplies the cool-down by this
    probation: timedelta | None = timedelta(days=14)  # after a promotion: for so long the previous
    # champion is scored on the same rows, and comes back if the new one is certainly worse
    label_silence: timedelta | None = timedelta(days=7)  # no label at all for so long: alert
    missing_flood: float = 0.1  # so many more missing values in a column are a data fault
    faults_hold_drift: bool = True  # a data fault alerts, and drift waits until it is mended
    learn_faults: bool = False  # whether rows that only windows with a data fault hold are learnt
    good_days: tuple[date, ...] = ()  # whose rows are learnt all the same: a person looked at them
    slices: Literal["watch", "retrain"] = "watch"  # what a breach in one slice alone leads to

    def __post_init__(self) -> None:
        level, week, learn = self.drift_p_value, self.retrains_a_week, self.relearn_growth
        checks = {
            "rule_set": ("is default or performance-first", self.rule_set in RULE_SETS),
            "drift_p_value": ("lies between 0 and 1, or null", level is None or 0 < level < 1),
            "drifted_share": ("lies in (0, 1]", 0 < self.drifted_share <= 1),
            "minimum_effect": ("lies in [0, 1)", 0 <= self.minimum_effect < 1),
            "missing_flood": ("lies in [0, 1]", 0 <= self.missing_flood <= 1),
            "confirmations": ("is at least 1", self.confirmations >= 1),
            "memory": ("is at least `confirmations`", self.memory >= self.confirmations),
            "confirmations_estimated": (
                "is at least 1 and at most `memory`",
                1 <= self.confirmations_estimated <= self.memory,
            ),
            "clear_after": ("is not negative", self.clear_after >= 0),
            "cooldown": ("is not negative", self.cooldown >= timedelta(0)),
            "retrains_a_week": ("is at least 1 or null", week is None or week >= 1),
            "minimum_new_labels": ("is not negative", self.minimum_new_labels >= 0),
            "minimum_growth": ("is not negative", self.minimum_growth >= 0),
            "minimum_growth_harm": ("is not negative", self.minimum_growth_harm >= 0),
            "relearn_growth": ("is positive or null", learn is None or learn > 0),
            "refusal_backoff": ("is at least 1", self.refusal_backoff >= 1),
            "probation": (
                "is longer than nothing, or null",
                self.probation is None or self.probation > timedelta(0),
            ),
        }
        wrong = [
            f"{name} {rule}, got {getattr(self, name)}"
            for name, (rule, holds) in checks.items()
            if not holds
        ]
        if wrong:
            raise ValueError("; ".join(wrong))

    def as_data(self) -> dict[str, Any]:
        """The rules as a config would have them, durations as '7d'."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, date):
        return value.isoformat()
    return short(value) if isinstance(value, timedelta) else value
