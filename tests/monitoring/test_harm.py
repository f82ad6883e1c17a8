"""What no cool-down holds back: a champion worse than guessing, or worse than when refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.harm import GUESS, guessing, pressing
from monitoring.performance import performance_signals
from monitoring.policy import PolicyState, after_retrain, after_rollback, decide, observe
from monitoring.records import Action, Kind, Signal, Signals, Window
from monitoring.rules import Rules, Threshold

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = Rules(confirmations=1, memory=1, cooldown=4 * DAY, maximum_age=None)


def loss(value, *, gate=0.5, guess=0.69, width=0.05):
    detail = {GUESS: guess, "baseline": gate}
    known = {key: each for key, each in detail.items() if each is not None}
    return Signal("log_loss", Kind.PERFORMANCE, True, value=value, low=value - width,
                  high=value + width, threshold="worse by 0.02", detail=known)  # fmt: skip


class Watch:
    def __init__(self, rules=RULES):
        self.rules = rules
        self.state = after_retrain(PolicyState(), True, START)

    def check(self, day, signal):
        end = START + day * DAY
        rows = Signal("labels", Kind.LABELS, False, detail={"new_labels": 5_000, "growth": 0.5})
        seen = Signals(Window(f"w{day}", "m", "1", end - DAY, end, 900, 400), (signal, rows))
        self.state = observe(self.state, seen, end, self.rules)
        self.state = PolicyState.from_dict(self.state.to_dict())
        return decide(seen, self.state, end, self.rules)

    def refused(self, day):
        self.state = after_retrain(self.state, False, START + day * DAY)


def test_a_champion_worse_than_guessing_waits_for_no_cool_down():
    watch = Watch()
    held = watch.check(1, loss(0.6))
    assert (held.action, held.rule) == (Action.KEEP, "cooldown")
    acts = watch.check(2, loss(0.8))
    assert (acts.action, acts.rule) == (Action.RETRAIN, "performance")
    assert acts.reasons[-1] == (
        "the cool-down until 2024-03-05 00:00 UTC does not hold it: log loss 0.8 (0.75 to 0.85) is "
        "certainly above 0.69, what guessing the classes' shares has, and was 0.5 at the gate"
    )


@pytest.mark.parametrize(
    "signal",
    [
        loss(0.72),  # its interval reaches below
        loss(0.8, gate=0.75),  # it was worse at the gate already: it is no fall
        loss(0.8, gate=None),
        loss(0.8, guess=None),
        replace(loss(0.8), low=None, high=None),
        replace(loss(0.8), breached=False),
    ],
)
def test_what_is_not_certainly_so_waits(signal):
    assert Watch().check(2, signal).action is Action.KEEP


def test_the_budget_of_a_week_and_new_labels_hold_all_the_same():
    watch = Watch(replace(RULES, retrains_a_week=1))
    watch.refused(1)
    assert watch.check(2, loss(0.8)).rule == "budget"
    assert Watch(replace(RULES, minimum_new_labels=9_999)).check(2, loss(0.8)).action is Action.KEEP


def test_a_back_off_holds_only_what_is_no_worse_than_the_gate_knew():
    watch = Watch()
    watch.check(5, loss(0.52, width=0.02))
    watch.refused(5)
    assert watch.check(8, loss(0.6)).rule == "cooldown"  # within the cool-down itself
    assert watch.check(10, loss(0.56)).rule == "cooldown"  # not certainly worse: 0.51 to 0.61
    acts = watch.check(11, loss(0.6))
    assert acts.action is Action.RETRAIN
    assert "certainly above what it was when the gate refused, 0.54 at most" in acts.reasons[-1]
    watch.refused(11)  # at 0.65 at most: what is as bad as that waits again
    assert watch.check(17, loss(0.6)).rule == "cooldown"


def test_the_memory_of_a_refusal_ends_with_its_champion():
    watch = Watch()
    watch.check(5, loss(0.52))
    watch.refused(5)
    assert watch.state.refused_loss == pytest.approx(0.57)
    assert after_retrain(watch.state, True, START + 6 * DAY).refused_loss is None
    assert after_rollback(watch.state, START + 6 * DAY).refused_loss is None
    moved = Signals(Window("w9", "m", "7", START, START + 9 * DAY, 900, 400), ())
    assert observe(watch.state, moved, START + 9 * DAY, RULES).refused_loss is None


def test_drift_and_age_wait_for_every_cool_down():
    watch = Watch()
    seen = Signals(Window("w", "m", "1", START, START + DAY, 900, 400), (loss(0.8),))
    for cause in ("drift", "estimated-loss", "age", "latency"):
        assert pressing(cause, seen, watch.state, START + DAY, RULES) == ""
    assert pressing("performance", seen, watch.state, START + 9 * DAY, RULES) == ""  # none is on


def test_the_signal_knows_what_guessing_would_have():
    label = np.array(["no"] * 300 + ["yes"] * 100)
    frame = pd.DataFrame({"label": label, "proba": [[0.1, 0.9]] * 400})
    limit = Threshold("log_loss", worse_by=0.02)
    found, *_ = performance_signals(frame, ("no", "yes"), [limit], {"log_loss": 0.4})
    assert found.detail[GUESS] == pytest.approx(0.5623, abs=1e-4)
    assert found.detail[GUESS] < found.low
    assert guessing(np.zeros(5, dtype=np.int64)) == 0.0
