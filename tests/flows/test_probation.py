"""A champion that disappoints on the rows after its promotion gives way to the one before it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from monitoring.records import Action
from tasks import places, probation
from tests.flows.test_loop import START, champion, config, serve_rows  # noqa: F401 - fixtures

pytestmark = pytest.mark.prefect


def state_of(config):  # noqa: F811 - the fixture's value
    with places.telemetry(config) as store:
        return store.state(config.name) or {}


def test_a_champion_that_disappoints_is_taken_back_once(
    config,  # noqa: F811
    champion,  # noqa: F811
    make_frame,
    monkeypatch,
):
    from flows.retrain import retrain
    from flows.rollout import rollback
    from flows.watch import watch
    from models.errors import RegistryFault
    from tasks import explaining, whatif

    policy = replace(config.policy, confirmations=1, memory=1, cooldown=timedelta(hours=1))
    monitor = config.monitor.model_copy(update={"window": timedelta(days=3)})
    config = config.model_copy(update={"policy": policy, "monitor": monitor})
    serve_rows(config, make_frame(900, seed=7, start=START.isoformat(), shift=25.0), flip=True)
    promoted = START + timedelta(days=10)
    outcome = asyncio.run(retrain(config, "flipped", promoted))
    assert (outcome.passed, outcome.version) == (True, "2")
    # the labels mean again what they meant before: version 2 is wrong, and version 1 was right
    after = make_frame(600, seed=8, start=promoted.isoformat())
    serve_rows(config, after, version="2")
    now = promoted + timedelta(days=7)
    refusals = state_of(config)["refusals"]

    only_said = asyncio.run(watch(config, now, act=False))
    assert (only_said.action, only_said.rule) == (Action.ROLLBACK, "probation"), only_said.reasons
    registry = places.registry(config)
    assert registry.champion().version == "2"
    window = replace(only_said.signals.window, version="7")  # a decision on another's champion
    about = replace(only_said, signals=replace(only_said.signals, window=window))
    with pytest.raises(RegistryFault, match="must still be 7"):
        asyncio.run(rollback(config, "it disappoints", decision=about))
    assert registry.champion().version == "2"
    told = explaining.told(config, only_said.window_id)
    assert told.outcome is None

    decision = asyncio.run(watch(config, now))
    assert decision.window_id == only_said.window_id
    assert registry.champion().version == "1"
    assert len(registry.versions()) == 2  # nothing was retrained on the same decision
    assert registry.version("2").tags["rolled_back_decision_id"] == decision.window_id
    assert "version 1" in registry.version("2").tags["rolled_back_why"]
    assert state_of(config)["refusals"] == refusals + 1
    first = registry.version("1").tags["promoted_at"]  # it is as old as it was
    assert state_of(config)["champion_since"] == first
    told = explaining.told(config, decision.window_id)
    assert told.outcome == {"rolled_back": "2", "restored": "1"}

    # of more rows than are compared, some of every day are, not the newest
    monkeypatch.setattr(probation, "MOST", 112)
    with places.telemetry(config) as store:
        every = store.rows(promoted, now, "2", labelled_only=True, as_of=now)
        some = probation._rows(store, promoted, now, "2", now)
    days = every["time"].dt.floor("D").nunique()
    assert len(every) > 112 >= len(some)
    assert some["time"].dt.floor("D").nunique() == days > 1
    monkeypatch.undo()

    # version 1, brought back, is on no probation, and one promotion is taken back once
    again = asyncio.run(watch(config, now))
    assert again.action is not Action.ROLLBACK
    assert not any(s.kind == "probation" for s in again.signals.items)
    assert registry.champion().version == "1"
    found = whatif.compare(config, replace(config.policy, probation=None), loss=False)
    assert (found["recorded"]["rollbacks"], found["other"]["rollbacks"]) == (1, 0)
