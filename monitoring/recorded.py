"""Stored decisions read back as records, older layouts too: what was not kept has its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from monitoring.records import Action, Decision, Kind, Near, Signal, Signals, Window


def decision(stored: Mapping[str, Any]) -> Decision:
    """The decision that `records.to_dict` wrote, as `TelemetryStore.decision` gives it."""
    return Decision(
        window_id=stored["window_id"],
        time=datetime.fromisoformat(stored["time"]),
        action=Action(stored["action"]),
        rule=stored["rule"],
        reasons=tuple(stored["reasons"]),
        signals=signals(stored["signals"]),
        rule_set=stored.get("rule_set", "default"),
        thresholds=stored.get("thresholds", {}),
        nearly=tuple(Near(n["rule"], n["missing"]) for n in stored.get("nearly", ())),
        alerts=tuple(stored.get("alerts", ())),
    )


def signals(stored: Mapping[str, Any]) -> Signals:
    """The signals inside a stored decision. A signal of a kind that is unknown here is left out."""
    known = {kind.value for kind in Kind}
    return Signals(
        window(stored["window"]),
        tuple(_signal(item) for item in stored["items"] if item["kind"] in known),
        stored.get("report"),
        stored.get("picture"),
        tuple(stored.get("moved", ())),
    )


def window(stored: Mapping[str, Any]) -> Window:
    times = {name: datetime.fromisoformat(stored[name]) for name in ("start", "end")}
    apart = {"not_stored": tuple(stored.get("not_stored", ()))}
    return Window(**{**stored, **times, **apart})


def _signal(stored: Mapping[str, Any]) -> Signal:
    names = {field.name for field in fields(Signal)}
    given = {name: value for name, value in stored.items() if name in names}
    return Signal(**{**given, "kind": Kind(stored["kind"])})
