"""What a check looks at, gathered from the store and the registry, and how the config says to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from tasks import lineage, places, recency
from tasks.probation import probation

if TYPE_CHECKING:
    from models.records import Release
    from monitoring.measure import Evidence, Settings
    from monitoring.policy_state import PolicyState
    from monitoring.records import RequestCount, Signal, Signals, Window
    from monitoring.rules import Metric
    from monitoring.schedule import ErrorBudget
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config

_USUAL = timedelta(days=70)  # of counted requests, to know what is usual
_RECORD = 20  # windows whose estimates are compared with their labels
_LOOKED_AT = 200  # decisions that these are sought among
_ESTIMATED: tuple[Metric, ...] = ("accuracy", "error", "log_loss", "roc_auc")
_REALISED: dict[tuple[str, str], tuple[Signal, ...]] = {}
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


class NoChampion(Exception):
    """Nothing is served, so there is nothing to watch."""


def champion_of(config: Config) -> Release:
    champion = places.registry(config).champion()
    if champion is None:
        raise NoChampion(
            f"{config.name} has no champion to watch: train the first one with `everfit train`"
        )
    return champion


def reference_of(config: Config, champion: Release) -> pd.DataFrame:
    """A sample of the rows that the champion has learnt."""
    frame = _table(config, champion, lineage.REFERENCE)
    if frame is None:
        raise FileNotFoundError(
            f"version {champion.version} of {config.name} has no {lineage.REFERENCE}: retrain once "
            "with `everfit retrain`"
        )
    return frame


def _table(config: Config, champion: Release, name: str) -> pd.DataFrame | None:
    """A table that was registered with the version; None where it was not."""
    path = places.version_file(config, champion, name)
    return None if path is None else pd.read_parquet(path)


def lengths(config: Config) -> tuple[timedelta, ...]:
    """The windows that are tested for drift: the check's own, and the longer ones."""
    own = config.monitor.window
    return own, *sorted({length for length in config.monitor.longer_windows if length > own})


def budget(config: Config) -> ErrorBudget:
    """False alarms of a year, shared evenly between the lengths of window."""
    from monitoring.schedule import ErrorBudget

    every = lengths(config)
    return ErrorBudget(config.monitor.false_alarms, shares=dict.fromkeys(every, 1 / len(every)))


def spent(config: Config, state: PolicyState, signals: Signals, now: datetime) -> dict[str, Any]:
    """The budget's record once this window's drift tests are paid for."""
    from monitoring.measure import lengths_tested
    from monitoring.schedule import Spent

    if config.policy.drift_p_value is not None:  # a fixed level is on nobody's account
        return dict(state.spent)
    before = Spent.from_dict(state.spent)
    due = budget(config).levels(before, now)
    paid = [length for length in lengths_tested(signals) if length in due]
    return budget(config).spend(before, now, paid).to_dict()


def settings(config: Config, now: datetime, made: lineage.Lineage | None = None) -> Settings:
    """How the config says to measure, with what the error budget has left for `now`.

    Columns that the rows of the champion, `made` so, were kept without can't be watched yet.
    """
    from monitoring.measure import Settings
    from monitoring.policy_state import PolicyState
    from monitoring.recordings import not_stored
    from monitoring.schedule import Spent

    monitor = config.monitor
    with places.telemetry(config) as store:
        state = PolicyState.from_dict(store.state(config.name) or {})
        known = any(_sees_drift(decision) for decision in store.decisions(1))
        lacking = {*not_stored(store.recordings(now - max(lengths(config)), now))}
    lacking |= set(made.unstored if made else ())
    return Settings(
        columns={name: kind for name, kind in config.watched.items() if name not in lacking},
        texts=[name for name in config.texts if name not in lacking],
        unstored=[
            name
            for name, kind in config.data.columns.items()
            if kind == "text" and (name in lacking or name not in config.texts)
        ],
        classes=tuple(config.data.classes),
        thresholds=tuple(monitor.thresholds),
        rules=config.policy,
        levels=budget(config).levels(Spent.from_dict(state.spent), now),
        confidence=monitor.confidence,
        minimum_rows=monitor.minimum_rows,
        minimum_labels=monitor.minimum_labels,
        mmd_rows=monitor.mmd_rows,
        block=monitor.block,
        performance_block=monitor.performance_block,
        permutations=monitor.permutations,
        name_words=monitor.name_words,
        seed=config.train.seed,
        label_delay=config.data.label_delay,
        explain="never" if known else "drift",  # drift that goes on was explained when it began
        slices=tuple(monitor.slices),
        slice_thresholds=tuple(monitor.slice_thresholds),
    )


