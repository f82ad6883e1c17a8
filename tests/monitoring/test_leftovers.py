"""What was left behind, found from the facts alone: every step at which a process can die."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from monitoring.leftovers import (
    Asked,
    Do,
    Facts,
    Finding,
    Folder,
    Limits,
    OpenRun,
    Silent,
    Version,
    Window,
    found,
)

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIMITS = Limits()
ONE = Version("1", "w1", promoted=NOW - 30 * DAY)
TWO = Version("2", "w2")
CALM = Facts(versions=(ONE,), champion="1", recorded="1")


def window(state: str, *, lives: bool = False, name: str = "w2", attempts: int = 1) -> Window:
    return Window(name, state, lives, attempts, NOW - HOUR, NOW - HOUR, error="it broke")


def asked(age: timedelta = HOUR, name: str = "w2", **more: object) -> Asked:
    return Asked(name, NOW - age, "1", **more)  # type: ignore[arg-type]


def dos(facts: Facts, now: datetime = NOW, limits: Limits = LIMITS) -> list[tuple[Do, str]]:
    return [(finding.do, finding.subject) for finding in found(facts, now, limits)]


def test_a_calm_model_has_left_nothing() -> None:
    assert found(Facts(), NOW) == ()
    assert found(CALM, NOW) == ()


# What a retrain killed at each of its steps leaves, and that it is carried on from there.
STEPS = {
    "claimed": CALM,
    "its run is open": replace(CALM, open_runs=(OpenRun("r", "w2"),)),
    "its version is made": replace(CALM, versions=(ONE, TWO), open_runs=(OpenRun("r", "w2", "2"),)),
    "it is challenger": replace(CALM, versions=(ONE, TWO), challenger="2"),
    "the alias is moved": replace(
        CALM,
        versions=(ONE, replace(TWO, promoted=NOW - MINUTE)),
        champion="2",
        challenger="2",
    ),
    "it is promoted": replace(
        CALM, versions=(ONE, replace(TWO, promoted=NOW - MINUTE)), champion="2", recorded="2"
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_retrain_that_died_is_carried_on_whatever_else_is_tidied(step: str) -> None:
    facts = replace(STEPS[step], windows=(window("running"),))
    every = dos(facts)
    assert every[-1] == (Do.RESUME, "w2")
    extra = {
        "its run is open": [(Do.CLOSE, "r")],
        "its version is made": [(Do.COMPLETE, "w2")],
        "the alias is moved": [(Do.HEAL, "2")],
    }
    assert every[:-1] == extra.get(step, [])
    living = replace(facts, windows=(window("running", lives=True),))
    assert not [d for d in dos(living) if d[0] is not Do.HEAL]  # HEAL takes the lock, and is true


def test_a_window_that_ends_its_process_each_time_is_given_up() -> None:
    for attempts in range(1, 9):
        facts = replace(CALM, windows=(window("running", attempts=attempts),))
        (finding,) = found(facts, NOW, LIMITS)
        assert finding.do is (Do.GIVE_UP if attempts >= 5 else Do.RESUME)
        assert finding.attempt == attempts


def test_a_dead_owner_is_left_alone_while_its_own_run_may_be_started_again() -> None:
    patient = replace(LIMITS, resume=MINUTE)
    for silent, expected in ((10, []), (59, []), (61, [(Do.RESUME, "w2")])):
        dead = replace(window("running"), silent=timedelta(seconds=silent))
        assert dos(replace(CALM, windows=(dead,)), limits=patient) == expected


def test_a_failed_retrain_is_tried_again_after_a_pause_that_doubles() -> None:
    base = replace(CALM, asked=(asked(2 * HOUR),), newest="w2")
    for attempts, pause in ((1, 5), (2, 10), (3, 20), (4, 40)):
        for past in (-1, 1):
            late = replace(
                window("failed", attempts=attempts), updated=NOW - (pause * MINUTE + past * MINUTE)
            )
            expected = [(Do.RESUME, "w2")] if past > 0 else []
            assert dos(replace(base, windows=(late,))) == expected
    spent = replace(window("failed", attempts=5), updated=NOW - MINUTE)
    assert dos(replace(base, windows=(spent,))) == [(Do.GIVE_UP, "w2")]
    by_hand = replace(CALM, windows=(window("failed"),))  # who asked for it was told of the fault
    assert dos(by_hand) == []
    late = replace(window("failed"), updated=NOW - HOUR)
    rolling = replace(base, windows=(late,), on_the_way=True, versions=(ONE, TWO))
    assert dos(rolling) == []
    assert dos(replace(rolling, challenger="2")) == [(Do.RESUME, "w2")]  # its own, to its end
    newer = replace(window("done", name="w3"), started=NOW - MINUTE)
    assert dos(replace(base, windows=(newer, window("failed")))) == []  # that one answered it
    old = replace(window("failed"), updated=NOW - 2 * DAY, started=NOW - 2 * DAY)
    assert dos(replace(base, windows=(old,))) == []


def test_a_decision_that_nobody_heard_is_acted_on_once() -> None:
    lost = replace(CALM, asked=(asked(),), newest="w2")
    assert dos(lost) == [(Do.RETRAIN, "w2")]
    soon = replace(lost, asked=(asked(MINUTE),))
    assert dos(soon) == []  # its event may be on the way
    assert dos(replace(lost, asked=(asked(2 * DAY),))) == []  # the next check's affair
    two = replace(lost, asked=(asked(HOUR, "w3"), asked(2 * HOUR, "w2")))
    assert dos(two) == [(Do.RETRAIN, "w3")]  # one retrain answers both


@pytest.mark.parametrize(
    "answer",
    [
        {"windows": (window("done"),)},
        {"windows": (window("running", lives=True),)},
        {"windows": (window("running", lives=True, name="w9"),)},
        {"windows": (replace(window("done", name="w9"), started=NOW - MINUTE),)},
        {"windows": (replace(window("done", name="w9"), started=NOW - DAY, updated=NOW),)},
        {"versions": (replace(ONE, promoted=NOW - MINUTE),)},
        {"versions": (replace(ONE, restored=NOW - MINUTE),)},
        {"on_the_way": True},
        {"versions": (ONE, replace(TWO, rejected=NOW - MINUTE))},
        {"versions": (ONE, replace(TWO, rolled_back=NOW - MINUTE))},
    ],
)
def test_a_decision_that_was_answered_is_not_acted_on_again(answer: dict[str, object]) -> None:
    facts = replace(CALM, asked=(asked(),), newest="w2")
    assert dos(replace(facts, **answer)) == []  # type: ignore[arg-type]


def test_a_lost_roll_back_is_made_only_while_it_is_the_last_word_on_its_champion() -> None:
    undo = asked(HOUR, "w7", rollback=True, why="worse than the one before")
    lost = replace(CALM, asked=(undo,), newest="w7")
    (finding,) = found(lost, NOW)
    assert finding == Finding(
        Do.ROLL_BACK, "1", "worse than the one before", detail={"decision_id": "w7"}
    )
    assert dos(replace(lost, newest="w8")) == []  # a later check thought otherwise
    assert dos(replace(lost, champion="0", recorded="0")) == []  # it is champion no more


def test_a_roll_back_of_which_only_the_tags_are_written_is_completed() -> None:
    gone = replace(ONE, rolled_back=NOW - MINUTE, rolled_back_by="d1")
    (finding,) = found(replace(CALM, versions=(gone,)), NOW)
    assert (finding.do, finding.detail) == (Do.ROLL_BACK, {"decision_id": "d1"})
    (first,) = found(replace(CALM, versions=(replace(gone, rolled_back_by=""),)), NOW)
    assert first.detail == {"decision_id": "roll-back of version 1"}
    by_force = replace(gone, promoted=NOW)  # a person has promoted it again
    assert dos(replace(CALM, versions=(by_force,))) == []
    moved = replace(CALM, versions=(gone, TWO), champion="2", recorded="2", told=("d1",))
    assert dos(moved) == []
    assert dos(replace(moved, told=())) == [(Do.TELL, "1")]  # or the policy would ask again
    assert dos(replace(moved, told=()), NOW + 2 * DAY) == []


def test_a_version_that_its_own_retrain_took_back_is_told_by_that_retrain() -> None:
    gone = replace(TWO, rolled_back=NOW - MINUTE, rolled_back_by="w2")
    facts = replace(CALM, versions=(ONE, gone))
    assert dos(replace(facts, windows=(window("running"),))) == [(Do.RESUME, "w2")]
    ended = replace(facts, windows=(window("done"),), told=("retrain w2",))
    assert dos(ended) == []


@pytest.mark.parametrize(
    ("stage", "role", "gone"),
    list(product(("shadow", "canary", "bake", "done", ""), ("champion", "challenger", "none"),
                 (False, True))),
)  # fmt: skip
def test_a_roll_out_goes_on_or_ends_by_who_its_version_is(
    stage: str, role: str, gone: bool
) -> None:
    version = replace(TWO, stage=stage, rejected=NOW if gone and role != "champion" else None)
    facts = replace(
        CALM,
        versions=(ONE, version),
        champion="2" if role == "champion" else "1",
        recorded="2" if role == "champion" else "1",
        challenger="2" if role == "challenger" else None,
    )
    every = found(facts, NOW)
    open_ended = stage in ("shadow", "canary", "bake")
    if role == "none" and open_ended:
        (finding,) = every
        assert (finding.do, finding.subject) == (Do.END, "2")
        assert ("bad" in finding.detail) is gone  # then the policy is told, once
    elif role == "champion" and stage in ("shadow", "canary"):
        assert [f.do for f in every] == [Do.STEP]  # its promotion was not noted
    elif role == "challenger" and gone:
        assert [f.do for f in every] == [Do.DROP]
    else:
        assert every == ()


def test_servers_that_went_back_before_the_registry_did_are_followed() -> None:
    assert dos(replace(CALM, undo=True)) == [(Do.STEP, "1")]


def test_silent_runs_old_scratch_and_tables_of_ended_retrains_are_cleared_away() -> None:
    facts = replace(
        CALM,
        windows=(window("done"), window("running", lives=True, name="w3")),
        silent=(
            Silent("a", "watch-flights", 3 * MINUTE),
            Silent("b", "watch-flights", 5 * MINUTE),
            Silent("c", "retrain-w3", 5 * MINUTE, window_id="w3"),  # it beats elsewhere
        ),
        folders=(
            Folder("retrains/w2", MINUTE, "w2"),
            Folder("retrains/w3", 9 * DAY, "w3"),
            Folder("retrains/w4", 9 * DAY, "w4"),  # nobody has claimed it: a search by itself
            Folder(".1-x", HOUR),
            Folder(".1-y", 2 * DAY),
        ),
    )
    assert dos(facts) == [(Do.CRASH, "b"), (Do.DISCARD, "retrains/w2"), (Do.DISCARD, ".1-y")]


def test_what_is_set_right_is_found_no_more() -> None:
    """Every finding, applied to the facts, leaves facts without it: reconciling ends."""
    facts = replace(
        STEPS["the alias is moved"],
        challenger=None,
        windows=(window("running"),),
        open_runs=(OpenRun("r", "w2", "2"), OpenRun("s", "w5")),
        undo=True,
        silent=(Silent("b", "watch", HOUR),),
        folders=(Folder(".1-y", 2 * DAY),),
    )
    seen = []
    while left := found(facts, NOW):
        first = left[0]
        seen.append(first.do)
        assert len(seen) < 20
        facts = _applied(facts, first)
    assert len(seen) == len(set(seen)) == 7


def _applied(facts: Facts, finding: Finding) -> Facts:
    subject = finding.subject
    runs = tuple(r for r in facts.open_runs if subject not in (r.run_id, r.window_id))
    changes: dict[Do, dict[str, object]] = {
        Do.CRASH: {"silent": ()},
        Do.COMPLETE: {"open_runs": runs},
        Do.CLOSE: {"open_runs": runs},
        Do.HEAL: {"recorded": facts.champion},
        Do.DROP: {"challenger": None},
        Do.STEP: {"undo": False},
        Do.RESUME: {"windows": (replace(facts.windows[0], state="done"),) if facts.windows else ()},
        Do.DISCARD: {"folders": ()},
    }
    return replace(facts, **changes[finding.do])  # type: ignore[arg-type]
