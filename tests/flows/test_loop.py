"""The loop under a real Prefect server: first champion, drift, retrain, promotion, roll-back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.claims import process_owner
from monitoring.rules import Threshold
from tasks import claims, places
from tasks.config import load
from tests import registry_parts as parts

pytestmark = pytest.mark.prefect

START = datetime(2013, 1, 7, 6, tzinfo=UTC)  # the tiny file ends just before


def serve_rows(config, frame, *, version="1", flip=False):
    """Answer rows as a server would, and bring their labels an hour after each."""
    from models.bundle import Predictor
    from monitoring.records import Label, Prediction

    registry = places.registry(config)
    predictor = Predictor.load(registry.download(version, config.folder / "serving"))
    columns = {name: frame[name].to_numpy() for name in config.data.columns}
    answers = predictor.predict_proba(columns)
    predictions, labels = [], []
    for i, (row, answer) in enumerate(zip(frame.to_dict("records"), answers, strict=True)):
        when = row["due"].to_pydatetime()
        features = {n: None if row[n] != row[n] else row[n] for n in config.data.columns}
        name = f"{version}-{when.isoformat()}-{i}"
        predictions.append(Prediction(name, when, version, features, tuple(answer), 1.0))
        truth = row["late"]
        if flip:
            truth = "late" if truth == "on time" else "on time"
        labels.append(Label(name, truth, when + timedelta(hours=1)))
    with places.telemetry(config) as store:
        store.record(predictions)
        store.label(labels)


def registry_file(config, release, name):
    return places.registry(config).fetch_file(release.version, name, places.champion_folder(config))


@pytest.fixture
def config(tiny_config):
    config = load(tiny_config)
    parts.tables(config.folder)
    return config


@pytest.fixture
def champion(config, first_champion):
    """The first champion's outcome."""
    return first_champion(config)


def test_the_first_champion_beats_the_base_rate_and_is_whole(config, champion):
    release = places.registry(config).champion()
    assert champion.passed, champion.reason
    assert release is not None
    assert release.version == champion.version == "1"
    assert release.window_id == "first"
    # the search travels with the run
    for name in ("trials.jsonl", "asks.jsonl", "tuning.png", "performance.json"):
        assert registry_file(config, release, name).stat().st_size > 0


async def test_without_a_champion_watch_says_what_to_do(config):
    from flows.watch import watch

    with pytest.raises(Exception, match="everfit train"):
        await watch(config, START)


def test_a_window_is_retrained_once(config, champion):
    import asyncio

    from flows.retrain import retrain

    again = asyncio.run(retrain(config, "first", START + timedelta(days=1)))
    assert again == champion
    assert len(places.registry(config).versions()) == 1


def test_an_empty_window_is_too_little_data_and_never_no_drift(config, champion):
    import asyncio

    from flows.watch import watch

    decision = asyncio.run(watch(config, START + timedelta(days=1)))
    assert decision.rule == "too-little-data"
    assert not decision.retrain
    drift = [s for s in decision.signals.items if s.kind == "drift"]
    assert drift
    assert all(s.breached is None and s.reason for s in drift)


def test_the_world_moves_and_a_better_model_serves(config, champion, make_frame):
    import asyncio

    from flows.rollout import rollback
    from flows.watch import watch

    policy = replace(
        config.policy, confirmations=1, memory=1, cooldown=timedelta(hours=1), drifted_share=0.2
    )
    harm = Threshold("log_loss", worse_by=0.05)
    monitor = config.monitor.model_copy(update={"window": timedelta(days=10), "thresholds": [harm]})
    config = config.model_copy(update={"policy": policy, "monitor": monitor})
    moved = make_frame(900, seed=7, start=START.isoformat(), shift=25.0)
    serve_rows(config, moved, flip=True)
    now = START + timedelta(days=10)
    with places.claims(config) as book:  # somebody else retrains this model just now
        book.claim("rival", process_owner("another thread"), now, model=config.name)
        waiting = asyncio.run(watch(config, now))
        assert waiting.retrain, waiting
        assert places.registry(config).champion().version == "1"
        book.fail("rival", "it gave up", now)
    decision = asyncio.run(watch(config, now))  # asked again: the same decision, acted upon
    assert decision.reasons == waiting.reasons
    assert decision.rule == "performance"
    assert "log_loss" in decision.reasons[0]
    registry = places.registry(config)
    release = registry.champion()
    assert release is not None
    assert release.version == "2"
    assert release.window_id == decision.window_id  # traced from the model back to its window
    assert places.report_path(config, decision.window_id).exists()
    (kept,) = places.reports_workspace(config).glob("*/snapshots/*.json")
    tags = json.loads(kept.read_text(encoding="utf-8"))["tags"]
    assert tags == [decision.window_id, decision.action]

    before = asyncio.run(rollback(config, why="a test of the way back", now=now))
    assert before.version == "1"
    assert registry.champion().version == "1"


