"""A new champion on probation, and the roll-back that its failure leads to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.errors import WindowFault
from monitoring.policy import PolicyState, after_rollback, decide, observe, quiet_until
from monitoring.probation import Probation, mean_difference, probation_signal
from monitoring.records import Action, Kind, Signal, Signals, Window
from monitoring.rules import Rules
from monitoring.whatif import recorded, replay

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CLASSES = ("no", "yes")
RULES = Rules(maximum_age=None)


def rows(worse, *, count=600, seed=0, noise=0.6, previous=True):
    """What the champion said, off by `worse` in its logits, and what the one before it says."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count)
    label = rng.random(count) < 1 / (1 + np.exp(-truth))
    frame = pd.DataFrame(
        {
            "label": np.where(label, "yes", "no"),
            "time": pd.to_datetime(START) + pd.to_timedelta(np.arange(count) * 20, unit="min"),
        }
    )

    def said(off):
        p = 1 / (1 + np.exp(-(truth + rng.normal(scale=noise, size=count) + off)))
        return [[1 - q, q] for q in p]

    frame["proba"] = said(worse)
    if previous:
        frame["proba_previous"] = said(0.0)
    return frame


def on_probation(frame, **more):
    return Probation(START, "1", frame, **more)


@pytest.mark.parametrize("loss", ["log_loss", "error"])
def test_a_champion_that_is_certainly_worse_breaches(loss):
    found = probation_signal(on_probation(rows(4.0), loss=loss), CLASSES)
    assert found.breached is True
    assert found.low > 0
    assert found.detail["paired"] is True
    assert "version 1" in found.reason
    assert "the same 600 rows" in found.reason
    better = rows(4.0).rename(columns={"proba": "proba_previous", "proba_previous": "proba"})
    turned = probation_signal(on_probation(better, loss=loss), CLASSES)
    assert turned.breached is False
    assert turned.value == pytest.approx(-found.value)


def test_equally_good_champions_are_rarely_called_worse():
    """1 - confidence is shared by both sides: 5 % at 0.9, of 400 pairs within five errors."""
    called = [
        probation_signal(on_probation(rows(0.0, seed=i, count=300)), CLASSES, confidence=0.9)
        for i in range(400)
    ]
    share = np.mean([s.breached for s in called])
    assert 0.05 - 5 * 0.011 < share < 0.05 + 5 * 0.011


def test_rows_of_a_block_count_together():
    """One bad day is no bad champion."""
    frame = rows(0.0, count=720)
    day = slice(144, 216)
    frame.loc[frame.index[day], "proba"] = pd.Series(
        [[p[1], p[0]] for p in frame["proba"].iloc[day]], index=frame.index[day]
    )
    single = probation_signal(on_probation(frame), CLASSES)
    blocked = probation_signal(on_probation(frame, block=DAY), CLASSES)
    assert blocked.value == pytest.approx(single.value)
    assert blocked.low < single.low
    assert blocked.breached is False
    alone = probation_signal(on_probation(frame, block=60 * DAY), CLASSES)
    assert alone.breached is None
    assert "one block" in alone.reason


def test_days_that_suit_one_of_two_equal_champions_are_no_proof():
    """By rows a third of such pairs would be called worse, by days next to none."""
    rng = np.random.default_rng(5)
    called = {None: 0, DAY: 0}
    for seed in range(60):
        frame = rows(0.0, count=360, seed=seed, noise=0.1)
        for name in ("proba", "proba_previous"):
            p = np.array(frame[name].tolist())[:, 1]
            off = np.repeat(rng.normal(scale=1.5, size=5), 72)
            p = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + off)))
            frame[name] = [[1 - q, q] for q in p]
        for block in called:
            found = probation_signal(on_probation(frame, block=block), CLASSES)
            called[block] += bool(found.breached)
    assert called[None] >= 10
    assert called[DAY] <= 3


