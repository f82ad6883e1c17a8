"""The error budget: the sum of levels never exceeds it, whenever and however often it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.errors import WindowFault
from monitoring.schedule import DAY, HOUR, WEEK, YEAR, ErrorBudget, Spent

START = datetime(2026, 1, 1, tzinfo=UTC)
ZERO = timedelta(0)

# minutes between two checks: seconds, the usual hour, nights, and weeks of downtime
gaps = st.one_of(
    st.floats(0.01, 5), st.just(60.0), st.floats(60, 2_000), st.floats(10_000, 100_000)
).map(lambda minutes: timedelta(minutes=minutes))
budgets = st.builds(
    ErrorBudget,
    probability=st.floats(1e-4, 0.5),
    horizon=st.sampled_from([DAY, WEEK, YEAR]),
    shares=st.sampled_from(
        [{HOUR: 1.0}, {HOUR: 0.2, DAY: 0.3, WEEK: 0.5}, {DAY: 0.5, timedelta(days=30): 0.4}]
    ),
    fresh=st.floats(0.01, 1),
    most=st.sampled_from([ZERO, HOUR, DAY, WEEK]),
)


def played(budget: ErrorBudget, times, skip=lambda i, length: False):
    """(time, level) of every test, and the last state."""
    state, tests = Spent(), []
    for i, now in enumerate(times):
        due = budget.levels(state, now)
        lengths = [length for length in due if not skip(i, length)]
        tests += [(now, due[length]) for length in lengths]
        state = budget.spend(state, now, lengths)
    return tests, state


@settings(deadline=None, max_examples=150)
@given(budgets, st.lists(gaps, min_size=1, max_size=120), st.integers(0, 5))
def test_no_stretch_of_the_horizon_spends_more_than_the_budget(budget, between, mute):
    times = [START]
    for gap in between:
        times.append(times[-1] + gap)
    tests, state = played(budget, times, lambda i, length: mute and (i + len(str(length))) % mute)
    for first, _ in tests:
        spent = sum(level for time, level in tests if first <= time <= first + budget.horizon)
        assert spent <= budget.probability * (1 + 1e-9)
    assert all(level > 0 for _, level in tests)
    assert state.total == pytest.approx(sum(level for _, level in tests))


@pytest.mark.parametrize(("minutes", "lengths"), [(60, 1), (60, 3), (7, 3), (1440, 3)])
def test_a_regular_year_spends_nearly_all_of_it(minutes, lengths):
    shares = dict.fromkeys([HOUR, DAY, WEEK][:lengths], 1 / lengths)
    budget = ErrorBudget(shares=shares)
    every = timedelta(minutes=minutes)
    tests, _ = played(budget, [START + i * every for i in range(int(YEAR / every))])
    assert 0.98 * budget.probability < sum(level for _, level in tests) <= budget.probability


def test_an_hourly_check_of_one_length_is_the_bonferroni_correction():
    budget = ErrorBudget(0.05, shares={HOUR: 1.0})
    state = budget.spend(Spent(), START)
    assert budget.levels(state, START + HOUR)[HOUR] == pytest.approx(0.05 / 8_760, rel=0.01)


def test_a_length_tested_a_moment_ago_is_not_due():
    budget = ErrorBudget()
    state = budget.spend(Spent(), START)
    assert budget.levels(state, START + timedelta(minutes=5)) == {}
    assert list(budget.levels(state, START + HOUR)) == [HOUR]
    assert list(budget.levels(state, START + 3 * HOUR)) == [HOUR, DAY]
    assert list(budget.levels(state, START + DAY)) == [HOUR, DAY, WEEK]
    assert budget.levels(state, START - DAY) == {}  # a clock that was set back


def test_downtime_is_paid_for_at_most_a_day_or_the_window():
    budget = ErrorBudget()
    state = budget.spend(Spent(), START)
    day, month = (budget.levels(state, START + k * DAY) for k in (1, 30))
    assert month[HOUR] == day[HOUR]
    assert month[DAY] == day[DAY]
    assert month[WEEK] == pytest.approx(7 * day[WEEK])


def test_a_length_that_could_not_be_tested_keeps_what_it_has():
    budget = ErrorBudget()
    state = budget.spend(Spent(), START)
    later = budget.spend(state, START + HOUR, [])
    assert later == state
    twice = budget.levels(later, START + 2 * HOUR)[HOUR]
    assert twice == pytest.approx(2 * budget.levels(state, START + HOUR)[HOUR])


def test_only_what_is_due_is_spent():
    budget = ErrorBudget()
    state = budget.spend(Spent(), START)
    with pytest.raises(WindowFault, match="test what `levels` names"):
        budget.spend(state, START + HOUR, [WEEK])
    with pytest.raises(WindowFault, match="due"):
        budget.spend(Spent(), START, [timedelta(hours=2)])


def test_the_state_goes_through_json():
    budget = ErrorBudget()
    _, state = played(budget, [START + i * HOUR for i in range(30)])
    again = Spent.from_dict(json.loads(json.dumps(state.to_dict())))
    assert again == state
    assert Spent.from_dict({}) == Spent()
    now = (START + 31 * HOUR).astimezone(timezone(timedelta(hours=5)))
    assert budget.levels(again, now) == budget.levels(state, START + 31 * HOUR)


@pytest.mark.parametrize(
    "wrong",
    [
        {"probability": 0.0},
        {"probability": 1.0},
        {"horizon": ZERO},
        {"shares": {}},
        {"shares": {HOUR: 0.7, DAY: 0.4}},
        {"shares": {HOUR: 0.0}},
        {"shares": {ZERO: 1.0}},
        {"fresh": 0.0},
        {"most": -HOUR},
    ],
)
def test_a_budget_that_promises_nothing_is_refused(wrong):
    with pytest.raises(WindowFault, match=next(iter(wrong))):
        ErrorBudget(**wrong)
    with pytest.raises(WindowFault):
        replace(ErrorBudget(), **wrong)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(WindowFault, match="zone"):
        ErrorBudget().levels(Spent(), datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
