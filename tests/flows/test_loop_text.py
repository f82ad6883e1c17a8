"""A model of texts through the whole loop: train, serve, label, watch, retrain, roll out, serve."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from deployments.serving.app import create_app
from deployments.serving.asgi import Asgi
from tasks import places
from tasks.config import load

pytestmark = pytest.mark.prefect

START = datetime(2002, 3, 1, tzinfo=UTC)
TEN = timedelta(minutes=10)
HAM = ["meeting", "report", "patch", "kernel", "tomorrow", "thanks", "review", "lunch"]
SPAM = ["viagra", "mortgage", "winner", "cash", "urgent", "offer", "cheap", "pills"]
CRYPTO = ["wallet", "token", "airdrop", "ledger", "yield", "staking", "moon", "bridge"]
COMMON = ["the", "a", "to", "of", "and", "you", "is", "for"]
CONFIG = """\
name: mails
task: text
data:
  source: mails.csv
  target: spam
  time: when
  columns: {subject: text, body: text, links: number}
  classes: [ham, spam]
train: {families: [tfidf], trials: 1, warm_trials: 1, seconds: 20, parallel: 1}
monitor:
  window: 10d
  minimum_rows: 50
  minimum_labels: 50
  permutations: 99
  mmd_rows: 100
  thresholds: [{metric: log_loss, worse_by: 0.05}]
policy: {minimum_new_labels: 50, confirmations: 1, memory: 1, cooldown: 1h}
gate: {rows: 150, minimum_rows: 50, resamples: 200}
rollout:
  stages: [{mode: shadow, minimum: 1m, maximum: 1h, requests: 50}]
  guards: {prediction_drift: 0.5}  # the world has moved, so the two differ
serving: {poll_seconds: 0.05, flush_seconds: 0.05}
"""


def mails(rows, seed, start, spam_words):
    """Every half hour one; a third is spam, by its words and hardly by its links."""
    rng = np.random.default_rng(seed)
    spam = rng.random(rows) < 1 / 3

    def words(count, which):
        telling = np.where(
            rng.random((rows, count)) < 0.25, which, rng.choice(COMMON, (rows, count))
        )
        return [" ".join(row) for row in telling]

    def of(count):
        ham, bad = rng.choice(HAM, (rows, count)), rng.choice(spam_words, (rows, count))
        return np.where(spam[:, None], bad, ham)

    return pd.DataFrame(
        {
            "when": pd.date_range(start, periods=rows, freq="30min"),
            "subject": words(4, of(4)),
            "body": [
                f"{text} zwölf" if i % 7 else None for i, text in enumerate(words(12, of(12)))
            ],
            "links": rng.poisson(1 + spam),
            "spam": np.where(spam, "spam", "ham"),
        }
    )


@pytest.fixture
def config(tmp_path, free_port):
    frame = mails(400, 0, START - timedelta(days=9), SPAM)
    frame.to_csv(tmp_path / "mails.csv", index=False)
    path = tmp_path / "mails.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return load(path, serving__port=free_port)


async def asked(client, frame):
    """Ask about rows as a client would, and tell their labels an hour after each."""
    versions, labels = set(), []
    for start in range(0, len(frame), 100):
        part = frame.iloc[start : start + 100]
        rows = json.loads(part[["subject", "body", "links"]].to_json(orient="split", index=False))
        times = [when.isoformat() for when in part["when"]]
        answer = await client.post("/invocations", json={"dataframe_split": rows, "times": times})
        assert answer.status_code == 200, answer.text
        versions.add(answer.json()["model_version"])
        labels += [
            {"id": id_, "label": label, "time": (when + timedelta(hours=1)).isoformat()}
            for id_, label, when in zip(
                answer.json()["ids"], part["spam"], part["when"], strict=True
            )
        ]
    told = await client.post("/labels", json={"labels": labels})
    assert told.status_code == 200, told.text
    return versions


async def until(holds):
    """Wait for what a thread of the server is about to do."""
    for _ in range(1_200):
        if found := holds():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen within 60 s")


async def through(config):
    """The second half of the loop, with a server in it; the versions that answered, in turn."""
    from flows.rollout import advance
    from flows.watch import watch
    from monitoring import shadows

    now, answered = [START], []
    app = create_app(config, clock=lambda: now[0])
    service = app.state.service
    await app.startup()
    try:
        service.follower.first_look(60)
        transport = httpx.ASGITransport(app=Asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answered.append(await asked(client, mails(360, 7, START, CRYPTO)))
            service.writer.flush()
            now[0] = START + timedelta(days=10)
            decision = await watch(config, now[0])
            await until(lambda: service.slots.challenger)
            shadowed = mails(100, 8, now[0], CRYPTO)
            shadowed["when"] = now[0] + pd.to_timedelta(np.arange(100), unit="s")
            answered.append(await asked(client, shadowed))
            service.writer.flush()
            database, classes, ten = service.store.database, config.data.classes, now[0] + TEN
            since = now[0]
            about = (database, "1", "2", since, classes)
            await until(lambda: len(shadows.pairs(*about, until=ten).codes) >= 50)
            for _ in range(100):  # what the shadow answered comes row by row; a look costs nothing
                step = await advance(config, ten)
                if step.move != "wait":
                    break
                await asyncio.sleep(0.05)
            assert step.move == "promote", step
            await until(lambda: service.slots.current.release.version == "2")
            answered.append(await asked(client, mails(10, 9, now[0] + timedelta(days=1), CRYPTO)))
            service.writer.flush()
        return decision, answered
    finally:
        await app.shutdown()


def test_a_model_of_texts_goes_through_the_whole_loop(config, caplog):
    from flows.retrain import retrain
    from models.bundle import Predictor
    from tasks import explaining
    from tasks.status import status

    caplog.set_level(logging.DEBUG)
    first = asyncio.run(retrain(config, "first", START))
    assert first.passed, first.reason
    decision, answered = asyncio.run(through(config))
    assert decision.retrain, decision
    assert not [s for s in decision.signals.items if s.reason.startswith("it failed")]
    assert decision.signals.report
    assert decision.signals.picture
    told = explaining.told(config, decision.window_id)
    assert told.outcome["version"] == "2"
    assert answered == [{"1"}, {"1"}, {"2"}]

    registry = places.registry(config)
    champion = registry.champion()
    assert champion.version == "2"
    bundle = Predictor.load(registry.download("2", config.folder / "serving"))
    fresh = mails(200, 11, START, CRYPTO)
    columns = {name: fresh[name].tolist() for name in config.data.columns}
    spam = bundle.predict_proba(columns)[:, 1] > 0.5
    assert (spam == (fresh["spam"] == "spam")).mean() > 0.95  # it has learnt the new words

    import mlflow.pyfunc  # the version is MLflow's as well, and says what it reads

    kept = next((config.artifacts / champion.run_id).rglob("MLmodel")).parent
    theirs = mlflow.pyfunc.load_model(str(kept))
    assert "['subject': string (required), 'body': string (required), 'links': double" in str(
        theirs.metadata.signature
    )
    asked_of = fresh[list(config.data.columns)].astype({"links": "float64"})
    np.testing.assert_allclose(
        theirs.predict(asked_of)["probability_spam"], bundle.predict_proba(columns)[:, 1]
    )
    assert status(config)["champion"]["version"] == "2"
    leaked = [word for word in ("viagra", "airdrop", "staking") if word in caplog.text]
    assert not leaked
