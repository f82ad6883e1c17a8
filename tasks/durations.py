"""Lengths of time as a config writes them: 90s, 30m, 6h, 7d, 2w."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_RULE = "a duration is a number and one of s, m, h, d, w"
_REMEDY = "write it as 7d"


def _duration(value: Any) -> Any:
    """'90s', '30m', '6h', '7d' or '2w' as a timedelta; ISO 8601 ('P7D') is left for pydantic."""
    if isinstance(value, str) and not value.startswith("P"):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", value)
        if not match:
            raise ValueError(f"{_RULE}: {_REMEDY}")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _write_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    unit = next(u for u in ("d", "h", "m", "s") if seconds % _UNITS[u] == 0 or u == "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


Duration = Annotated[
    timedelta, BeforeValidator(_duration), PlainSerializer(_write_duration, when_used="json")
]


def durations(*names: str) -> BeforeValidator:
    """The same for the keys `names` of a section.

    What is wrong is told at once: the error's context has, per key, its fault.
    """

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        converted, wrong = dict(value), {}
        for name in names:
            try:
                converted[name] = _duration(value[name])
            except KeyError:
                continue
            except ValueError:
                wrong[name] = f"{_RULE}, got {value[name]!r}: {_REMEDY}"
        if wrong:
            said = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
            raise PydanticCustomError("durations", "{said}", {"said": said, "keys": wrong})
        return converted

    return BeforeValidator(convert)


def _stage_durations(value: Any) -> Any:
    """The stages of a roll-out with their durations read, or the word `standard` for its own."""
    if not isinstance(value, dict):
        return value
    if value.get("stages") == "standard":
        from monitoring.rollout import STANDARD

        return {**value, "stages": STANDARD}
    if not isinstance(value.get("stages"), list):
        return value
    stages, wrong = [], {}
    for number, stage in enumerate(value["stages"]):
        converted = dict(stage) if isinstance(stage, dict) else stage
        for name in ("minimum", "maximum"):
            try:
                if isinstance(stage, dict) and name in stage:
                    converted[name] = _duration(stage[name])
            except ValueError:
                wrong[f"stages.{number}.{name}"] = f"{_RULE}, got {stage[name]!r}: write it as 10m"
        stages.append(converted)
    if wrong:
        said = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
        raise PydanticCustomError("durations", "{said}", {"said": said, "keys": wrong})
    return {**value, "stages": stages}


stage_durations = BeforeValidator(_stage_durations)
