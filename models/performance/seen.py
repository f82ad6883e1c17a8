"""Trials as the predictor learns from them, and which figures it foretells on which scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.records import Params, Scalar, Trial
from models.search.objectives import METRICS

ROWS, SERVED = "fit_rows", "served_form"  # metrics of a trial that say how it was measured
SECONDS = "seconds"  # of the whole trial, by the wall's clock
ANSWERING = frozenset(  # figures that depend on the form in which a model is served
    {"throughput_rows_s", "predict_cpu_ms", "size_mb", "latency_ms", "latency_p95_ms"}
)
_FITTING = frozenset({"fit_cpu_s", SECONDS})
TIMED = (ANSWERING | _FITTING) - {"size_mb"}  # by a clock, which other work disturbs


@dataclass(frozen=True, slots=True)
class Seen:
    """One complete trial. rows: that it was fitted on, 0 where that is not known; search: which
    one it was of; served: its answers were timed in the form that a bundle serves."""

    params: Params
    rows: int
    search: str
    served: bool
    figures: Mapping[str, float]

    @property
    def family(self) -> str:
        return str(self.params.get("family", ""))

    @property
    def configuration(self) -> tuple[tuple[str, Scalar], ...]:
        return tuple(sorted(self.params.items()))


def seen(trials: Iterable[Trial], search: str) -> list[Seen]:
    """The complete ones of a search's trials; one that failed or was stopped measured nothing."""
    found = []
    for trial in trials:
        if trial.status != "complete":
            continue
        figures = {name: float(v) for name, v in trial.metrics.items() if math.isfinite(v)}
        if trial.seconds > 0:
            figures[SECONDS] = trial.seconds
        rows, served = int(figures.pop(ROWS, 0.0)), bool(figures.pop(SERVED, 0.0))
        found.append(Seen(dict(trial.params), rows, search, served, figures))
    return found


def is_ratio(target: str) -> bool:
    """Whether the figure is foretold on a logarithmic scale, where errors are shares of it."""
    return target == SECONDS or (target in METRICS and METRICS[target].ratio)


def growth(target: str) -> float:
    """The power of the rows with which the figure grows, before any trial says otherwise."""
    return 1.0 if target in _FITTING else 0.0
