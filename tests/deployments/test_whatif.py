"""`everfit whatif`: the recorded checks under other rules, with the loss of what would serve."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from deployments.cli import main
from models.bundle import Predictor
from monitoring.policy import PolicyState, after_retrain, decide, observe
from monitoring.records import Kind, Label, Prediction, Signal, Signals, Window
from tasks import places
from tasks.config import ConfigFault, load, load_rules

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 30


def signals(day: int, version: str) -> Signals:
    end, moved = START + day * DAY, day >= 12
    window = Window(f"tiny-v{version}-{day:02d}", "tiny", version, end - DAY, end, 500, 250)
    return Signals(
        window,
        (
            Signal("mmd", Kind.DRIFT, moved, p_value=1e-5 if moved else 0.5, threshold="p <= 1e-5"),
            Signal("evidently", Kind.DRIFT, moved, value=0.5 if moved else 0.0),
            Signal("log_loss", Kind.PERFORMANCE, False, threshold="x", detail={"fine": True}),
            Signal("labels", Kind.LABELS, False, detail={"new_labels": 900, "growth": 0.5}),
        ),
    )


@pytest.fixture
def config(tiny_config, monkeypatch):
    """30 checks; on the 13th a retrain whose version 2 is right where version 1 is unsure."""
    loaded = load(tiny_config)
    state, version = after_retrain(PolicyState(), True, START - 10 * DAY), "1"
    rng = np.random.default_rng(0)
    with places.telemetry(loaded) as store:
        for day in range(1, DAYS + 1):
            now = START + day * DAY
            seen = signals(day, version)
            state = observe(state, seen, now, loaded.policy)
            decision = decide(seen, state, now, loaded.policy)
            store.save_decision(decision)
            if decision.retrain:
                state, version = after_retrain(state, True, now), "2"
                retrained = decision.window_id
            truth = rng.integers(0, 2, 20)
            sure = 0.9 if version == "2" else 0.6
            store.record(
                Prediction(f"{day}-{i}", now + i * timedelta(minutes=1), version,
                           {"hour": int(t)}, ((1 - sure), sure) if t else (sure, (1 - sure)), 1.0)
                for i, t in enumerate(truth)
            )  # fmt: skip
            store.label(
                Label(f"{day}-{i}", loaded.data.classes[t], now + DAY) for i, t in enumerate(truth)
            )
    outcome = {"window_id": retrained, "version": "2", "passed": True}
    with places.claims(loaded) as book:
        book.claim(retrained, "me", START, model="tiny")
        book.finish(retrained, outcome, START, owner="me")

    def release(version, day):
        at = (START + day * DAY).isoformat()
        return SimpleNamespace(version=version, window_id="", tags={"registered_at": at})

    registry = SimpleNamespace(
        versions=lambda: (release("1", -10), release("2", 13)), download=lambda version, _: version
    )
    monkeypatch.setattr(places, "registry", lambda _: registry)

    def model(version):
        sure = {"1": 0.6, "2": 0.9}[version]

        def predict_proba(columns):
            late = columns["hour"].astype(float)
            return np.column_stack([sure - late * (2 * sure - 1), 1 - sure + late * (2 * sure - 1)])

        return SimpleNamespace(predict_proba=predict_proba)

    monkeypatch.setattr(Predictor, "load", staticmethod(model))
    return tiny_config


def asked(config, rules: str, *words) -> str:
    path = config.parent / "other.yaml"
    path.write_text(rules)
    result = CliRunner().invoke(main, ["whatif", str(config), "--rules", str(path), *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_same_rules_change_nothing(config):
    found = json.loads(asked(config, "confirmations: 2", "--json"))
    assert found["recorded"] == found["other"]
    assert found["own_rules_agree"] == DAYS
    assert (found["differing"], found["rules"]) == ([], {})
    assert found["recorded"]["retrains_by_rule"] == {"drift": 1}
    assert found["loss"]["difference"] == 0.0


def test_rules_that_never_retrain_cost_what_the_retrain_gained(config):
    found = json.loads(asked(config, "rule_set: performance-first", "--json"))
    assert (found["recorded"]["retrains"], found["other"]["retrains"]) == (1, 0)
    loss = found["loss"]
    share = loss["answered_by_another_version"] / loss["rows"]
    assert loss["difference"] == pytest.approx(share * np.log(0.9 / 0.6), rel=1e-6)
    assert 0 < loss["low"] <= loss["difference"] <= loss["high"]
    assert found["rules"] == {"rule_set": {"recorded": "default", "other": "performance-first"}}
    assert found["differing"][0]["other"] == "keep (harmless)"


def test_both_columns_and_what_is_assumed_are_printed(config):
    said = asked(config, "policy: {rule_set: performance-first, cooldown: 3d}")
    assert "retrains                                   1         0" in said
    assert "cooldown: 7d -> 3d" in said
    assert "log loss" in said
    assert "assumed: signals are those measured on the champion that served" in said
    assert f"in {DAYS} of {DAYS} checks" in said


def test_without_rules_the_other_rule_set_is_asked(config):
    result = CliRunner().invoke(main, ["whatif", str(config), "--json", "--no-loss"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == json.loads(
        asked(config, "rule_set: performance-first", "--json", "--no-loss")
    )


def test_without_the_loss_no_row_is_read(config, monkeypatch):
    monkeypatch.setattr("tasks.whatif._loss", lambda *_: 1 / 0)
    said = asked(config, "rule_set: performance-first", "--no-loss")
    assert "log loss" not in said


def test_a_store_without_decisions_says_so(tiny_config):
    path = tiny_config.parent / "other.yaml"
    path.write_text("memory: 4")
    result = CliRunner().invoke(main, ["whatif", str(tiny_config), "--rules", str(path)])
    assert result.exit_code == 1
    assert "everfit watch" in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("confirmation: 2", "policy.confirmation: there is no such key: did you mean"),
        ("policy: {memory: 0}", "memory is at least `confirmations`"),
        ("policy: 3", "policy: write `key: value` lines under it"),
        ("rule_set: fast", "performance-first"),
        ("cooldown: soon", "write it as 7d"),
    ],
)
def test_rules_are_refused_as_in_a_config(tiny_config, text, told):
    path = tiny_config.parent / "other.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFault) as caught:
        load_rules(path, load(tiny_config).policy)
    assert told in str(caught.value)


def test_rules_that_are_not_named_stay_as_in_the_config(tiny_config):
    path = tiny_config.parent / "other.yaml"
    path.write_text("name: a whole config\npolicy:\n  cooldown: 36h\n")
    base = load(tiny_config).policy
    rules = load_rules(path, base)
    assert rules.cooldown == timedelta(hours=36)
    assert rules.minimum_new_labels == base.minimum_new_labels == 50
