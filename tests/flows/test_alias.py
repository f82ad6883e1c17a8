"""Hands on the alias, under a real Prefect server, a real MLflow store and a real follower."""

from __future__ import annotations

import asyncio

import pytest

from deployments.serving.follower import Follower
from deployments.serving.metrics import Metrics
from deployments.serving.slots import Slots
from models.errors import AliasLost
from models.registry_lean import LeanRegistry
from models.registry_stages import staged
from monitoring.rollout import Move
from tasks import alias, hands, lineage, places, standing
from tasks.config import load
from tests.flows.test_rollout import MINUTE, PLAN, START, begin, registered, step

pytestmark = pytest.mark.prefect

HOUR = 60 * MINUTE


@pytest.fixture
def config(tiny_config, two_versions):
    """Version 1 is champion, versions 2 and 3 passed their gate."""
    config = load(tiny_config).model_copy(update={"rollout": PLAN})
    two_versions(config)
    return config


@pytest.fixture
def server(config):
    """What a server's following thread does at each look, on the real store.

    Versions 1 and 2 are fetched here, where MLflow is imported; a server imports it in a process
    that ends (tests/models/test_registry_lean.py), which takes two seconds each.
    """
    for version in ("1", "2"):
        places.registry(config).download(version, config.folder / "serving")
    registry = LeanRegistry(config.registry_url, config.name, config.artifacts)
    slots = Slots()
    follower = Follower(slots, Metrics(), config.folder / "serving", registry=lambda: registry)
    assert follower.step()

    def look():
        follower.step()
        return slots.current.release.version

    assert look() == "1"
    yield look
    follower.close()
    registry._engine.dispose()


def foreign(config):
    """A version that somebody registered by MLflow's own means."""
    registry = places.registry(config)
    run = registry._call("create_run", registry._experiment())
    made = registry._call("create_model_version", config.name, "file:///elsewhere", run.info.run_id)
    return str(made.version)


def test_a_hand_moves_the_alias_and_everybody_follows_and_it_is_recorded(config, server):
    registry = places.registry(config)
    begin(config)
    registered(config, "w3")
    registry._set_alias("challenger", "2")
    registry._set_alias("champion", "3")
    assert server() == "3"  # its digest is right and it answers its own example
    seen = hands.read(config.folder / "serving")
    assert (seen.version, seen.before, seen.said) == ("3", "1", "serves version 3")
    now = START + HOUR
    moved = alias.audit.fn(config, now)
    assert moved.at == seen.at
    assert alias.audit.fn(config, now) is None
    tags = registry.version("3").tags
    assert (tags["moved_by"], tags["moved_at"], tags["moved_from"]) == (
        "outside everfit", seen.at, "1"
    )  # fmt: skip
    (kept,) = alias.history(config)
    assert kept["said"].startswith("the alias champion was moved outside everfit from version 1 to")
    assert kept["server"] == "serves version 3"
    found = step(config, now)  # the roll-out of version 2 is overtaken
    assert found.move is Move.ROLL_BACK
    assert "version 3 is champion meanwhile" in found.why
    assert "version 3 is champion" in registry.version("2").tags["rejected_why"]
    assert registry.previous().version == "1"  # the way back is known


def test_a_hand_takes_the_challenger_and_its_roll_out_is_over(config, server):
    begin(config)
    places.registry(config)._set_alias("champion", "2")
    assert server() == "2"
    assert step(config, START + HOUR) is None
    ended = staged(places.registry(config).version("2"))
    assert (ended.mode, ended.why) == ("done", "made champion outside everfit")
    assert standing.standing(config) is None


def test_a_foreign_version_is_refused_with_the_reason_and_the_old_one_stays(config, server):
    from flows.watch import watch

    registry, other = places.registry(config), foreign(config)
    registry._set_alias("champion", other)
    assert server() == "1"
    assert "was not registered by everfit" in hands.read(config.folder / "serving").said
    with pytest.raises(lineage.NotOurs, match=f"version {other} of tiny has no digest"):
        asyncio.run(watch(config, START + HOUR))
    (kept,) = alias.history(config)
    assert "it is not served, version 1 stays" in kept["said"]
    back = {"decision_id": "d", "who": "tests", "why": "not ours", "now": START + 2 * HOUR}
    assert registry.rollback(**back).version == "1"
    assert server() == "1"


def test_an_alias_that_is_gone_is_told_once_and_what_serves_stays(config, server):
    from flows.watch import watch

    registry = places.registry(config)
    registry._drop_alias("champion")
    assert server() == "1"
    for hours in (1, 2):
        with pytest.raises(AliasLost, match="the alias 'champion' is gone"):
            asyncio.run(watch(config, START + hours * HOUR))
    (kept,) = alias.history(config)
    assert (kept["kind"], kept["ended"]) == (alias.LOST, None)
    registry._set_alias("champion", "1")
    assert alias.audit.fn(config, START + 3 * HOUR) is None
    (kept,) = alias.history(config)
    assert kept["ended"] == START + 3 * HOUR
