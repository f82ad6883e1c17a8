"""What happens to a model, said to Prefect as events: automations start retrains and tell people.

An event is a hint and never the record: the stores say what happened, and whatever an event was
to start is found there by the next check, or by `reconcile`. So emitting fails no flow.
"""

from __future__ import annotations

import json
import logging
import math
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from tasks import telling

if TYPE_CHECKING:
    from monitoring.records import Decision
    from tasks.config import Config

Name = Literal[
    "everfit.decision.keep",
    "everfit.decision.retrain",
    "everfit.decision.retune",
    "everfit.decision.rollback",
    "everfit.decision.alert",
    "everfit.retrain.again",  # one that was asked for, or broke off: it is asked for once more
    "everfit.promoted",
    "everfit.refused",
    "everfit.rolled_back",
    "everfit.approval.needed",
    "everfit.approved",
    "everfit.rejected",
    "everfit.labels.silent",
    "everfit.watch.late",
    "everfit.disk.low",
    "everfit.alias.moved",
]
NAMES: tuple[str, ...] = get_args(Name)

ASKS = "everfit.asks"  # label of the resource: what is to be started elsewhere
RETRAIN = "retrain"  # its only value

LARGEST = 32_000  # characters of JSON in one payload
_REASONS = 20  # of a decision; `everfit explain` has all of them
_NAMESPACE = uuid.UUID("5f0d1d5e-6f53-5b3c-9f1d-5a1f3f0c7f10")  # ids of events are made within it

log = logging.getLogger(__name__)


def resource_id(model: str) -> str:
    """The model, as automations see it."""
    return f"everfit.model.{model}"


def emit(
    config: Config,
    name: Name,
    payload: Mapping[str, Any],
    *,
    key: str | None = None,
    asks: str | None = None,
) -> bool:
    """Say that `name` happened to the model. Returns whether the event was handed to Prefect.

    `payload` is small, of plain JSON values, where a number that is none, such as NaN, becomes
    null; `model` is added to it, and `message` and `link` for people, who are told here unless an
    automation does it (`tasks.notify`). The same `key` makes the same
    event: one that is sent twice is acted on once. Without a Prefect server there is nobody to
    tell; one that does not answer costs a warning. Raises ValueError for a name that no automation
    can know, or a payload that is none.
    """
    if name not in NAMES:
        raise ValueError(f"an event is one of {', '.join(NAMES)}, got {name!r}: add it there")
    body = {key: _finite(value) for key, value in {"model": config.name, **payload}.items()}
    body |= {"message": telling.sentence(name, body), "link": _link(config, name)}
    size = len(json.dumps(body, allow_nan=False))
    if size > LARGEST:
        raise ValueError(f"a payload is at most {LARGEST} characters of JSON, got {size}: cut it")
    labels = {"prefect.resource.id": resource_id(config.name), "prefect.resource.name": config.name}
    if asks is not None:
        labels[ASKS] = asks
    made = None if key is None else uuid.uuid5(_NAMESPACE, f"{config.name} {name} {asks} {key}")
    handed = False
    try:
        handed = _handed_over(name, labels, body, made)
    except Exception as fault:  # whatever it is, the flow that tells of its work has done it
        log.warning("%s of %s was not told to Prefect: %r", name, config.name, fault)
    if config.notify:
        from tasks import notify

        notify.direct(config, name, body, None if made is None else str(made), handed=handed)
    return handed


def _link(config: Config, name: str) -> str:
    try:
        return telling.link(name, config.name)
    except Exception as fault:  # Prefect's settings may be anybody's
        log.warning("no link for %s: %r", name, fault)
        return ""


def decided(config: Config, decision: Decision, *, asks: bool = False) -> bool:
    """Tell of a decision; with `asks`, the automation of the model starts the retrain."""
    action = decision.action.name.lower()
    payload = {
        "window_id": decision.window_id,
        "attempt": 0,
        "action": decision.action.value,
        "rule": decision.rule,
        "why": "; ".join(decision.reasons)[:2_000],
        "reasons": [reason[:500] for reason in decision.reasons[:_REASONS]],
        "alerts": [alert[:500] for alert in decision.alerts[:_REASONS]],
        "version": decision.signals.window.version,
        "time": decision.time.isoformat(),
    }
    name: Any = f"everfit.decision.{action}"
    return emit(config, name, payload, key=decision.window_id, asks=RETRAIN if asks else None)


def again(config: Config, window_id: str, attempt: int, why: str) -> bool:
    """Ask anew for the retrain of a window whose run was lost or broke off.

    `attempt` counts the tries that the window has had: each asks for one more run and no second.
    """
    payload = {"window_id": window_id, "why": why[:2_000], "attempt": attempt}
    key = f"{window_id}#{attempt}"
    return emit(config, "everfit.retrain.again", payload, key=key, asks=RETRAIN)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _handed_over(
    name: str, labels: dict[str, str], body: dict[str, Any], made: uuid.UUID | None
) -> bool:
    from prefect import runtime
    from prefect.events import emit_event
    from prefect.settings import get_current_settings

    server = get_current_settings().api.url or os.environ.get("PREFECT_API_URL")
    if server is None and runtime.flow_run.get_id() is None:
        return False  # Prefect would start a server of its own, only to hear this
    told = emit_event(name, resource=labels, payload=body, id=made or uuid.uuid4())
    return told is not None
