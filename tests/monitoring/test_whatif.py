"""A recorded year replayed under the same rules, and under others."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from monitoring.policy import PolicyState, after_retrain, decide, observe
from monitoring.records import Action, Kind, Signal, Signals, Window
from monitoring.rules import Rules
from monitoring.whatif import Trained, counted, differing, recorded, rejudged, replay, spans

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = Rules(drift_p_value=0.001)


def signals(hour: float, version: str) -> Signals:
    """A world that shifts every 50 days, does harm for some days of it, and once goes silent."""
    end, day = START + timedelta(hours=hour), hour / 24
    shifted, silent = day % 50 < 12, 200 < day < 203
    window = Window(f"w{hour:g}", "m", version, end - DAY, end, 1_000, 500)
    p_value, share = (1e-4, 0.45) if shifted else (0.02 if day % 9 < 1 else 0.4, 0.1)
    return Signals(
        window,
        (
            Signal("mmd", Kind.DRIFT, None if silent else p_value <= 0.001, p_value=p_value,
                   threshold="p <= 0.001", reason="no rows" if silent else ""),
            Signal("evidently", Kind.DRIFT, None if silent else share >= 0.3, value=share,
                   threshold="drifted share >= 0.3", reason="no rows" if silent else "",
                   detail={"effect": share / 2}),
            Signal("log_loss", Kind.PERFORMANCE, None if silent else 5 < day % 100 < 9, value=0.5,
                   threshold="log_loss > 0.47", reason="no rows" if silent else "",
                   detail={"fine": not 5 < day % 100 < 9}),
            Signal("labels", Kind.LABELS, False,
                   detail={"new_labels": 5_000, "growth": 0.5, "silent_for_seconds": 2 * 86_400}),
        ),
    )  # fmt: skip


def year(rules: Rules, hours=range(24, 24 * 365, 24)):
    """(decisions, outcomes, versions) as the watch flow would have recorded them."""
    state, version = after_retrain(PolicyState(), True, START), 1
    decisions, outcomes, versions = [], {}, [Trained("1", START, "first")]
    for hour in hours:
        now = START + timedelta(hours=hour)
        seen = signals(hour, str(version))
        state = observe(state, seen, now, rules)
        decision = decide(seen, state, now, rules)
        decisions.append(decision)
        if decision.retrain:
            made = str(len(versions) + 1)
            passed = len(versions) % 3 > 0
            versions.append(Trained(made, now, decision.window_id))
            outcomes[decision.window_id] = {"version": made, "passed": passed}
            state = after_retrain(state, passed, now)
            version = int(made) if passed else version
    return decisions, outcomes, versions


def test_the_same_rules_decide_the_same():
    decisions, outcomes, versions = year(RULES)
    again = replay(decisions, RULES, outcomes=outcomes, versions=versions)
    was = recorded(decisions, outcomes)
    assert again == was
    assert counted(was)["retrains"] >= 5
    assert counted(was)["refused"] >= 1
    assert differing(RULES, RULES) == {}


def test_other_rules_decide_otherwise_and_the_record_stays():
    decisions, outcomes, versions = year(RULES)
    before = [d.action for d in decisions]
    others = {
        "eager": replace(RULES, confirmations=1, cooldown=DAY, refusal_backoff=1),
        "idle": replace(RULES, confirmations=3, maximum_age=None, drifted_share=0.9),
        "first": replace(RULES, rule_set="performance-first"),
    }
    counts = {
        name: counted(replay(decisions, rules, outcomes=outcomes, versions=versions))
        for name, rules in others.items()
    }
    mine = counted(recorded(decisions, outcomes))
    assert counts["eager"]["retrains"] > mine["retrains"]
    assert set(counts["idle"]["retrains_by_rule"]) <= {"performance"}
    assert counts["idle"]["drift_alarms"] == 0 < mine["drift_alarms"]
    by_rule = counts["first"]["retrains_by_rule"]
    assert by_rule.get("drift", 0) < mine["retrains_by_rule"]["drift"]
    assert [d.action for d in decisions] == before


@pytest.mark.parametrize("level", [0.05, 1e-6])
def test_a_fixed_level_is_held_against_the_recorded_p_values(level):
    seen = rejudged(signals(24 * 9, "1"), replace(RULES, drift_p_value=level), "7")
    mmd = next(s for s in seen.items if s.name == "mmd")
    assert mmd.breached == (level > 1e-4)
    assert mmd.threshold == f"p <= {level:g}"
    assert seen.window.version == "7"
    assert rejudged(seen, replace(RULES, drift_p_value=None), "7").items[0] == mmd


def test_what_could_not_speak_stays_silent():
    seen = rejudged(signals(24 * 201, "1"), replace(RULES, drifted_share=0.01), "1")
    assert [s.breached for s in seen.items[:3]] == [None, None, None]


def test_a_shorter_silence_of_labels_alerts_in_the_replay():
    decisions, outcomes, versions = year(RULES)
    strict = replace(RULES, label_silence=DAY)
    steps = replay(decisions, strict, outcomes=outcomes, versions=versions)
    assert [s.action for s in steps].count(Action.ALERT) == 1  # once, while it lasts
    assert not [s for s in recorded(decisions, outcomes) if s.action is Action.ALERT]


def test_a_retrain_that_was_never_made_gives_the_newest_version_trained_by_then():
    decisions, outcomes, versions = year(RULES)
    eager = replace(RULES, confirmations=1, cooldown=DAY, refusal_backoff=1)
    steps = replay(decisions, eager, outcomes=outcomes, versions=versions)
    made = {v.version: v.made for v in versions}
    assert all(made[s.version] <= s.time for s in steps)
    ranges = spans(steps)
    assert ranges[0][0] == steps[0].time
    assert ranges[-1][1] == steps[-1].time
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(ranges))


def test_nothing_recorded_is_nothing_replayed():
    assert replay([], RULES, outcomes={}) == recorded([], {}) == spans([]) == []


def test_a_year_of_hourly_checks_replays_in_seconds():
    decisions, outcomes, versions = year(RULES, range(24, 24 * 365))
    started = time.process_time()
    steps = replay(decisions, RULES, outcomes=outcomes, versions=versions)
    assert time.process_time() - started < 6  # about 1.5 s on an idle machine
    assert steps == recorded(decisions, outcomes)
