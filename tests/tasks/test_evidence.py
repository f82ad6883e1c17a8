"""What a check gathers, and what the error budget lets it spend."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from monitoring.policy import PolicyState, after_retrain
from monitoring.records import (
    Action,
    Decision,
    Kind,
    Label,
    Prediction,
    Signal,
    Signals,
    Window,
)
from monitoring.schedule import Spent
from tasks import evidence, places
from tasks.config import ConfigFault, load

NOW = datetime(2024, 1, 1, 6, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)


@pytest.fixture
def config(tiny_config):
    return load(tiny_config)


def spoken(*lengths: timedelta, spoke: bool = True) -> Signals:
    window = Window("w", "tiny", "1", NOW - DAY, NOW, 500, 0)
    return Signals(
        window,
        tuple(
            Signal(
                "mmd" if length == DAY else "mmd@7d",
                Kind.DRIFT,
                False if spoke else None,
                detail={"window_seconds": length.total_seconds()},
            )
            for length in lengths
        ),
    )


def year(config, every: timedelta, checks: int) -> Spent:
    """A year of checks, each of which tests whatever is due."""
    state, now = PolicyState(), NOW
    for number in range(checks):
        now = NOW + number * every
        due = evidence.budget(config).levels(Spent.from_dict(state.spent), now)
        paid = evidence.spent(config, state, spoken(*due), now)
        state = replace(state, spent=paid)
        if number % 50 == 0:
            state = after_retrain(state, True, now)
    return Spent.from_dict(state.spent)


@pytest.mark.parametrize("hours", [6, 24, 24 * 7])
def test_a_year_of_checks_spends_no_more_than_the_bound(config, hours):
    every = timedelta(hours=hours)
    spent = year(config, every, int(timedelta(days=365) / every))
    assert spent.total <= config.monitor.false_alarms
    assert spent.total > 0.1 * config.monitor.false_alarms  # and it is not left lying about


def test_both_lengths_are_due_at_first_and_an_hour_later_neither(config):
    assert evidence.lengths(config) == (DAY, WEEK)
    first = evidence.settings(config, NOW)
    assert set(first.levels) == {DAY, WEEK}
    assert all(0 < level < 1e-4 for level in first.levels.values())
    with places.telemetry(config) as store:
        paid = evidence.spent(config, PolicyState(), spoken(DAY, WEEK), NOW)
        store.save_state("tiny", PolicyState(spent=paid).to_dict())
    assert evidence.settings(config, NOW + timedelta(hours=1)).levels == {}
    assert set(evidence.settings(config, NOW + timedelta(hours=4)).levels) == {DAY}
    assert set(evidence.settings(config, NOW + DAY).levels) == {DAY, WEEK}


def test_columns_that_the_champion_s_rows_were_kept_without_are_not_watched_yet(config):
    made = SimpleNamespace(unstored=("wind",))
    assert "wind" in evidence.settings(config, NOW).columns
    assert "wind" not in evidence.settings(config, NOW, made).columns


def test_a_test_that_could_not_speak_costs_nothing(config):
    paid = evidence.spent(config, PolicyState(), spoken(DAY, WEEK, spoke=False), NOW)
    assert Spent.from_dict(paid).total == 0.0


def test_a_fixed_level_is_on_nobodys_account(tiny_config):
    config = load(tiny_config, policy__drift_p_value=0.005)
    assert evidence.spent(config, PolicyState(), spoken(DAY), NOW) == {}


def test_windows_that_are_no_longer_are_not_tested_twice(tiny_config):
    config = load(tiny_config, monitor__window="7d", monitor__longer_windows=["1d", "7d"])
    assert evidence.lengths(config) == (WEEK,)
    assert sum(evidence.budget(config).shares.values()) == 1


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("monitor__longer_windows", ["0s"], "a stretch of time is longer than nothing"),
        ("monitor__false_alarms", 1.5, "choose a value in this range"),
        ("monitor__slices", ["nobody"], "slices are columns of data.columns, got nobody"),
        ("policy__rule_set", "performance_first", "performance-first"),
        ("policy__retrains_a_week", 0, "retrains_a_week is at least 1 or null"),
        ("policy__confirmations_estimated", 9, "confirmations_estimated is at least 1 and at most"),
        ("policy__missing_flood", 2.0, "missing_flood lies in"),
    ],
)
def test_values_that_make_no_sense_are_refused(tiny_config, key, value, told):
    with pytest.raises(ConfigFault, match=told):
        load(tiny_config, **{key: value})


def test_without_a_champion_there_is_nothing_to_watch(config):
    with pytest.raises(evidence.NoChampion, match="everfit train"):
        evidence.champion_of(config)


def test_earlier_estimates_are_held_against_labels_that_are_due(config):
    """Of daily checks of a 2-day window every second one counts, and none that is not mature."""
    with places.telemetry(config) as store:
        for day in range(8):
            end = NOW + day * DAY
            window = Window(f"w{day}", "tiny", "1", end - 2 * DAY, end, 20, 0)
            said = Signal("estimated_accuracy", Kind.ESTIMATE, False, value=0.9, rows=20)
            store.save_decision(
                Decision(window.id, end, Action.KEEP, "healthy", (), Signals(window, (said,)))
            )
            rows = [f"{day}-{i}" for i in range(10)]
            store.record(
                Prediction(id, end - DAY / 2, "1", {"hour": 7}, (0.8, 0.2), 1.0) for id in rows
            )
            store.label(Label(id, "on time" if i else "late", end) for i, id in enumerate(rows))
        found = evidence._earlier(config, store, NOW + 6 * DAY)
    assert list(found) == ["w6", "w4", "w2", "w0"]
    realised = {s.name: s for s in found["w4"][1]}
    assert realised["accuracy"].value == pytest.approx(0.9)
    assert realised["accuracy"].rows == 20
