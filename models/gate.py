"""The gate: champion against challenger on the newest labelled rows that neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class GateRule:
    """What a challenger must show. `margin` is in the objective's unit, per row."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rows: int = 2_000  # newest labelled rows held back from training
    minimum_rows: int = 200
    confidence: float = 0.95  # one-sided, of the paired bootstrap
    margin: float = 0.0  # the lower bound of the gain must exceed this; negative: non-inferiority
    resamples: int = 2_000
