"""The decision rules, under a fake clock."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from monitoring.policy import PolicyState, after_retrain, decide, observe, quiet_until
from monitoring.records import Action, Kind, Signal, Signals, Window, to_dict
from monitoring.rules import Rules

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = Rules(maximum_age=None)


def signals(
    day: float,
    *,
    performance=False,
    evidently=False,
    mmd=False,
    latency=False,
    labels=False,
    new_labels=5_000,
    growth=0.5,
    version="1",
    id=None,
) -> Signals:
    end = START + day * DAY
    window = Window(id or f"w{day}", "m", version, end - DAY, end, 1_000, 500)
    quiet = {None: "no rows", True: "", False: ""}
    return Signals(
        window,
        (
            Signal("mmd", Kind.DRIFT, mmd, p_value=0.001, threshold="p <= 0.001", rows=500,
                   reason=quiet[mmd]),
            Signal("evidently", Kind.DRIFT, evidently, value=0.5,
                   threshold="drifted share >= 0.3", reason=quiet[evidently],
                   detail={"drifted": ["visib", "temp"]}),
            Signal("log_loss", Kind.PERFORMANCE, performance, value=0.523, low=0.511, high=0.536,
                   threshold="log_loss worse than at the gate by > 0.03",
                   detail={"worse_by": 0.03, "baseline": 0.451}, reason=quiet[performance]),
            Signal("latency_p95_ms", Kind.LATENCY, latency, value=700.0, low=650.0, high=800.0,
                   threshold="latency_p95_ms > 500", detail={"beyond": "above", "above": 500.0}),
            Signal("labels", Kind.LABELS, labels, value=0.5,
                   reason="no label for 8 days; at most 7 days are allowed" if labels else "",
                   detail={"new_labels": new_labels, "growth": growth}),
        ),
    )  # fmt: skip


class Replay:
    """One window after another through observe and decide, as the watch flow does it."""

    def __init__(self, rules=RULES):
        self.rules, self.state = rules, PolicyState(champion_since=START)

    def check(self, day, retrain=None, **words):
        seen, now = signals(day, **words), START + day * DAY
        self.state = observe(self.state, seen, now, self.rules)
        decision = decide(seen, self.state, now, self.rules)
        if decision.retrain and retrain is not None:
            self.state = after_retrain(self.state, retrain, now)
        return decision


def test_quiet_windows_are_healthy():
    decision = Replay().check(1)
    assert (decision.action, decision.rule) == (Action.KEEP, "healthy")
    assert decision.window_id == "w1"
    assert decision.time == START + DAY
    assert not decision.retrain


def test_a_performance_breach_needs_k_of_n_windows():
    replay = Replay()
    first = replay.check(1, performance=True)
    assert (first.action, first.rule) == (Action.KEEP, "watched")
    assert "performance seen in 1 window so far; 2 are needed" in first.reasons
    assert replay.check(2).rule == "healthy"
    third = replay.check(3, performance=True)
    assert (third.action, third.rule) == (Action.RETRAIN, "performance")
    assert third.reasons[0] == (
        "log_loss 0.523 (0.511 to 0.536) is worse than at the gate (0.451) by more than 0.03"
    )
    assert "performance seen in 2 of the last 3 windows; 2 are needed" in third.reasons


def test_breaches_further_apart_than_the_memory_confirm_nothing():
    replay = Replay()
    for day in range(1, 40, 3):
        assert replay.check(day, performance=True).rule == "watched"
        assert replay.check(day + 1).rule == "healthy"
        assert replay.check(day + 2).rule == "healthy"


def test_a_breach_that_is_over_does_not_act():
    replay = Replay(Rules(maximum_age=None, confirmations=2, memory=3, minimum_new_labels=6_000))
    replay.check(1, performance=True)
    assert replay.check(2, performance=True).rule == "too-few-labels"
    assert replay.check(3).rule == "healthy"


@pytest.mark.parametrize("alone", ["mmd", "evidently"])
def test_drift_that_only_one_sees_is_watched(alone):
    replay = Replay()
    for day in range(1, 10):
        decision = replay.check(day, **{alone: True})
        assert (decision.action, decision.rule) == (Action.KEEP, "watched")
    other = {"mmd": "evidently", "evidently": "mmd"}[alone]
    assert any(reason.startswith(f"{other} does not confirm it") for reason in decision.reasons)


def test_drift_that_both_see_retrains():
    replay = Replay()
    assert replay.check(1, mmd=True, evidently=True).rule == "watched"
    decision = replay.check(2, mmd=True, evidently=True)
    assert (decision.action, decision.rule) == (Action.RETRAIN, "drift")
    assert any("visib, temp" in reason for reason in decision.reasons)


def test_drift_alone_waits_for_the_labels_to_grow():
    replay = Replay()
    replay.check(1, mmd=True, evidently=True)
    decision = replay.check(2, mmd=True, evidently=True, growth=0.02)
    assert (decision.action, decision.rule) == (Action.KEEP, "too-few-labels")
    assert decision.reasons[0] == (
        "would retrain for drift, but the labelled rows have grown by only 2.0% since the "
        "champion's training; 10.0% are needed for drift alone"
    )
    # realised harm needs no growth
    replay = Replay()
    replay.check(1, performance=True)
    assert replay.check(2, performance=True, growth=0.02).rule == "performance"


def test_harm_can_be_made_to_wait_for_rows_worth_learning():
    replay = Replay(replace(RULES, minimum_growth_harm=0.08))
    replay.check(1, performance=True)
    decision = replay.check(2, performance=True, growth=0.05)
    assert (decision.action, decision.rule) == (Action.KEEP, "too-few-labels")
    assert "8.0% are needed for performance alone" in decision.reasons[0]
    assert replay.check(3, performance=True, growth=0.09).rule == "performance"


def test_performance_goes_before_drift_and_age():
    replay = Replay(Rules(maximum_age=DAY))
    words = {"performance": True, "mmd": True, "evidently": True}
    replay.check(1, **words)
    assert replay.check(2, **words).rule == "performance"


def test_an_old_champion_is_retrained():
    replay = Replay(Rules(maximum_age=10 * DAY))
    assert replay.check(10).rule == "healthy"
    decision = replay.check(11)
    assert (decision.action, decision.rule) == (Action.RETRAIN, "age")
    assert decision.reasons[0] == "the champion is 11 days old; at most 10 days are allowed"
    assert replay.check(12, new_labels=10).rule == "too-few-labels"


def test_without_word_of_the_labels_nothing_retrains():
    seen = signals(1, performance=True)
    seen = replace(seen, items=tuple(s for s in seen.items if s.kind is not Kind.LABELS))
    rules = Rules(confirmations=1, memory=1, maximum_age=None)
    state = observe(PolicyState(), seen, START, rules)
    assert decide(seen, state, START, rules).rule == "too-few-labels"


def test_the_cool_down_holds_back_and_says_what():
    replay = Replay()
    replay.check(1, performance=True)
    assert replay.check(2, performance=True, retrain=True).retrain
    replay.check(3, performance=True)
    decision = replay.check(4, performance=True)
    assert (decision.action, decision.rule) == (Action.KEEP, "cooldown")
    assert decision.reasons[0] == (
        "would retrain for performance, but the cool-down lasts until 2024-01-10 00:00 UTC"
    )
    for day in range(5, 9):
        assert replay.check(day, performance=True).rule == "cooldown"
    assert replay.check(9, performance=True).rule == "performance"


def test_every_refusal_doubles_the_cool_down():
    replay = Replay()
    attempts = [
        day for day in range(1, 120) if replay.check(day, performance=True, retrain=False).retrain
    ]
    gaps = [b - a for a, b in pairwise(attempts)]
    assert gaps == [14, 28, 56]
    assert replay.state.refusals == len(attempts)
    assert "after 4 refusals by the gate" in replay.check(120, performance=True).reasons[0]


def test_a_pass_forgets_the_refusals():
    state = after_retrain(PolicyState(refusals=3, champion_since=START), True, START + DAY)
    assert (state.refusals, state.champion_since) == (0, START + DAY)
    refused = after_retrain(PolicyState(champion_since=START), False, START + DAY)
    assert (refused.refusals, refused.champion_since) == (1, START)
    assert refused.last_attempt == START + DAY


def test_the_back_off_never_leaves_the_calendar():
    state = PolicyState(last_attempt=START, refusals=10_000)
    assert quiet_until(state, RULES) < START + timedelta(days=3_651)


def test_one_lasting_shift_retrains_once():
    replay = Replay()
    words = {"mmd": True, "evidently": True}
    acted = [day for day in range(1, 100) if replay.check(day, retrain=True, **words).retrain]
    assert acted == [2]
    assert replay.check(100, **words).rule == "latched"
    assert replay.check(101, **words).action is Action.KEEP


def test_a_lasting_shift_can_be_learnt_again_as_its_rows_add_up():
    replay = Replay(replace(RULES, relearn_growth=0.25))
    words = {"mmd": True, "evidently": True}
    replay.check(1, **words)
    assert replay.check(2, retrain=True, **words).retrain
    replay.check(9, growth=0.2, **words)
    held = replay.check(10, growth=0.2, **words)
    assert held.rule == "latched"
    assert "grown by 25%" in held.reasons[0]
    replay.check(11, growth=0.24, **words)
    assert replay.check(12, retrain=True, growth=0.26, **words).rule == "drift"


def test_a_distinct_shift_retrains_again():
    replay = Replay()
    shift = {"mmd": True, "evidently": True}
    replay.check(1, **shift)
    assert replay.check(2, retrain=True, **shift).retrain
    for day in range(3, 12):
        assert not replay.check(day, **shift).retrain
    replay.check(12)
    for day in (13, 14):  # one quiet window is not enough
        assert not replay.check(day, **shift).retrain
    replay.check(15)
    replay.check(16)
    replay.check(17, **shift)
    assert replay.check(18, **shift).rule == "drift"


def test_windows_that_cannot_speak_clear_no_latch():
    replay = Replay()
    shift = {"mmd": True, "evidently": True}
    replay.check(1, **shift)
    replay.check(2, retrain=True, **shift)
    for day in range(3, 12):
        replay.check(day, mmd=None, evidently=None)
    replay.check(12, **shift)
    assert replay.check(13, **shift).rule == "latched"


def test_clear_after_zero_turns_the_latch_off():
    replay = Replay(Rules(maximum_age=None, clear_after=0))
    shift = {"mmd": True, "evidently": True}
    acted = [day for day in range(1, 30) if replay.check(day, retrain=True, **shift).retrain]
    assert acted == [2, 9, 16, 23]


def test_refused_drift_may_try_again_when_its_back_off_ends():
    replay = Replay()
    shift = {"mmd": True, "evidently": True}
    acted = [day for day in range(1, 60) if replay.check(day, retrain=False, **shift).retrain]
    assert acted == [2, 16, 44]


def test_slow_answers_ask_for_a_faster_model():
    replay = Replay()
    assert replay.check(1, latency=True).rule == "watched"
    decision = replay.check(2, latency=True, new_labels=0)
    assert (decision.action, decision.rule) == (Action.RETUNE, "latency")
    assert decision.reasons[0] == "latency_p95_ms 700 (650 to 800) is above 500"
    assert not decision.retrain  # learning newer rows makes nothing faster


def test_a_retune_keeps_the_cool_down_too():
    replay = Replay()
    replay.check(1, performance=True)
    assert replay.check(2, performance=True, retrain=True).retrain
    replay.check(3, latency=True)
    assert replay.check(4, latency=True).rule == "cooldown"
    assert replay.check(9, latency=True).action is Action.RETUNE


def test_silent_labels_alert_once_per_silence():
    replay = Replay()
    decision = replay.check(1, labels=True)
    assert (decision.action, decision.rule) == (Action.ALERT, "labels-silent")
    assert decision.reasons[0].startswith("no label for 8 days")
    again = replay.check(2, labels=True)
    assert (again.action, again.rule) == (Action.KEEP, "labels-silent")
    replay.check(3)
    assert replay.check(4, labels=True).action is Action.ALERT


def test_an_alert_is_not_lost_where_nothing_else_can_speak():
    decision = Replay().check(1, labels=True, mmd=None, evidently=None, performance=None)
    assert decision.action is Action.ALERT
    assert "mmd cannot say: no rows" in decision.reasons


def test_all_silent_is_too_little_data():
    replay = Replay(Rules(maximum_age=DAY))
    decision = replay.check(50, mmd=None, evidently=None, performance=None)
    assert (decision.action, decision.rule) == (Action.KEEP, "too-little-data")
    assert sum("cannot say: no rows" in reason for reason in decision.reasons) == 3


def test_one_silent_detector_says_so_and_the_others_still_count():
    replay = Replay()
    replay.check(1, performance=True, mmd=None)
    decision = replay.check(2, performance=True, mmd=None)
    assert decision.rule == "performance"
    assert "mmd cannot say: no rows" in decision.reasons


def test_no_signals_at_all_is_too_little_data():
    seen = replace(signals(1), items=())
    state = observe(PolicyState(), seen, START, RULES)
    assert decide(seen, state, START, RULES).rule == "too-little-data"


def test_the_same_window_counts_once():
    replay = Replay()
    for _ in range(5):
        assert replay.check(1, performance=True).rule == "watched"
    assert len(replay.state.seen) == 1


def test_another_champion_starts_the_count_afresh():
    replay = Replay()
    replay.check(1, performance=True)
    decision = replay.check(2, performance=True, version="2")
    assert decision.rule == "watched"
    assert replay.state.champion_since == START + 2 * DAY


def test_deciding_is_pure():
    seen = signals(1, performance=True)
    state = observe(PolicyState(), seen, START, RULES)
    before = json.dumps(state.to_dict())
    assert decide(seen, state, START, RULES) == decide(seen, state, START, RULES)
    assert observe(PolicyState(), seen, START, RULES) == state
    assert json.dumps(state.to_dict()) == before


def test_state_survives_json_at_every_step():
    whole, stored = Replay(), Replay()
    for day in range(1, 60):
        words = {"performance": day % 5 < 2, "mmd": day % 7 < 4, "evidently": day % 7 < 3}
        passed = day % 2 == 0
        expected = whole.check(day, retrain=passed, **words)
        stored.state = PolicyState.from_dict(json.loads(json.dumps(stored.state.to_dict())))
        assert stored.check(day, retrain=passed, **words) == expected
    assert stored.state == whole.state
    assert whole.state.last_attempt is not None


def test_a_decision_is_a_json_record():
    replay = Replay()
    replay.check(1, performance=True)
    record = json.loads(json.dumps(to_dict(replay.check(2, performance=True))))
    assert record["action"] == "retrain"
    assert record["signals"]["items"][2]["detail"]["baseline"] == 0.451


def test_a_year_of_hourly_checks_replays_in_about_a_second():
    replay = Replay(Rules())
    year = [
        signals(hour / 24, performance=hour % 1_500 > 1_450, mmd=hour % 31 == 0)
        for hour in range(24 * 365)
    ]
    acted, started = 0, time.process_time()
    for seen in year:
        now = seen.window.end
        replay.state = observe(replay.state, seen, now, replay.rules)
        decision = decide(seen, replay.state, now, replay.rules)
        if decision.retrain:
            acted += 1
            replay.state = after_retrain(replay.state, acted % 3 > 0, now)
    spent = time.process_time() - started
    assert 6 <= acted <= 12
    assert spent < 1.5  # a fifth of it on an idle machine


@pytest.mark.parametrize(
    ("field", "value"),
    [("confirmations", 0), ("memory", 1), ("refusal_backoff", 0.5), ("drifted_share", 0.0),
     ("drift_p_value", 1.0), ("clear_after", -1), ("cooldown", timedelta(days=-1))],
)  # fmt: skip
def test_rules_that_cannot_be_kept_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} .*, got"):
        Rules(**{field: value})
