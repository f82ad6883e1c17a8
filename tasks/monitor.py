"""Measure one window and decide: two tasks, so that a decision can be replayed from its signals."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from monitoring.records import Action, Decision, Signals, Window
from tasks import artifacts, lineage, places

if TYPE_CHECKING:
    from models.records import Release
    from monitoring.measure import Evidence, Settings
    from tasks.config import Config


class NoChampion(Exception):
    """Nothing is served, so there is nothing to watch."""


@task(cache_policy=NO_CACHE)
def current_window(config: Config, now: datetime) -> Window:
    """The newest window that ends at `now`, answered by the champion."""
    champion = _champion(config)
    with places.telemetry(config) as store:
        return store.window(
            config.name, champion.version, now - config.monitor.window, now, as_of=now
        )


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=1)
def measure(config: Config, window: Window, now: datetime) -> Signals:
    """Every detector's word about the window."""
    from monitoring.measure import measure as measured

    signals = measured(window, evidence(config, window, now), settings(config), now)
    artifacts.signals_table(config.name, signals)
    return signals


def settings(config: Config) -> Settings:
    """How the config says to measure."""
    from monitoring.measure import Settings

    monitor = config.monitor
    return Settings(
        columns=dict(config.data.columns),
        classes=tuple(config.data.classes),
        thresholds=tuple(monitor.thresholds),
        rules=config.policy,
        confidence=monitor.confidence,
        minimum_rows=monitor.minimum_rows,
        minimum_labels=monitor.minimum_labels,
        mmd_rows=monitor.mmd_rows,
        permutations=monitor.permutations,
        seed=config.train.seed,
    )


def evidence(config: Config, window: Window, now: datetime) -> Evidence:
    """What the store and the registry know about the window and the champion at `now`."""
    from monitoring.measure import Evidence

    champion = _champion(config)
    made = lineage.read(config, champion)
    matured_to = now - config.data.label_delay
    with places.telemetry(config) as store:
        return Evidence(
            reference=_reference(config, champion),
            current=store.rows(window.start, window.end, as_of=now),
            matured=store.rows(
                matured_to - config.monitor.performance_window,
                matured_to,
                as_of=now,
                version=champion.version,
            ),
            baseline=made.baseline,
            new_labels=store.new_labels(after=made.trained_through or made.made, as_of=now),
            trained_rows=made.rows,
            last_label=store.last_label_arrival(as_of=now) or made.made,
        )


@task(cache_policy=NO_CACHE)
def decide(config: Config, signals: Signals, now: datetime) -> Decision:
    """Let the rules speak, and keep what they said. A window that was decided stays decided."""
    from monitoring import policy

    made = lineage.read(config, _champion(config))
    with places.telemetry(config) as store:
        state = policy.PolicyState.from_dict(store.state(config.name) or {})
        if state.champion_since is None:
            state = policy.after_retrain(state, True, made.made)
        before = state.seen[-1].breached.get("drift") if state.seen else None
        state = policy.observe(state, signals, now, config.policy)
        decision = policy.decide(signals, state, now, config.policy)
        sees = state.seen[-1].breached.get("drift")
        fresh_drift = sees and not before and "drift" not in state.latched
        if decision.action is not Action.KEEP or fresh_drift:
            drawn = replace(signals, report=_draw(config, decision, now))
            decision = replace(decision, signals=drawn)
        if store.save_decision(decision):
            store.save_state(config.name, state.to_dict())
    artifacts.decision_markdown(config.name, decision)
    return decision


def _draw(config: Config, decision: Decision, now: datetime) -> str | None:
    """Evidently's page on the window, for whoever asks why; None when it could not be drawn."""
    from monitoring.reports import WorkspaceRun, drift_report

    window = decision.signals.window
    path = places.report_path(config, window.id)
    with places.telemetry(config) as store:
        current = store.rows(window.start, window.end, as_of=now)
    drift_report(
        _reference(config, _champion(config)),
        current,
        dict(config.data.columns),
        share=config.policy.drifted_share,
        html=path,
        run=WorkspaceRun(
            places.reports_workspace(config), config.name, window.id, window.end, decision.action
        ),
        minimum_rows=config.monitor.minimum_rows,
        always_html=True,
    )
    return str(path) if path.exists() else None


def decided(config: Config, window: Window) -> Decision | None:
    """The decision already made on this window, if any; its evidence stays in the store."""
    with places.telemetry(config) as store:
        known = store.decision(window.id)
    if known is None:
        return None
    return Decision(
        window_id=window.id,
        time=datetime.fromisoformat(known["time"]),
        action=Action(known["action"]),
        rule=known["rule"],
        reasons=tuple(known["reasons"]),
        signals=Signals(window, ()),
    )


def _champion(config: Config) -> Release:
    champion = places.registry(config).champion()
    if champion is None:
        raise NoChampion(
            f"{config.name} has no champion to watch: train the first one with `everfit train`"
        )
    return champion


def _reference(config: Config, champion: Release) -> pd.DataFrame:
    path = places.registry(config).fetch_file(
        champion.version, lineage.REFERENCE, places.champion_folder(config)
    )
    if path is None:
        raise FileNotFoundError(
            f"version {champion.version} of {config.name} has no {lineage.REFERENCE}: retrain once "
            "with `everfit retrain`"
        )
    return pd.read_parquet(path)
