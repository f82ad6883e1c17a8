"""A roll-out under a real Prefect server, step by step: to its end, back, and on after a kill."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from models.registry_stages import staged
from monitoring import shadows
from monitoring.records import Label, Prediction, RequestCount
from monitoring.rollout import Guards, Move, Plan, Stage, replayed
from monitoring.shadows import ShadowAnswer
from tasks import places, release, rolling, standing, undo
from tasks.config import load
from tasks.lineage import Lineage
from tests import registry_parts as parts

pytestmark = pytest.mark.prefect

START = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PLAN = Plan(
    (
        Stage("shadow", minimum=5 * MINUTE, maximum=60 * MINUTE, requests=100),
        Stage("canary", 0.25, minimum=5 * MINUTE, maximum=60 * MINUTE, requests=50),
    ),
    Guards(error_rate=0.05, latency_p95_ratio=2.0, metric=0.2),
    bake=60 * MINUTE,
)


@pytest.fixture
def config(tiny_config, two_versions):
    """Version 1 is champion, version 2 passed its gate against it."""
    config = load(tiny_config).model_copy(update={"rollout": PLAN})
    two_versions(config)
    traffic(config, START - 60 * MINUTE, {"1": 300})
    return config


def registered(config, window):
    candidate = parts.candidates()[int(window[1:]) - 1]
    return places.registry(config).register(
        candidate.bundle, candidate, parts.verdict(), window_id=window, now=START
    )


def begin(config, version="2", now=START, against="1"):
    from flows.rollout import rollout

    verdict = parts.verdict()
    challenger = places.registry(config).version(version)
    made = Lineage(challenger.window_id, START, 300, None, {}, {}, verdict, against, 1, 1.0)
    return asyncio.run(rollout(config, challenger, made, "it is better", now))


def step(config, now):
    from flows.rollout import advance

    return asyncio.run(advance(config, now))


def traffic(config, start, answered, *, beside=None, errors=None, slow=(), wrong=(), labels=True):
    """So many requests in 10 minutes, answered by each version; `beside` answers them as well."""
    rng = np.random.default_rng(len(answered) * 7 + int(start.timestamp()) % 1_000)
    errors, other = errors or {}, beside or {}
    with places.telemetry(config) as store:
        predictions, compared, truths = [], [], []
        for version, count in answered.items():
            for i in range(count):
                when = start + i * 10 * MINUTE / count
                name = f"{version}-{when.isoformat()}"
                late = rng.uniform(0.6, 0.95)
                said = {v: 1 - late if v in wrong else late for v in ("1", "2", "3")}
                took = float(rng.gamma(4, 1) * (4 if version in slow else 1))
                proba = (1 - said[version], said[version])
                predictions.append(Prediction(name, when, version, {"hour": i}, proba, took))
                if version in other:
                    shadow = said[other[version]]
                    compared.append(ShadowAnswer(name, when, other[version], (1 - shadow, shadow)))
                if labels:
                    truth = "late" if rng.random() < late else "on time"
                    truths.append(Label(name, truth, when + MINUTE))
            bad = errors.get(version, 0)
            store.record_counts([RequestCount(start, "infer", version, count, count, 0, bad)])
        store.record(predictions)
        shadows.add(store.database, compared)
        store.label(truths)


def stage_of(config, version="2"):
    found = staged(places.registry(config).version(version))
    return found and found.mode


def refusals(config):
    with places.telemetry(config) as store:
        return (store.state(config.name) or {}).get("refusals", 0)


def test_a_good_challenger_goes_from_shadow_to_champion_and_a_kill_costs_no_step(
    config, monkeypatch
):
    verdict = begin(config)
    assert verdict.passed
    assert "begins as shadow" in verdict.reason
    registry = places.registry(config)
    assert registry.champion().version == "1"
    assert standing.on_the_way(config) == "version 2 is shadow"
    assert begin(config) == verdict  # a run that died here is resumed
    assert step(config, START + MINUTE).move is Move.WAIT
    now = START + 10 * MINUTE
    traffic(config, START, {"1": 400}, beside={"1": "2"})
    found = step(config, now)  # errors and latency cannot speak of a shadow; the others are fine
    assert (found.move, found.stage) == (Move.NEXT, 1), found
    canary = staged(registry.challenger())
    assert (canary.mode, canary.share, canary.step) == ("canary", 0.25, 1)
    assert canary.control_p95 > 0

    traffic(config, now, {"1": 600, "2": 400}, beside={"1": "2", "2": "1"})
    later = now + 15 * MINUTE

    def cut(*_args, **_options):
        raise SystemExit("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(rolling.bake, "fn", cut)
        with pytest.raises(SystemExit):
            step(config, later)
    assert registry.champion().version == "2"
    assert registry.champion().tags["previous_champion"] == "1"
    assert registry.champion().tags["decision_id"] == "w2"
    assert stage_of(config) == "canary"  # it was not noted that it bakes
    assert step(config, later + MINUTE).move is Move.WAIT
    assert stage_of(config) == "bake"
    assert standing.on_the_way(config) == ""  # a retrain may begin
    assert step(config, later + 61 * MINUTE).move is Move.DONE
    assert stage_of(config) == "done"
    assert step(config, later + 62 * MINUTE) is None
    kept = standing.history(config)
    assert [body["step"]["move"] for body in kept] == [
        "wait", "next stage", "promote", "wait", "done"
    ]  # fmt: skip
    assert all(replayed(body).move.value == body["step"]["move"] for body in kept)
    completed_and_overtaken(config)


def test_what_is_clearly_worse_is_rolled_back_as_canary_and_while_it_bakes(config):
    canary = replace(config.rollout, stages=config.rollout.stages[1:])
    as_canary = config.model_copy(update={"rollout": canary})
    begin(as_canary)
    answered = {"1": 600, "2": 400}
    traffic(config, START, answered, beside={"1": "2", "2": "1"}, errors={"2": 100}, slow=("2",))
    found = step(as_canary, START + 11 * MINUTE)
    assert found.move is Move.ROLL_BACK
    assert [reason[:10] for reason in found.reasons] == ["error rate", "latency p9"]
    registry = places.registry(config)
    assert registry.champion().version == "1"
    assert registry.challenger() is None
    assert "error rate" in registry.version("2").tags["rejected_why"]
    assert stage_of(config) == "rolled back"
    assert refusals(config) == 1  # the policy backs off as after a refusal
    assert step(as_canary, START + 12 * MINUTE) is None
    assert not begin(as_canary).passed  # it does not come back

    config = config.model_copy(update={"rollout": replace(config.rollout, stages=())})
    registered(config, "w3")
    now = START + 60 * MINUTE
    assert begin(config, "3", now).passed  # without stages it is promoted at once
    assert (stage_of(config, "3"), registry.champion().version) == ("bake", "3")
    traffic(config, now, {"3": 400}, beside={"3": "1"}, wrong=("3",))
    found = step(config, now + 11 * MINUTE)
    assert found.move is Move.ROLL_BACK
    assert found.reasons[-1].startswith("metric 0.")
    assert registry.champion().version == "1"
    assert registry.champion().tags["restored_decision_id"] == "w3-baking"
    assert "metric" in registry.version("3").tags["rolled_back_why"]
    assert stage_of(config, "3") == "rolled back"
    assert step(config, now + 12 * MINUTE) is None


def completed_and_overtaken(config):
    """Version 2 is champion and 1 was before it. A roll-back's command dies; then a roll-out is
    overtaken by a promotion past it."""
    folder, registry = config.folder / "serving", places.registry(config)
    note = undo.Undo("2", "rollback-1", "it errs", "somebody", START.isoformat())
    undo.write(folder, note)
    assert release.unfinished(config) == note
    later = START + 300 * MINUTE
    step(config, later)
    assert registry.champion().version == "1"
    assert registry.champion().tags["restored_by"] == "somebody"
    assert undo.read(folder) is None
    undo.write(folder, replace(note, decision_id="rollback-2"))  # one that comes too late
    assert step(config, later) is None
    assert undo.read(folder) is None
    assert registry.champion().version == "1"

    registered(config, "w3")
    begin(config, "3", later)
    registry._set_alias("champion", "2")
    found = step(config, later + MINUTE)
    assert found.move is Move.ROLL_BACK
    assert "version 2 is champion meanwhile" in found.why
    assert registry.champion().version == "2"
    assert stage_of(config, "3") == "rolled back"
