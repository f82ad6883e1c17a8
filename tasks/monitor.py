"""Measure one window and decide: two tasks, so that a decision can be replayed from its signals."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring.records import Action, Decision, Signals, Window
from tasks import artifacts, lineage, places
from tasks.evidence import champion_of, evidence, settings, spent
from tasks.pictures import drawn
from tasks.steps import step

if TYPE_CHECKING:
    from tasks.config import Config

log = logging.getLogger(__name__)

_TRIES = 5  # at a decision, while others change the policy's state


@step()
def current_window(config: Config, now: datetime) -> Window:
    """The newest window that ends at `now`, answered by the champion."""
    champion = champion_of(config)
    with places.telemetry(config) as store:
        return store.window(
            config.name, champion.version, now - config.monitor.window, now, as_of=now
        )


@step(retries=2, retry_delay_seconds=1)
def measure(config: Config, window: Window, now: datetime) -> Signals:
    """Every detector's word about the window."""
    from monitoring.measure import measure as measured

    made = lineage.read(config, champion_of(config))
    signals = measured(window, evidence(config, window, now), settings(config, now, made), now)
    artifacts.signals_table(config.name, signals)
    return signals


@step()
def decide(config: Config, signals: Signals, now: datetime) -> Decision:
    """Let the rules speak, and keep what they said. A window that was decided stays decided."""
    from monitoring.errors import StateMoved

    made = lineage.read(config, champion_of(config))
    for _ in range(_TRIES - 1):
        try:
            return _decided(config, signals, made, now)
        except StateMoved as moved:  # a retrain ended just now: what it told the policy counts
            log.info("%s, window %s: %s", config.name, signals.window.id, moved)
    return _decided(config, signals, made, now)


def _decided(config: Config, signals: Signals, made: lineage.Lineage, now: datetime) -> Decision:
    from monitoring import policy

    with places.telemetry(config) as store:
        before = store.state(config.name)
        state = policy.PolicyState.from_dict(before or {})
        if state.champion_since is None:
            state = policy.after_retrain(state, True, made.made)
        shown = state.seen[-1].breached.get("drift") if state.seen else None
        state = policy.observe(state, signals, now, config.policy)
        state = replace(state, spent=spent(config, state, signals, now))
        decision = policy.decide(signals, state, now, config.policy)
        sees = state.seen[-1].breached.get("drift")
        fresh_drift = sees and not shown and "drift" not in state.latched
        if decision.action is not Action.KEEP or fresh_drift:
            decision = replace(decision, signals=drawn(config, decision, now))
        fresh = store.save_decision(decision, state.to_dict(), before=before)
    for sentence in decision.alerts if fresh else ():
        log.warning("%s, window %s: %s", config.name, decision.window_id, sentence)
    artifacts.decision_markdown(config.name, decision)
    return decision


def decided(config: Config, window: Window) -> Decision | None:
    """The decision already made on this window, if any."""
    return recorded(config, window.id)


def recorded(config: Config, window_id: str) -> Decision | None:
    """The decision of that id, if any."""
    from monitoring import recorded

    with places.telemetry(config) as store:
        known = store.decision(window_id)
    return None if known is None else recorded.decision(known)
