"""A retrain that names no window makes good what was lost, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from monitoring.claims import process_owner
from monitoring.records import Action, Decision, Signals, Window
from tasks import places, safety
from tasks.config import load

NOW = datetime(2013, 3, 3, 4, tzinfo=UTC)


def decided(store, window, action, days_ago):
    when = NOW - timedelta(days=days_ago)
    about = Window(window, "tiny", "1", when - timedelta(days=1), when, 100, 90)
    store.save_decision(Decision(window, when, action, "rule", ("why",), Signals(about, ())))


def test_what_was_asked_for_and_never_begun_is_retrained_once(tiny_config):
    config = load(tiny_config)
    with places.telemetry(config) as store:
        decided(store, "old", Action.RETRAIN, 9)
        decided(store, "asked", Action.RETRAIN, 3)
        decided(store, "kept", Action.KEEP, 1)
    window, why = safety.window(config, safety.WEEKLY, NOW, "")
    assert window == "asked"
    assert "never begun" in why
    with places.claims(config) as book:
        book.claim("asked", process_owner(), NOW, model="tiny")
    window, why = safety.window(config, safety.WEEKLY, NOW, "")
    assert window is None
    assert "nothing to make good" in why


def test_a_model_that_nobody_looks_at_is_retrained_once_a_week(tiny_config):
    config = load(tiny_config)
    with places.telemetry(config) as store:
        decided(store, "old", Action.KEEP, 9)
    assert safety.window(config, safety.WEEKLY, NOW, "")[0] == "tiny-weekly-2013-09"
    assert safety.window(config, safety.WEEKLY, NOW + timedelta(hours=1), "")[0] == (
        "tiny-weekly-2013-09"
    )
    assert safety.window(config, "named", NOW, "a reason") == ("named", "a reason")
