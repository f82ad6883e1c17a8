"""Promotion by people under a real Prefect server and a real MLflow store."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from models.errors import RegistryFault
from models.registry_approvals import BY, RECORD, WHY, WORD, approval
from models.registry_stages import staged
from monitoring.rollout import Move
from tasks import approval as approvals
from tasks import places, standing
from tasks import status as states
from tasks.config import load
from tests import registry_parts as parts
from tests.flows.test_rollout import MINUTE, PLAN, START, begin, refusals, registered, traffic

pytestmark = pytest.mark.prefect

DAY = timedelta(days=1)


@pytest.fixture
def config(tiny_config, two_versions):
    """Version 1 is champion, version 2 passed its gate against it; without stages."""
    config = load(tiny_config).model_copy(update={"approval": "required"})
    two_versions(config)
    return config


def step(config, now):
    from flows.rollout import advance

    return asyncio.run(advance(config, now))


def say(config, version, said, now, **more):
    from flows.rollout import answer

    return asyncio.run(answer(config, version, said, "eve@host", "looks right", now, **more))


def champion(config):
    return places.registry(config).champion().version


def tag(config, version, **tags):
    """As a person does on MLflow's page."""
    places.registry(config)._tag(version, tags)


def test_nothing_answers_before_a_person_says_yes_and_one_yes_is_for_one_version(config):
    tag(config, "2", **{WORD: "approved"})  # before anybody asked: it does not count
    verdict = begin(config)
    assert verdict.passed
    assert "waits for a person's approval" in verdict.reason
    assert begin(config) == verdict  # a run that died here is resumed
    assert standing.on_the_way(config).startswith("version 2 waits")
    assert standing.under_way(config)
    assert step(config, START + DAY).move is Move.WAIT
    with pytest.raises(RegistryFault, match=r"everfit.approval=needed"):
        places.registry(config).promote(
            "2", expected="1", decision_id="w2", who="x", why="y", now=START
        )
    tag(config, "2", **{WORD: "perhaps"})
    assert step(config, START + DAY).move is Move.WAIT
    tag(config, "2", **{WORD: "Approved", WHY: "the slices look right", BY: "eve"})
    found = step(config, START + 2 * DAY)
    assert (found.move, champion(config)) == (Move.PROMOTE, "2")
    given = approval(places.registry(config).champion())
    assert (given.state, given.by, given.why, given.how) == (
        "approved", "eve", "the slices look right", "tag"
    )  # fmt: skip
    assert "eve" in approvals.of(config, "2")
    assert step(config, START + 2 * DAY + MINUTE).move is Move.WAIT  # it bakes

    registered(config, "w3")
    copied = {
        k: v for k, v in places.registry(config).champion().tags.items() if k.startswith(WORD)
    }
    tag(config, "3", **copied)  # the yes of version 2, copied on to version 3
    made = begin(config, "3", START + 3 * DAY, against="2")
    assert "version 3 waits for a person's approval" in made.reason
    assert champion(config) == "2"
    assert json.loads(places.registry(config).version("3").tags[RECORD])["version"] == "3"


def test_a_shadow_runs_meanwhile_and_no_caller_is_answered(config):
    config = config.model_copy(update={"rollout": PLAN})
    assert "begins as shadow" in begin(config).reason
    traffic(config, START, {"1": 400}, beside={"1": "2"})
    now = START + 10 * MINUTE
    found = step(config, now)
    assert (found.move, found.reasons[0]) == (
        Move.WAIT,
        f"approval: version 2 waits for a person's approval until {START + 7 * DAY:%Y-%m-%dT%H:%M}",
    )
    assert step(config, START + 200 * MINUTE).move is Move.WAIT  # its maximum is over long since
    given = say(config, "2", "approved", START + 200 * MINUTE)
    assert str(given) == "version 2 was approved by eve@host: looks right"
    found = step(config, START + 200 * MINUTE)
    assert (found.move, staged(places.registry(config).challenger()).mode) == (Move.NEXT, "canary")
    told = states.status(config, START + 201 * MINUTE)["approval"]
    assert (told["state"], told["by"], told["waits"]) == ("approved", "eve@host", False)
    with pytest.raises(RegistryFault, match="what is decided stays decided"):
        say(config, "2", "rejected", START + 201 * MINUTE)


@pytest.mark.parametrize("how", ["rejected", "expired", "waived"])
def test_what_is_not_approved_in_time_never_serves(config, how):
    begin(config)
    registry, now = places.registry(config), START + DAY
    if how == "rejected":
        given = say(config, "2", "rejected", now)
    elif how == "expired":
        tag(config, "2", **{WORD: "approved"})  # seen too late: nobody knows when it was set
        assert step(config, now + 7 * DAY).move is Move.ROLL_BACK
        given = approval(registry.version("2"))
    else:
        config = config.model_copy(update={"approval": "none"})
        assert step(config, now).move is Move.PROMOTE
        assert approval(registry.champion()).state == "waived"
        return
    assert given.state == how
    assert champion(config) == "1"
    gone = registry.version("2").tags
    assert gone["rejected_why"] == str(given)
    assert refusals(config) == 1  # the policy backs off as after a refusal
    if how == "expired":
        assert "approved" in given.refused[-1]  # the word that came, and why it did not count
    with pytest.raises(RegistryFault, match="what is decided stays decided"):
        say(config, "2", "approved", now)
    assert not begin(config, now=now).passed  # it does not come back


def test_what_the_gate_refused_is_approved_by_force_alone(config):
    candidate = parts.candidates()[2]
    registry = places.registry(config)
    registry.register(
        candidate.bundle, candidate, parts.verdict(passed=False), window_id="w3", now=START
    )
    with pytest.raises(RegistryFault, match=r"its gate refused \(no gain was shown\)"):
        say(config, "3", "approved", START)
    given = say(config, "3", "approved", START, force=True)
    assert given.forced
    assert "gate=refused" in given.refused[-1]
    assert step(config, START + MINUTE).move is Move.PROMOTE
    assert champion(config) == "3"
    assert "(forced)" in approvals.of(config, "3")
