"""The records that pass from serving to the decision, one per arrow of the diagram.

Times are timezone-aware and in UTC. All records are frozen and serialise with `to_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered row: what came in, what went out, who answered and how long it took."""

    id: str
    time: datetime
    version: str
    features: Mapping[str, Value]
    probabilities: tuple[float, ...]  # in the order of the bundle's classes
    latency_ms: float  # of the request that carried the row


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one prediction, and when it became known."""

    id: str
    value: Value
    arrived: datetime


@dataclass(frozen=True, slots=True)
class RequestCount:
    """What the server was asked in one minute on one route, and how often it could not answer."""

    minute: datetime  # its beginning
    route: str
    version: str  # of the model that was served; '' before there is one
    requests: int  # answered ones and others
    rows: int = 0  # answered
    client_errors: int = 0  # 4xx: the request was at fault
    server_errors: int = 0  # 5xx: the server was


class LabelResult(StrEnum):
    """How the store took a label. Every one of them is answered; none of them is lost."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same value again: nothing changes
    CONTRADICTED = "contradicted"  # another value is there: the first stays, this one is kept aside
    UNKNOWN = "unknown"  # no such prediction yet: kept, and joined if the prediction comes
    UNSAMPLED = "unsampled"  # its prediction is not in the sample that is recorded: kept as well


@dataclass(frozen=True, slots=True)
class Window:
    """The rows one check looks at: `start` <= prediction time < `end`, answered by `version`."""

    id: str
    model: str
    version: str
    start: datetime
    end: datetime
    rows: int  # that were recorded
    labelled: int
    share: float = 1.0  # of the answered rows that were recorded, where a sample is
    not_stored: tuple[str, ...] = ()  # columns that were not recorded, for all or a part of it

    @property
    def coverage(self) -> float:
        """Share of the window's rows whose label has come, in [0, 1]."""
        return self.labelled / self.rows if self.rows else 0.0


class Kind(StrEnum):
    """What a signal speaks about; rules match on it."""

    DRIFT = "drift"
    PERFORMANCE = "performance"
    LATENCY = "latency"
    LABELS = "labels"
    ESTIMATE = "estimate"
    SCHEMA = "schema"
    PREDICTIONS = "predictions"
    SERVICE = "service"
    PROBATION = "probation"  # of a new champion, against the one before it


@dataclass(frozen=True, slots=True)
class Signal:
    """One detector's word about one window.

    `breached` is None when the detector could not speak; `reason` then says why. A threshold is
    breached only when the whole interval `low`..`high` lies on its wrong side, or the p-value is
    below it: never on a bare point.
    """

    name: str
    kind: Kind
    breached: bool | None
    value: float | None = None
    p_value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: str = ""  # as a person reads it, for instance 'accuracy < 0.9'
    rows: int = 0  # current rows it looked at
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signals:
    """All that was measured on one window."""

    window: Window
    items: tuple[Signal, ...]
    report: str | None = None  # where the Evidently report of this window lies, if one was drawn
    picture: str | None = None  # likewise the picture of both samples
    moved: tuple[str, ...] = ()  # what moved and how, most first, as a person reads it

    def of(self, kind: Kind) -> tuple[Signal, ...]:
        return tuple(s for s in self.items if s.kind is kind)


class Action(StrEnum):
    KEEP = "keep"
    RETRAIN = "retrain"
    RETUNE = "retune"  # a faster model is wanted; a retrain for accuracy would not bring it
    ROLLBACK = "roll back"  # the champion is worse than the one before it
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Near:
    """A rule that nearly fired, and what it lacked."""

    rule: str
    missing: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.missing}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about one window, with every reason and all the evidence."""

    window_id: str
    time: datetime
    action: Action
    rule: str  # the rule that decided
    reasons: tuple[str, ...]
    signals: Signals
    rule_set: str = "default"
    thresholds: Mapping[str, Any] = field(default_factory=dict)  # those applied: the rules, and
    # each signal's own
    nearly: tuple[Near, ...] = ()
    alerts: tuple[str, ...] = ()  # what a person is told now, whatever the action

    @property
    def retrain(self) -> bool:
        return self.action is Action.RETRAIN


def to_dict(record: Any) -> dict[str, Any]:
    """A record as JSON-ready values: ISO times, plain lists and dicts."""
    return {key: _plain(value) for key, value in asdict(record).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, StrEnum):
        return value.value
    return value
