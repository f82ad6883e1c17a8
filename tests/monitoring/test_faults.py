"""Which rows a data fault keeps out of later training, and the stretches of time behind it."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.policy import PolicyState, after_retrain, decide, observe
from monitoring.policy_state import after_rollback
from monitoring.records import Action, Kind, Signal, Signals, Window
from monitoring.rules import Rules
from monitoring.spans import joined, without

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RULES = Rules(maximum_age=None)


def window(end, fault, length=DAY):
    items = (
        Signal("mmd", Kind.DRIFT, False, p_value=0.5),
        Signal("types", Kind.SCHEMA, fault, reason="a column is text" if fault else ""),
    )
    name = f"{end:%d-%H}"
    return Signals(Window(name, "m", "1", end - length, end, 500, 100), items)


def watched(words, every=DAY, rules=RULES):
    """The state after windows of a day that end `every` so often, and the last decision."""
    state, decision = PolicyState(champion_since=START), None
    for place, word in enumerate(words, 1):
        now = START + place * every
        seen = window(now, word)
        state = observe(state, seen, now, rules)
        decision = decide(seen, state, now, rules)
    return state, decision


def test_a_day_with_a_fault_is_marked_and_no_other():
    state, _ = watched([False, True, False, None, True])
    assert state.faults == (
        (START + DAY, START + 2 * DAY),
        (START + 4 * DAY, START + 5 * DAY),
    )


def test_of_windows_that_overlap_what_a_sound_one_holds_is_sound():
    state, _ = watched([False] * 30 + [True] * 24 + [False], every=HOUR)
    # the broken hour is in all 24 windows; each of the 23 others is in a sound one, before or after
    assert state.faults == ((START + 30 * HOUR, START + 31 * HOUR),)


def test_the_marks_outlive_a_retrain_and_a_roll_back_and_json():
    state, _ = watched([True, True])
    assert state.faults == ((START, START + 2 * DAY),)
    for after in (after_retrain(state, True, START), after_rollback(state, START)):
        assert after.faults == state.faults
        assert after.sound_until == state.sound_until
    assert PolicyState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert PolicyState.from_dict({}).faults == ()


@pytest.mark.parametrize("learn", [False, True])
def test_a_person_is_told_that_the_rows_are_not_learnt(learn):
    rules = Rules(maximum_age=None, learn_faults=learn)
    _, decision = watched([False, True], rules=rules)
    assert decision.action is Action.ALERT
    assert any("policy.good_days" in said for said in decision.alerts) is not learn


def test_days_are_written_as_a_config_has_them():
    data = Rules(good_days=(date(2024, 3, 1),)).as_data()
    assert json.loads(json.dumps(data["good_days"])) == ["2024-03-01"]


numbers = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


@given(numbers, st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_stretches_hold_what_their_parts_hold(spans, cut):
    def at(pair):
        return START + pair[0] * HOUR, START + pair[1] * HOUR

    def held(parts):
        return {h for h in range(31) for a, b in parts if a <= START + h * HOUR < b}

    low, high = sorted(cut)
    given_spans = [at(span) for span in spans]
    before, whole = held(given_spans), joined(given_spans)
    assert held(whole) == before
    assert all(a[1] < b[0] for a, b in pairwise(whole))
    left = without(whole, at((low, high)))
    assert held(left) == before - set(range(low, high))
