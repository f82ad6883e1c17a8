"""The next step of a roll-out: every rule, its guards' level over a whole roll-out, and replays."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring import guards, rollout
from monitoring.guards import Arm, Pairs, Seen
from monitoring.rollout import Guards, Move, Plan, Position, Reading, Stage, Step

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PLAN = Plan(
    (
        Stage("shadow", requests=100, minimum=5 * MINUTE, maximum=30 * MINUTE),
        Stage("canary", 0.1, requests=200),
        Stage("canary", 0.5, requests=500),
    )
)
FINE = Reading("error_rate", False, True, 0.0, -0.01, 0.005, 0.01, 500)
OPEN = Reading("metric", False, False, 0.03, -0.1, 0.2, 0.05, 80)
WORSE = Reading("error_rate", True, False, 0.2, 0.1, 0.3, 0.01, 90)
SILENT = Reading("metric", None, None, limit=0.05, reason="no label has come yet")


def at(step=0, mode="shadow", minutes=10.0):
    since = NOW - minutes * MINUTE
    return Position("7", "6", mode, step, since, since)


@pytest.mark.parametrize(
    ("position", "readings", "requests", "expected"),
    [
        (at(), [FINE, SILENT], 150, (Move.NEXT, 1)),  # clearly not worse: on, early
        (at(1, "canary"), [FINE], 200, (Move.NEXT, 2)),
        (at(2, "canary"), [FINE], 500, (Move.PROMOTE, None)),
        (at(9, "canary"), [FINE], 500, (Move.PROMOTE, None)),  # the plan has shrunk meanwhile
        (at(minutes=4), [FINE], 150, (Move.WAIT, None)),  # its minimum of time
        (at(), [FINE], 99, (Move.WAIT, None)),  # and of requests
        (at(minutes=900), [FINE], 99, (Move.WAIT, None)),  # nobody is promoted without evidence
        (at(), [FINE, OPEN], 150, (Move.WAIT, None)),  # not yet clear
        (at(minutes=31), [FINE, OPEN], 150, (Move.NEXT, 1)),  # nor ever, and never clearly worse
        (at(minutes=31), [SILENT], 150, (Move.NEXT, 1)),
        (at(), [SILENT], 150, (Move.WAIT, None)),  # silence is no proof
        (at(minutes=1), [WORSE, FINE], 3, (Move.ROLL_BACK, None)),  # at any moment
        (at(3, "bake", 59), [FINE], 900, (Move.WAIT, None)),
        (at(3, "bake", 60), [OPEN], 900, (Move.DONE, None)),
        (at(3, "bake", 61), [WORSE], 900, (Move.ROLL_BACK, None)),
    ],
)
def test_a_step_follows_from_plan_readings_and_time(position, readings, requests, expected):
    step = rollout.decide(PLAN, position, readings, requests, NOW)
    assert (step.move, step.stage) == expected
    assert all(step.reasons)
    told = json.loads(json.dumps(rollout.record(PLAN, position, readings, requests, NOW, step)))
    assert rollout.replayed(told) == step


def test_a_plan_begins_with_its_first_stage_or_promotes_at_once():
    assert rollout.begin(PLAN).stage == 0
    assert rollout.begin(Plan()) == Step(Move.PROMOTE, ("the plan has no stages",))


def test_a_plan_that_has_lost_its_stages_moves_nobody():
    """Emptied stages are a new plan for the next challenger, and no word on the one under way."""
    emptied = Plan(stages=(), bake=timedelta(hours=1))
    for mode in ("shadow", "canary"):
        at = Position("2", "1", mode, 0, NOW - timedelta(days=30), NOW - timedelta(days=30))
        step = rollout.decide(emptied, at, [], 10**9, NOW)
        assert step.move is Move.WAIT
        assert "put them back" in step.why


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Stage("canary", 0.0),
        lambda: Stage("canary", 1.0),
        lambda: Stage("shadow", 0.1),
        lambda: Stage("canary", 0.1, minimum=2 * MINUTE, maximum=MINUTE),
        lambda: Plan((Stage("canary", 0.5), Stage("canary", 0.1))),
        lambda: Plan(level=0.0),
        lambda: Plan(bake=-MINUTE),
    ],
)
def test_a_plan_that_cannot_be_meant_is_told(bad):
    with pytest.raises(ValueError, match="got"):
        bad()


def world(rng, n, *, errors=(0.002, 0.002), slow=1.0, wrong=0.0, half=0.5):
    """One stage of n requests to each: both versions as good as each other unless told."""
    truth = rng.random(n).clip(0.02, 0.98)
    codes = (rng.random(n) < truth).astype(np.int64)
    own = np.where(rng.random(n) < wrong, 1 - truth, truth + rng.normal(0, 0.03, n)).clip(
        0.01, 0.99
    )
    codes[rng.random(n) < half] = -1  # labels that have not come
    both = [np.column_stack([1 - p, p]) for p in (truth, own)]
    latencies = [rng.gamma(4.0, 0.5, n), slow * rng.gamma(4.0, 0.5, n)]
    arms = [Arm(n, int(rng.binomial(n, e)), t) for e, t in zip(errors, latencies, strict=True)]
    return arms, Pairs(*both, codes)


def seen(parts, upto):
    (champion, challenger), pairs = parts
    rate = upto / champion.requests

    def cut(arm):
        return Arm(upto, round(arm.errors * rate), arm.latencies[:upto])

    some = Pairs(pairs.champion[:upto], pairs.challenger[:upto], pairs.codes[:upto])
    return Seen(cut(champion), cut(challenger), 3.9, some, some)  # 3.9: p95 of gamma(4, 0.5)


def peeked(rng, plan, runs, n, peeks, **faults):
    """Of so many roll-outs, those in which some guard is ever clearly worse, and ever all fine."""
    worse, fine = 0, 0
    for _ in range(runs):
        parts = world(rng, n, **faults)
        words = [guards.read(plan, seen(parts, int(upto))) for upto in np.linspace(60, n, peeks)]
        worse += any(reading.worse for reading_set in words for reading in reading_set)
        fine += any(all(reading.fine for reading in reading_set) for reading_set in words)
    return worse / runs, fine / runs


def test_a_challenger_as_good_as_the_champion_is_not_rolled_back():
    rng = np.random.default_rng(11)
    worse, fine = peeked(rng, PLAN, 15, 4_500, 6)
    assert worse <= PLAN.level
    assert fine >= 0.9  # and goes on early


@pytest.mark.parametrize(
    "faults",
    [{"errors": (0.002, 0.08)}, {"slow": 2.5}, {"wrong": 0.5}, {"wrong": 0.9, "half": 1.0}],
)
def test_each_kind_of_bad_challenger_is_rolled_back(faults):
    rng = np.random.default_rng(5)
    worse, fine = peeked(rng, PLAN, 4, 1_500, 4, **faults)
    assert worse == 1.0
    assert fine == 0.0


def test_a_guard_that_cannot_speak_says_why_and_none_is_asked_in_vain():
    nothing = Seen(Arm(), Arm(), None, Pairs.none(2), Pairs.none(2))
    found = guards.read(PLAN, nothing)
    assert len(found) == 5
    assert all(r.worse is None and r.fine is None and r.reason for r in found)
    only = replace(PLAN, guards=Guards(None, None, None, None, 0.1))
    assert [r.name for r in guards.read(only, nothing)] == ["metric"]
    assert only.alpha(restarts=False) == 0.05
    assert only.alpha(restarts=True) == 0.05 / 4  # three stages and the baking