def _explained(config, decision):
    """Every kind of signal spoke, what moved is drawn, and the model is traced to its cause."""
    from monitoring.records import Kind
    from tasks import explaining, whatif

    spoke = {s.kind for s in decision.signals.items if s.breached is not None}
    # no server counted requests, and the first champion is on no probation
    assert spoke == set(Kind) - {Kind.SERVICE, Kind.PROBATION}
    assert not [s for s in decision.signals.items if s.reason.startswith("it failed")]
    told = explaining.told(config, decision.window_id)
    assert told.decision == decision
    assert told.outcome["version"] == "2"
    assert places.picture_path(config, decision.window_id).exists()
    assert decision.signals.moved[0].startswith("wind: median")
    answered, trace = explaining.traced(config, f"1-{START.isoformat()}-0")
    assert answered is None  # the first version was asked for by hand
    assert trace["version"]["window_id"] == "first"
    found = whatif.compare(config, replace(config.policy, confirmations=3, memory=3))
    assert found["own_rules_agree"] == found["recorded"]["checks"] == 1
    assert (found["recorded"]["retrains"], found["other"]["retrains"]) == (1, 0)


def test_a_challenger_that_is_no_better_is_refused_and_nothing_moves(config, champion, make_frame):
    import asyncio

    from flows.retrain import retrain

    same = make_frame(600, seed=3, start=START.isoformat())
    serve_rows(config, same)
    gate = replace(config.gate, margin=0.5)  # half a nat a row: nothing gains that
    strict = config.model_copy(update={"gate": gate})
    outcome = asyncio.run(retrain(strict, "tiny-window", START + timedelta(days=8)))
    assert not outcome.passed
    assert outcome.reason
    registry = places.registry(config)
    assert registry.champion().version == "1"
    assert registry.challenger() is None
    assert registry.by_window("tiny-window").version == outcome.version  # the record stays


def test_a_gate_that_cannot_compare_is_said_before_any_search(config):
    import asyncio

    from flows.retrain import retrain
    from models.errors import DataFault
    from tasks import tune

    strict = config.model_copy(update={"gate": replace(config.gate, minimum_rows=130)})
    with pytest.raises(
        DataFault, match=r"130 labelled rows or more.* got 120 of 600.* or lower it"
    ):
        asyncio.run(retrain(strict, "first", START))
    assert not (places.retrain_folder(config, "first") / tune.TRIALS).exists()
    made = asyncio.run(retrain(config, "first", START))  # the window was given back
    assert made.passed, made.reason

    refused = asyncio.run(retrain(strict, "second", START + timedelta(days=1)))
    assert (refused.version, refused.passed, refused.trials) == (None, False, 0)
    assert "gate.minimum_rows" in refused.reason
    assert not (places.retrain_folder(config, "second") / tune.TRIALS).exists()
    assert len(places.registry(config).versions()) == 1
    with places.telemetry(config) as store:
        assert store.state(config.name)["refusals"] == 1  # the policy backs off


def test_a_fault_gives_the_window_back(config, champion, monkeypatch):
    import asyncio

    from flows.retrain import retrain
    from tasks import prove

    def full_disk(*_args, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prove.register, "fn", full_disk)
        with pytest.raises(OSError, match="No space left"):
            asyncio.run(retrain(config, "w2", START + timedelta(days=1)))
    assert places.registry(config).champion().version == "1"
    outcome = asyncio.run(retrain(config, "w2", START + timedelta(days=1)))
    assert outcome.window_id == "w2"
    assert outcome.trials == config.train.warm_trials  # finished trials were not run again


