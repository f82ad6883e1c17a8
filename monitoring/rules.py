"""Thresholds and rules as data: what the config says and what the policy reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

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
    """When to act. The defaults are what a careful team would keep for a daily check."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    drift_p_value: float = 0.001  # MMD permutation level of one check
    drifted_share: float = 0.3  # share of drifted columns at which the Evidently report alarms
    confirmations: int = 2  # k of n: so many of the last `memory` windows must show the breach
    memory: int = 3
    clear_after: int = 2  # hysteresis: quiet windows before the same breach counts anew
    cooldown: timedelta = timedelta(days=7)  # between two retrains
    minimum_new_labels: int = 500  # labelled rows the champion has not learnt from
    minimum_growth: float = 0.1  # of labelled rows since the champion's training, for drift alone
    minimum_growth_harm: float = 0.0  # the same for a breach of performance
    relearn_growth: float | None = None  # drift that a retrain answered and that stays may retrain
    # again after so much growth, since the champion has seen only the beginning of it; None: never
    maximum_age: timedelta | None = timedelta(days=60)
    refusal_backoff: float = 2.0  # each refusal by the gate multiplies the cool-down by this
    label_silence: timedelta | None = timedelta(days=7)  # no label at all for so long: alert

    def __post_init__(self) -> None:
        wrong = [
            f"{name} {rule}, got {getattr(self, name)}"
            for name, rule, holds in (
                ("drift_p_value", "lies between 0 and 1", 0 < self.drift_p_value < 1),
                ("drifted_share", "lies in (0, 1]", 0 < self.drifted_share <= 1),
                ("confirmations", "is at least 1", self.confirmations >= 1),
                ("memory", "is at least `confirmations`", self.memory >= self.confirmations),
                ("clear_after", "is not negative", self.clear_after >= 0),
                ("cooldown", "is not negative", self.cooldown >= timedelta(0)),
                ("minimum_new_labels", "is not negative", self.minimum_new_labels >= 0),
                ("minimum_growth", "is not negative", self.minimum_growth >= 0),
                ("minimum_growth_harm", "is not negative", self.minimum_growth_harm >= 0),
                (
                    "relearn_growth",
                    "is positive or null",
                    self.relearn_growth is None or self.relearn_growth > 0,
                ),
                ("refusal_backoff", "is at least 1", self.refusal_backoff >= 1),
            )
            if not holds
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