def _sees_drift(decision: Mapping[str, Any]) -> bool:
    """Whether a witness saw drift in the window of a stored decision."""
    items = decision["signals"]["items"]
    return any(s["kind"] == "drift" and s["breached"] for s in items)


def evidence(config: Config, window: Window, now: datetime) -> Evidence:
    """What the store and the registry know about the window and the champion at `now`."""
    from monitoring.measure import Evidence

    champion = champion_of(config)
    made = lineage.read(config, champion)
    matured_to = now - config.data.label_delay
    reference, learnt_to = reference_of(config, champion), made.trained_through or made.made
    with places.telemetry(config) as store:
        return Evidence(
            reference=reference,
            current=_rows(store, window.start, window.end, now),
            matured=_rows(
                store,
                matured_to - config.monitor.performance_window,
                matured_to,
                now,
                champion.version,
            ),
            baseline=made.baseline,
            new_labels=store.new_labels(after=learnt_to, as_of=now),
            trained_rows=made.rows,
            last_label=store.last_label_arrival(as_of=now) or made.made,
            longer={
                length: _rows(store, window.end - length, window.end, now)
                for length in lengths(config)[1:]
            },
            proof=_table(config, champion, lineage.PROOF),
            counts=store.counts_between(window.start, window.end) or None,
            usual_counts=_usual_counts(store, window),
            earlier=_earlier(config, store, matured_to),
            proxies=recency.losses(config, store, reference, learnt_to, now)
            if config.monitor.recency
            else None,
            probation=probation(config, store, champion, made, now),
        )


def _rows(
    store: TelemetryStore, start: datetime, end: datetime, now: datetime, version: str | None = None
) -> pd.DataFrame:
    """Recorded rows, each of which stands for as many answered ones."""
    from monitoring.recordings import evened

    frame = store.rows(start, end, version, as_of=now)
    return evened(frame, store.recordings(start, end))


def _usual_counts(store: TelemetryStore, window: Window) -> tuple[RequestCount, ...]:
    whole_hours = all(
        t.minute == t.second == t.microsecond == 0 for t in (window.start, window.end)
    )
    every = _HOUR if whole_hours else _MINUTE
    return store.counts_between(window.start - _USUAL, window.start, every=every)


def _earlier(
    config: Config, store: TelemetryStore, matured_to: datetime
) -> dict[str, tuple[tuple[Signal, ...], tuple[Signal, ...]]]:
    """Earlier estimates and what the labels said since, of the newest windows without overlap."""
    from monitoring import recorded
    from monitoring.records import Kind

    found: dict[str, tuple[tuple[Signal, ...], tuple[Signal, ...]]] = {}
    free = matured_to  # windows that end before it overlap none that was taken
    for stored in store.decisions(_LOOKED_AT):
        if datetime.fromisoformat(stored["signals"]["window"]["end"]) > free:
            continue
        known = recorded.signals(stored["signals"])
        estimated = tuple(s for s in known.of(Kind.ESTIMATE) if s.breached is not None)
        if not estimated:
            continue
        free = known.window.start
        found[known.window.id] = estimated, _realised(config, store, known.window)
        if len(found) == _RECORD:
            break
    return found


def _realised(config: Config, store: TelemetryStore, window: Window) -> tuple[Signal, ...]:
    """What the labels of a matured window say: figures alone, remembered while the process lives.

    A label that comes later still would change them by as little as it is one of many.
    """
    from monitoring import answers
    from monitoring.performance import performance_signals
    from monitoring.rules import Threshold

    place = (config.store_url, window.id)
    if place not in _REALISED:
        rows = answers.labelled(store, window.start, window.end)
        _REALISED[place] = performance_signals(
            pd.DataFrame({"proba": rows.probabilities, "label": rows.labels}),
            tuple(config.data.classes),
            tuple(Threshold(metric, above=math.inf) for metric in _ESTIMATED),
            {},
            minimum_labels=2,
            resamples=2,  # of the intervals, which nobody asks for
        )
    return _REALISED[place]
