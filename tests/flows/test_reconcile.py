"""What dead processes left in real stores is set right, told once, and not found again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from models.registry_stages import TAG, Staged, staged
from monitoring.leftovers import Do
from monitoring.policy_state import PolicyState
from tasks import claims, events, leftovers, places, rolling
from tasks.config import load
from tests import registry_parts as parts

pytestmark = pytest.mark.prefect

START = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def config(tiny_config, two_versions):
    """Version 1 is champion, 2 passed its gate against it."""
    config = load(tiny_config)
    two_versions(config)
    return config


def register(registry, window):
    candidate = parts.candidates()[int(window[1:]) - 1]
    return registry.register(
        candidate.bundle, candidate, parts.verdict(), window_id=window, now=START
    )


def dead_owner():
    code = "from monitoring.claims import process_owner as o; import sys; sys.stdout.write(o())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def settle(config, now=START + HOUR, **more):
    from flows.reconcile import reconcile

    return [(d.finding.do, d.finding.subject, d.ok) for d in asyncio.run(
        reconcile(config, now, **more))]  # fmt: skip


def state(config):
    with places.telemetry(config) as store:
        return PolicyState.from_dict(store.state(config.name) or {})


def test_what_the_dead_left_is_set_right_and_not_found_again(config, monkeypatch):
    registry = places.registry(config)
    asked = []
    monkeypatch.setattr(events, "again", lambda _c, w, n, _why: asked.append((w, n)) or True)
    found = settle(config, elsewhere=True)  # on a slow machine also runs that other tests have left
    assert [one for one in found if one[0] is not Do.CRASH] == []

    # killed between a version and what follows it, and before a version
    registry._call("update_run", registry.version("2").run_id, "RUNNING")
    registry._drop_alias("challenger")
    experiment = registry._call("get_experiment_by_name", config.name).experiment_id
    orphan = registry._call("create_run", experiment, tags={"window_id": "w9"}).info.run_id
    files = config.artifacts / orphan / "artifacts"
    files.mkdir(parents=True)
    # killed in a canary's end, which was neither noted nor told to the policy
    register(registry, "w3")
    registry.reject("3", "it errs", START)
    at = START.isoformat()
    stage = Staged("canary", 0, 0.25, since=at, started=at, opponent="1", decision_id="w3")
    registry._tag("3", {TAG: json.dumps(asdict(stage))})
    # killed with a window in its hands, of a flow run that the server takes for running
    with places.claims(config) as book:
        book.claim("w5", dead_owner(), START, model=config.name)
    run = asyncio.run(zombie())
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_BEATS", 0)  # it has not been silent for minutes
        found = settle(config, elsewhere=True)
    # other tests on this server may have left runs, too
    assert [one for one in found if one[0] is not Do.CRASH or one[1] == str(run)] == [
        (Do.CRASH, str(run), True),
        (Do.COMPLETE, "w2", True),
        (Do.CLOSE, orphan, True),
        (Do.END, "3", True),
    ]
    assert asyncio.run(state_of(run)) == "CRASHED"
    assert registry.challenger().version == "2"
    assert registry.open_runs() == ()
    assert not files.exists()
    assert staged(registry.version("3")).mode == "rolled back"
    assert state(config).refusals == 1
    assert state(config).told == (rolling.ending("3"),)
    assert asked == []  # whose process has just died may be started again by who started it
    with places.claims(config) as book, book.database.write() as connection:
        connection.exec_driver_sql("UPDATE claim_beats SET at = at - 120000000")
    assert settle(config, elsewhere=True) == [(Do.RESUME, "w5", True)]
    assert asked == [("w5", 1)]
    with places.claims(config) as book:  # and there it runs
        book.claim("w5", claims.owner(), START, model=config.name)
    assert settle(config, elsewhere=True) == []
    assert state(config).refusals == 1


def test_a_roll_back_that_died_is_completed_and_told_once(config):
    registry = places.registry(config)
    told = {"decision_id": "w2", "who": "tests", "why": "it is better", "now": START}
    registry.promote("2", expected="1", **told)
    tags = {"rolled_back_at": (START + HOUR / 2).isoformat(), "rolled_back_why": "it errs",
            "rolled_back_by": "x", "rolled_back_decision_id": "d9"}  # fmt: skip
    registry._tag("2", tags)
    assert settle(config) == [(Do.ROLL_BACK, "2", True)]
    assert registry.champion().version == registry.recorded_champion() == "1"
    assert registry.champion().tags["restored_decision_id"] == "d9"
    assert (state(config).refusals, state(config).told) == (1, ("d9",))
    assert settle(config) == []

    # promoted again by force, and killed before the record
    registry._set_alias("champion", "2")
    registry._tag("2", {"promoted_at": (START + 2 * HOUR).isoformat(), "previous_champion": "1"})
    registry._set_alias("challenger", "2")
    assert settle(config, START + 3 * HOUR) == [(Do.HEAL, "2", True)]
    assert registry.recorded_champion() == "2"
    assert registry.challenger() is None
    assert settle(config, START + 3 * HOUR) == []


def test_a_window_that_always_kills_is_given_up_as_a_refusal(config):
    with places.claims(config) as book:
        for _ in range(4):
            book.claim("w2", "another-host:1:1@0", START, model=config.name)
            book.fail("w2", "killed", START)
        book.claim("w2", dead_owner(), START, model=config.name)
    now = START + 10 * HOUR
    assert settle(config, now) == [(Do.GIVE_UP, "w2", True)]
    with places.claims(config) as book:
        found = book.get("w2")
    assert found.status == "done"
    assert not found.result["passed"]
    assert "given up after 5 attempts" in found.result["reason"]
    registry = places.registry(config)
    assert registry.challenger() is None
    assert "given up" in registry.version("2").tags["rejected_why"]
    assert state(config).refusals == 1
    assert settle(config, now) == []


async def zombie():
    """A flow run that runs by the server's word, and that nobody runs."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    @flow(name="watch")
    def nothing():
        pass

    async with get_client() as client:
        return (await client.create_flow_run(nothing, state=Running())).id


async def state_of(run):
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return (await client.read_flow_run(run)).state.type.value
