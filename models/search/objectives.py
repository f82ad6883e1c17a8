"""What a search is after, as data: one metric, several weighed together, limits, or a front.

Directions turn here, once: `Metric.larger_is_better` is asked nowhere else, and every loss that
leaves this module is smaller when the trial is better.

A weighted sum needs units that can be added. Figures of quality count relative to the reference
trial (the first that completes): 1 is its value. Figures of effort live on a ratio scale, so they
count in doublings: a weight of 0.02 on `latency_ms` says that a model twice as slow must have a
loss 2 % lower to be worth it.

>>> Objective("log_loss", weights={"latency_ms": 0.02}).told(
...     {"log_loss": 0.2, "latency_ms": 4.0}, {"log_loss": 0.4, "latency_ms": 2.0})
0.52
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models.errors import SpaceFault

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a trial. ratio: it counts in doublings when it is weighed with others."""

    name: str
    granularity: Literal["quality", "macro", "meso", "micro"]
    unit: str
    larger_is_better: bool = False
    ratio: bool = True

    def turned(self, value: float) -> float:
        """The value such that smaller is better: shares turn to what is missing of 1."""
        if not self.larger_is_better:
            return value
        return -value if self.ratio else 1.0 - value


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("log_loss", "quality", "nats", ratio=False),
        Metric("error", "quality", "", ratio=False),
        Metric("one_minus_auc", "quality", "", ratio=False),
        Metric("accuracy", "quality", "", larger_is_better=True, ratio=False),
        Metric("roc_auc", "quality", "", larger_is_better=True, ratio=False),
        Metric("throughput_rows_s", "macro", "rows/s", larger_is_better=True),
        Metric("fit_cpu_s", "meso", "s"),  # cost: what training one model takes
        Metric("predict_cpu_ms", "meso", "ms"),
        Metric("size_mb", "meso", "MB"),
        Metric("latency_ms", "micro", "ms"),
        Metric("latency_p95_ms", "micro", "ms"),
    )
}
GRANULARITIES: dict[str, tuple[str, ...]] = {
    "macro": ("throughput_rows_s",),
    "meso": ("predict_cpu_ms", "size_mb", "fit_cpu_s"),
    "micro": ("latency_ms",),
}
BEHIND = 10.0  # told losses of trials beyond a limit start here, ten times the reference
_EDGE = BEHIND - 1.0  # and those within bend from here on, so that they end before
_TINY = 1e-9


def known(name: str) -> Metric:
    """The metric of that name. Raises SpaceFault."""
    try:
        return METRICS[name]
    except KeyError:
        raise SpaceFault(
            f"a metric is one of {', '.join(METRICS)}, got {name!r}: use one of them"
        ) from None


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a trial must keep: at most `value`, or at least where larger is better."""

    metric: str
    value: float

    def __post_init__(self) -> None:
        known(self.metric)
        if not (math.isfinite(self.value) and self.value > 0):
            raise SpaceFault(
                f"a limit is a finite number above 0, got {self.metric}: {self.value!r}: correct it"
            )

    def __str__(self) -> str:
        sign = ">=" if METRICS[self.metric].larger_is_better else "<="
        return f"{self.metric} {sign} {self.value:g}"

    def excess(self, metrics: Metrics) -> float:
        """Doublings beyond the limit, 0 when it is kept; 30 for a figure that is not there."""
        found = metrics.get(self.metric, math.nan)
        if not math.isfinite(found):
            return 30.0
        worse, better = max(found, _TINY), self.value
        if METRICS[self.metric].larger_is_better:
            worse, better = better, worse
        return max(math.log2(worse / better), 0.0)


@dataclass(frozen=True, slots=True)
class Objective:
    """What `told` turns a trial's metrics into; all data, so a config is one and JSON can hold it.

    metric: what is minimised or maximised; weights: further metrics, or the granularities macro
    (throughput), meso (CPU, memory, cost: shared equally) and micro (latency), each against the
    metric's own weight of 1, which may be named too; limits: bounds that put a trial behind all
    that keep them. Raises SpaceFault.
    """

    metric: str
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        known(self.metric)
        for name, weight in self.weights.items():
            if name not in GRANULARITIES:
                known(name)
            if not (math.isfinite(weight) and weight > 0):
                raise SpaceFault(
                    f"a weight is a finite number above 0, got {name}: {weight!r}: correct it, or "
                    "leave the metric out"
                )

    @property
    def plain(self) -> bool:
        """Whether the metric alone counts, so that the told loss is the metric itself."""
        return not self.weights and not self.limits

    @property
    def shares(self) -> dict[str, float]:
        """The weight of every metric that is weighed, granularities spelt out."""
        out = {self.metric: 1.0}
        for name, weight in self.weights.items():
            if name in GRANULARITIES:
                parts = GRANULARITIES[name]
                out.update({part: out.get(part, 0.0) + weight / len(parts) for part in parts})
            else:
                out[name] = weight
        return out

    @property
    def named(self) -> tuple[str, ...]:
        """Every metric that plays a part, the main one first."""
        return tuple(dict.fromkeys([*self.shares, *(limit.metric for limit in self.limits)]))

    def loss(self, metrics: Metrics) -> float:
        """The main metric, smaller is better; NaN where it was not measured."""
        return known(self.metric).turned(value_of(self.metric, metrics))

    def feasible(self, metrics: Metrics) -> bool:
        return not any(limit.excess(metrics) for limit in self.limits)

    def told(self, metrics: Metrics, reference: Metrics) -> float:
        """The loss that a searcher is told; NaN where a weighed metric is missing.

        reference: the metrics of the first complete trial, the same all through one search. A plain
        objective is told as it is. Otherwise trials within the limits keep the order of their
        weighed sum and lie below `BEHIND`, all others above it, the lesser excess first.
        """
        if self.plain:
            return self.loss(metrics)
        value = self.weighed(metrics, reference)
        if not self.limits:
            return value
        excess = sum(limit.excess(metrics) for limit in self.limits)
        bent = _bent(value)
        return bent if not excess else BEHIND + excess + (max(bent, -1.0) + 1.0) / 1_000

    def weighed(self, metrics: Metrics, reference: Metrics) -> float:
        """The weighted sum in units of `reference`, smaller is better."""
        total = 0.0
        for name, weight in self.shares.items():
            metric = METRICS[name]
            found, unit = value_of(name, metrics), value_of(name, reference)
            if metric.ratio:
                doublings = math.log2(max(found, _TINY) / max(unit, _TINY))
                total += weight * (-doublings if metric.larger_is_better else doublings)
            else:
                total += weight * metric.turned(found) / max(metric.turned(unit), _TINY)
        return total

    def __str__(self) -> str:
        parts = [self.metric, *(f"{weight:g} {name}" for name, weight in self.weights.items())]
        bounds = " and ".join(str(limit) for limit in self.limits)
        return " + ".join(parts) + (f" with {bounds}" if bounds else "")


def value_of(name: str, metrics: Metrics) -> float:
    """A trial's figure of that name, as it is measured; NaN where it was not."""
    if name == "one_minus_auc" and name not in metrics:
        return 1.0 - metrics.get("roc_auc", math.nan)
    return metrics.get(name, math.nan)


def _bent(value: float) -> float:
    """`value`, bent above the edge so that it stays below `BEHIND`; strictly increasing."""
    if math.isnan(value) or value <= _EDGE:
        return value
    past = value - _EDGE
    return _EDGE + past / (1.0 + past)