def test_each_search_remembers_the_one_before_it(config, champion, monkeypatch):
    import asyncio
    import json

    from flows.retrain import retrain

    worst = []

    def least(_config, _searcher, trials, _standing):
        worst.append(max((t for t in trials if t.status == "complete"), key=lambda t: t.loss))
        return worst[0], "the worst"

    asyncio.run(retrain(config, "second", START + timedelta(days=1)))
    monkeypatch.setattr("tasks.tune.choose", least)
    asyncio.run(retrain(config, "third", START + timedelta(days=2)))
    learnt = [
        json.loads((places.retrain_folder(config, name) / "controller.json").read_text())["learnt"]
        for name in ("first", "second", "third")
    ]
    assert [memory["searches"] for memory in learnt] == [1, 2, 3]
    ages = {entry["age"] for entry in learnt[-1]["evidence"]}
    assert ages == {0, 1, 2}
    # and begins with what that one ended with, which need not be its luckiest trial
    folder = places.retrain_folder(config, "third")
    fitted = json.loads((folder / "bundle.json").read_text())["params"]
    assert [trial.params for trial in worst] == [fitted]
    assert learnt[-1]["incumbents"][0]["params"] == fitted


def test_a_run_that_died_after_promotion_ends_as_promoted(config, monkeypatch):
    import asyncio

    from flows.retrain import retrain

    def cut(*_args, **_options):
        raise SystemExit("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(claims.finish, "fn", cut)
        with pytest.raises(SystemExit):
            asyncio.run(retrain(config, "first", START))
    registry = places.registry(config)
    assert registry.champion().version == "1"
    outcome = asyncio.run(retrain(config, "first", START))
    assert outcome.passed, outcome.reason
    assert (outcome.version, outcome.trials) == ("1", config.train.trials)
    assert len(registry.versions()) == 1


def test_a_challenger_does_not_replace_a_champion_it_was_not_proven_against(
    config, champion, make_frame, monkeypatch
):
    import asyncio

    from flows.retrain import retrain
    from models.registry import Registry

    serve_rows(config, make_frame(900, seed=7, start=START.isoformat(), shift=25.0), flip=True)
    later = START + timedelta(days=10)
    real = Registry.register

    def overtaken(self, *args, **options):
        found = real(self, *args, **options)
        rival = real(self, *args, **{**options, "window_id": "rival"})
        promoted = {"decision_id": "rival", "who": "a rival", "why": "a race", "now": later}
        self.promote(rival.version, expected="1", **promoted)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "register", overtaken)
        outcome = asyncio.run(retrain(config, "late", later))
    assert not outcome.passed
    assert "version 3 is champion meanwhile" in outcome.reason
    assert places.registry(config).champion().version == "3"


def test_a_version_that_the_server_cannot_take_is_rolled_back(config, champion, make_frame):
    import asyncio
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from flows.retrain import retrain

    class Stuck(BaseHTTPRequestHandler):
        """A server that stays with version 1, and says why."""

        def do_GET(self):
            failed = {"version": "2", "reason": "it did not answer its own example"}
            body = {"name": "tiny", "versions": ["1"], "parameters": {"failed": failed}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    serve_rows(config, make_frame(900, seed=7, start=START.isoformat(), shift=25.0), flip=True)
    server = HTTPServer(("127.0.0.1", config.serving.port), Stuck)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        outcome = asyncio.run(retrain(config, "unservable", START + timedelta(days=10)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not outcome.passed
    assert "did not answer its own example" in outcome.reason
    registry = places.registry(config)
    assert registry.champion().version == "1"
    assert registry.version("2").tags["gate"] == "passed"  # it was better, and still does not serve
    assert "rolled_back_at" in registry.version("2").tags


def test_who_acts_is_recorded(config, champion):
    assert "@" in claims.here()
