"""The records that pass from the search to serving, one per arrow of the diagram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Scalar = float | int | str | bool
Params = Mapping[str, Scalar]  # only active parameters are present


@dataclass(frozen=True, slots=True)
class Trial:
    """One try of the search. `loss` is the objective, smaller is better; None when it failed.

    A 'stopped' trial was ended before its whole budget because it could not win any more: its
    `loss` is the one it was predicted to end with, a thing to learn from and never to choose.
    error: why it failed or was stopped. fidelity: the share of the full budget (rows, epochs,
    trees) that it was given, in (0, 1]; curve: (fidelity, loss) on the way there, if the model
    tells, and curve_seconds: when each of its points was reached, since the trial began. parts:
    the loss on parts of the validation rows, for comparisons in pairs (`models.search.standing`).
    """

    number: int
    params: Params
    status: Literal["complete", "stopped", "failed"]
    loss: float | None
    seconds: float
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    fidelity: float = 1.0
    curve: tuple[tuple[float, float], ...] = ()
    curve_seconds: tuple[float, ...] = ()
    parts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted bundle on disk and where it comes from."""

    bundle: str  # folder
    digest: str  # sha256 over the bundle's files
    family: str
    params: Params
    rows: int
    trained_from: datetime | None  # times of the first and last training row, if rows have times
    trained_through: datetime | None
    data_digest: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Champion against challenger on rows that neither has seen.

    `gain` is champion loss minus challenger loss per row (positive: the challenger is better) with
    the paired bootstrap interval `low`..`high`.
    """

    passed: bool
    reason: str
    rows: int
    metric: str
    champion: Mapping[str, float]
    challenger: Mapping[str, float]
    gain: float | None
    low: float | None
    high: float | None
    confidence: float
    slices: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """A resolved model version: what a server loads, never an alias."""

    name: str
    version: str
    digest: str
    window_id: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