def test_without_the_previous_model_its_figure_at_the_gate_stands_in():
    proof = rows(0.0, seed=9, previous=False)
    known = {"gate": 0.66, "fault": "it could not be scored: its files are gone"}
    worse = probation_signal(on_probation(rows(3.0, previous=False), **known), CLASSES, proof=proof)
    assert worse.breached is True
    assert worse.detail["paired"] is False
    assert "files are gone" in worse.reason
    alike = probation_signal(on_probation(rows(0.0, previous=False), **known), CLASSES, proof=proof)
    assert alike.breached is False
    assert alike.high - alike.low > worse.value * 0.1
    nothing = probation_signal(on_probation(rows(3.0, previous=False)), CLASSES, proof=proof)
    assert nothing.breached is None
    assert "no figure" in nothing.reason


@pytest.mark.parametrize("count", [0, 1, 150])
def test_too_few_labels_say_nothing(count):
    found = probation_signal(on_probation(rows(3.0, count=max(count, 1)).iloc[:count]), CLASSES)
    assert found.breached is None
    assert f"{count} labelled rows" in found.reason


def test_rows_that_cannot_be_read_are_left_out():
    frame = rows(2.5)
    frame.loc[3, "label"] = "maybe"
    frame.at[4, "proba"] = None
    frame.at[5, "proba_previous"] = [np.nan, np.nan]
    found = probation_signal(on_probation(frame), CLASSES)
    assert found.rows == 597
    assert found.breached is True


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(-5, 5))
def test_the_mean_moves_with_its_values_and_not_with_their_order(seed, shift):
    values = np.random.default_rng(seed).normal(size=40)
    groups = np.arange(40) // 7
    plain = mean_difference(values, 0.95, groups)
    moved = mean_difference(values + shift, 0.95, groups)
    assert np.allclose(np.array(moved) - shift, plain)
    turned = mean_difference(-values[::-1], 0.95, groups[::-1])
    assert np.allclose([-turned.value, -turned.high, -turned.low], plain)


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [[1.0], [2.0]]])
def test_a_mean_needs_values(values):
    with pytest.raises(WindowFault, match="two finite values"):
        mean_difference(values, 0.95)


# The decision


def window(day, *, worse=None, paired=True, version="2", schema=False, drift=False, since=0):
    end = START + day * DAY
    items = [
        Signal("mmd", Kind.DRIFT, drift, p_value=0.5, rows=500),
        Signal("evidently", Kind.DRIFT, drift, value=0.5 * drift, detail={"effect": 0.5}),
        Signal("log_loss", Kind.PERFORMANCE, False, value=0.5),
        Signal("types", Kind.SCHEMA, schema, reason="a column is text" if schema else ""),
        Signal("labels", Kind.LABELS, False, detail={"new_labels": 5_000, "growth": 0.5}),
    ]
    if worse is not None:
        since = START + since * DAY
        detail = {"previous": "1", "paired": paired, "since": since.isoformat(),
                  "through": end.isoformat()}  # fmt: skip
        said = {"value": 0.04, "low": 0.01, "high": 0.07, "detail": detail}
        reason = "the log loss is above by 0.04"
        items.append(Signal("against_previous", Kind.PROBATION, worse, reason=reason, **said))
    return Signals(Window(f"w{day}", "m", version, end - DAY, end, 900, 400), tuple(items))


class Watch:
    def __init__(self, rules=RULES):
        self.rules, self.decisions = rules, []
        self.state = PolicyState(champion_since=START, last_attempt=START)

    def check(self, day, **words):
        seen, now = window(day, **words), START + day * DAY
        self.state = observe(self.state, seen, now, self.rules)
        self.decisions.append(decide(seen, self.state, now, self.rules))
        return self.decisions[-1]


def test_a_worse_champion_is_rolled_back_within_its_cool_down():
    watch = Watch()
    first = watch.check(1, worse=True)
    assert (first.action, first.rule) == (Action.KEEP, "watched")
    assert any(str(near) == "probation: 1 of 2 confirmations" for near in first.nearly)
    second = watch.check(2, worse=True)
    assert (second.action, second.rule) == (Action.ROLLBACK, "probation")
    assert not second.retrain
    assert second.reasons[0] == "against_previous: the log loss is above by 0.04"


