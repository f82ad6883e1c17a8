"""What is known about one window, how it is to be measured, and a guard for what measures it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.records import Kind, RequestCount, Signal, Value
from monitoring.rules import Rules, Threshold

if TYPE_CHECKING:
    import pandas as pd

    from monitoring.probation import Probation
    from monitoring.slices import SliceThreshold

_log = logging.getLogger(__name__)

LATENCY = "latency_p95_ms"
LEVEL = 0.001  # of a test for which neither rule nor budget says one


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was gathered about one window and its champion; frames as `TelemetryStore.rows` has.

    `reference` holds the inputs of rows that the champion learnt from, `current` those of the
    window with `proba` and `latency_ms`, `matured` the champion's rows whose label is due, with
    `label` and `proba`. `baseline` are the champion's metrics at the gate, and `proof` the rows
    that gave them: inputs, `label` and the champion's `proba` on rows it has not learnt. A column
    `time` in any of them says which rows came together.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    matured: pd.DataFrame
    baseline: Mapping[str, float] = field(default_factory=dict)
    new_labels: int = 0  # labelled rows that the champion has not learnt from
    trained_rows: int = 0  # those that it has
    last_label: datetime | None = None  # when the newest label came, or the champion was made
    longer: Mapping[timedelta, pd.DataFrame] = field(default_factory=dict)  # rows of longer windows
    # that end with this one, for slow drift
    proof: pd.DataFrame | None = None
    counts: Sequence[RequestCount] | None = None  # of the window; None: nobody counts requests
    usual_counts: Sequence[RequestCount] = ()  # of the time before it
    earlier: Mapping[str, tuple[Sequence[Signal], Sequence[Signal]]] = field(default_factory=dict)
    # by window: what was estimated of it, and what its labels said when they had come
    proxies: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # losses per row of a
    # small model of older rows and of one of newer rows, on the same rows after both
    probation: Probation | None = None  # of a champion that was promoted lately


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure: what the config says, the same for every window of a model."""

    columns: Mapping[str, str]  # name -> 'number' or 'category'
    classes: Sequence[Value]  # in the order of `proba`
    thresholds: Sequence[Threshold] = ()
    rules: Rules = field(default_factory=Rules)
    levels: Mapping[timedelta, float] | None = None  # of this check, by length of window, from the
    # error budget: a length that is not in it is not due. `rules.drift_p_value` wins; None: LEVEL
    confidence: float = 0.95
    minimum_rows: int = 200
    minimum_labels: int = 200
    mmd_rows: int = 500  # of each side that enter the MMD test
    block: timedelta | None = None  # rows of so long a stretch are permuted together, by `time`
    performance_block: timedelta | None = None  # and so long a one is resampled together
    permutations: int = 999
    seed: int = 0
    label_delay: timedelta = timedelta(0)  # after which most labels should have come
    slices: Sequence[str] = ()  # columns by whose values performance is told as well
    slice_thresholds: Sequence[SliceThreshold] = ()
    estimate: bool = True  # performance without labels, where the rows of the proof are known
    explain: Literal["drift", "always", "never"] = "drift"  # when it is said what moved
    texts: Sequence[str] = ()  # columns of text that are recorded
    unstored: Sequence[str] = ()  # and those that are not: nobody can watch them
    name_words: bool = True  # whether words that moved may be named to a person

    @property
    def inputs(self) -> dict[str, str]:
        """Every recorded column and its kind."""
        return {**self.columns, **dict.fromkeys(self.texts, "text")}


def level_of(settings: Settings, length: timedelta) -> float | None:
    """The level at which a window of `length` is tested now; None when it is not due."""
    if settings.rules.drift_p_value is not None:
        return settings.rules.drift_p_value
    return LEVEL if settings.levels is None else settings.levels.get(length)


def guarded(
    name: str, kind: Kind, detector: Callable[[], Signal | Iterable[Signal]]
) -> tuple[Signal, ...]:
    """What `detector` says; a silent signal of `name` and `kind` with the reason if it raises."""
    try:
        found = detector()
        return (found,) if isinstance(found, Signal) else tuple(found)
    except Exception as fault:
        _log.exception("the detector %s failed", name)
        return (Signal(name, kind, None, reason=f"it failed: {type(fault).__name__}: {fault}"),)
