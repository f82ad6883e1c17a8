"""What an event says to a person: one clear sentence with the reason, and where to look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tasks.config_notify import WORDS

# Which word of the config an event is told under; what is not here is told to nobody.
TOLD: Mapping[str, str] = {
    "everfit.decision.retrain": "decision",
    "everfit.decision.retune": "decision",
    "everfit.decision.rollback": "decision",
    "everfit.decision.alert": "decision",
    "everfit.promoted": "promoted",
    "everfit.refused": "refused",
    "everfit.rolled_back": "rolled back",
    "everfit.approval.needed": "approval needed",
    "everfit.approved": "approved",
    "everfit.rejected": "rejected",
    "everfit.labels.silent": "no labels",
    "everfit.watch.late": "watch late",
    "everfit.disk.low": "disk low",
    "everfit.alias.moved": "alias moved",
}
assert set(TOLD.values()) == set(WORDS)

_PAGES = {  # of Prefect's artifacts, by the beginning of the event's name
    "everfit.approv": "approval",
    "everfit.rejected": "approval",
    "everfit.decision": "decision",
    "everfit.refused": "verdict",
}
_LONGEST = 1_000  # characters of a sentence


def events_of(words: list[Any]) -> list[str]:
    """The events that are told under these words.

    >>> events_of(["promoted", "no labels"])
    ['everfit.promoted', 'everfit.labels.silent']
    """
    return [event for event, word in TOLD.items() if word in words]


def sentence(name: str, payload: Mapping[str, Any]) -> str:
    """What happened to which model, and why.

    >>> sentence("everfit.promoted", {"model": "churn", "version": "7", "why": "log loss -0.02"})
    'churn: version 7 is the champion now: log loss -0.02'
    """
    said = f"{payload.get('model', '?')}: {_said(name, payload)}"
    return said if len(said) <= _LONGEST else said[: _LONGEST - 4] + " ..."


def _said(name: str, payload: Mapping[str, Any]) -> str:
    """Of conditions and hands, the reason is the sentence."""
    version, why = payload.get("version"), str(payload.get("why") or "no reason was given")
    before = {
        "everfit.promoted": f"version {version} is the champion now",
        "everfit.refused": (
            f"version {version} was refused, the champion stays"
            if version
            else "no challenger was made, the champion stays"
        ),
        "everfit.retrain.again": f"window {payload.get('window_id')} is retrained once more",
    }.get(name, "")
    if name.startswith("everfit.decision."):
        before = f"{payload.get('action')} ({payload.get('rule')})"
    elif name == "everfit.rolled_back":
        restored = payload.get("restored")
        before = (
            f"rolled back, version {restored} is the champion again"
            if restored
            else f"version {version} was withdrawn from its roll-out"
        )
    elif name in ("everfit.approved", "everfit.rejected"):
        forced = ", forced" if payload.get("forced") else ""
        before = f"version {version} was {payload.get('state')} by {payload.get('by')}{forced}"
    elif name == "everfit.approval.needed":
        until, model = str(payload.get("until"))[:16], payload.get("model")
        before = f"version {version} passed its gate and waits for a person until {until}"
        why += f"; `everfit approve {model} {version} --why ...`, or reject it"
    return f"{before}: {why}" if before else why


def link(name: str, model: str) -> str:
    """Where Prefect's page shows it: an artifact, or the flow run that told of it; '' without."""
    from prefect import runtime
    from prefect.settings import get_current_settings

    from tasks.artifacts import key

    settings = get_current_settings()
    api = settings.api.url or os.environ.get("PREFECT_API_URL")
    page = settings.ui_url or (api.rstrip("/").removesuffix("/api") if api else "")
    if not page:
        return ""
    page = page.rstrip("/")
    for begin, artifact in _PAGES.items():
        if name.startswith(begin):
            return f"{page}/artifacts/key/{key(model, artifact)}"
    run = runtime.flow_run.get_id()
    return f"{page}/runs/flow-run/{run}" if run else f"{page}/events"