def test_it_comes_before_a_retrain_and_backs_off_as_after_a_refusal():
    watch = Watch(replace(RULES, cooldown=timedelta(0), minimum_growth=0.0))
    watch.check(1, worse=True, drift=True)
    decision = watch.check(2, worse=True, drift=True)
    assert decision.action is Action.ROLLBACK
    state = after_rollback(watch.state, START + 2 * DAY)
    assert state.refusals == 1
    assert state.version is None
    assert quiet_until(state, RULES) == START + 2 * DAY + 2 * RULES.cooldown
    assert "drift" in state.latched
    assert state.attempts == watch.state.attempts  # no retrain was made
    assert state.champion_since == START + 2 * DAY  # where nobody knows since when it was one


def test_a_champion_that_is_back_is_as_old_as_it_was():
    rules = replace(RULES, cooldown=DAY, maximum_age=timedelta(days=60))
    watch = Watch(rules)
    watch.check(69, worse=True)
    watch.check(70, worse=True)
    state = after_rollback(watch.state, START + 70 * DAY, since=START)
    for day in (71, 73):  # within the back-off, and after it
        seen, now = window(day, version="1"), START + day * DAY
        state = observe(state, seen, now, rules)
        decision = decide(seen, state, now, rules)
        assert (decision.rule == "age") is (day == 73), decision.reasons
    assert "73 days old" in decision.reasons[0]


def test_silence_and_quiet_do_not_roll_back():
    watch = Watch()
    for day, word in enumerate([True, False, None, False, True, None, False]):
        assert watch.check(day + 1, worse=word).action is Action.KEEP


@pytest.mark.parametrize("paired", [True, False])
def test_broken_rows_hold_back_only_what_is_not_paired(paired):
    watch = Watch()
    for day in (1, 2):
        decision = watch.check(day, worse=True, paired=paired, schema=True)
    assert (decision.action is Action.ROLLBACK) is paired
    if not paired:
        assert any("other rows" in reason for reason in decision.reasons)


def test_what_if_takes_back_what_was_on_probation_and_only_under_rules_that_ask():
    watch = Watch()
    watch.check(1, worse=True)
    watch.check(2, worse=True)
    assert watch.decisions[-1].action is Action.ROLLBACK
    watch.check(3, version="1")
    was = recorded(watch.decisions, {})
    assert [step.version for step in was] == ["2", "1", "1"]
    again = replay(watch.decisions, RULES, outcomes={})
    assert [step.action for step in again] == [step.action for step in was]
    assert again[-1].version == "1"
    never = replay(watch.decisions, replace(RULES, probation=None), outcomes={})
    assert all(step.action is Action.KEEP for step in never)
    assert never[-1].version == "2"
    short = replay(watch.decisions, replace(RULES, probation=DAY), outcomes={})
    assert all(step.action is not Action.ROLLBACK for step in short)


def test_a_retune_tells_a_person_once():
    state = PolicyState(champion_since=START)
    told = []
    for day in range(1, 5):
        end = START + day * DAY
        seen = Signals(
            Window(f"w{day}", "m", "1", end - DAY, end, 900, 400),
            (
                Signal("mmd", Kind.DRIFT, False, p_value=0.5),
                Signal("latency_p95_ms", Kind.LATENCY, True, value=700.0, low=650.0, high=800.0,
                       threshold="latency_p95_ms > 500"),
            ),
        )  # fmt: skip
        state = observe(state, seen, end, RULES)
        told.append(decide(seen, state, end, RULES))
    assert [d.action for d in told] == [Action.KEEP, *[Action.RETUNE] * 3]
    assert [bool(d.alerts) for d in told] == [False, True, False, False]
    assert any("train.limits" in sentence for sentence in told[1].alerts)
    assert all(any("nothing retunes by itself" in r for r in d.reasons) for d in told[1:])
