"""Pairs of answers, requests' latencies and a roll-out's steps, kept in every kind of store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring import rollout_log, shadows
from monitoring.records import Label, Prediction
from monitoring.shadows import ShadowAnswer
from monitoring.telemetry import TelemetryStore

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CLASSES = ("on time", "late")


@pytest.fixture
def store(store_url):
    with TelemetryStore(store_url) as opened:
        yield opened


def answer(store, number, version, late, latency=1.0):
    when = NOW + number * SECOND
    p = Prediction(f"r{number}", when, version, {"hour": 7}, (1 - late, late), latency)
    store.record([p])


def shadow(number, version, *proba):
    return ShadowAnswer(f"r{number}", NOW + number * SECOND, version, proba)


def test_pairs_are_the_champions_and_the_challengers_whoever_answered(store):
    answer(store, 0, "6", 0.2)  # the champion answers, the challenger is shadow
    answer(store, 1, "7", 0.9)  # and the other way round
    answer(store, 2, "6", 0.3)  # nobody beside it
    answer(store, 3, "5", 0.3)  # of another roll-out
    answer(store, 4, "6", 0.4)
    batch = [shadow(0, "7", 0.7, 0.3), shadow(1, "6", 0.6, 0.4), shadow(3, "7", 0.5, 0.5)]
    batch += [shadow(4, "7", 0.2, 0.3, 0.5), shadow(9, "7", 0.5, 0.5)]  # 3 classes; no prediction
    for _ in range(2):  # sent again, stored once
        shadows.add(store.database, batch)
    store.label([Label("r0", "late", NOW + 60 * SECOND), Label("r1", "late", NOW + 90 * SECOND)])

    def found(since=NOW, until=NOW + 60 * SECOND):
        return shadows.pairs(store.database, "6", "7", since, CLASSES, until=until)

    pairs = found()
    order = np.argsort(pairs.champion[:, 1])
    assert pairs.champion[order].tolist() == [[0.8, 0.2], [0.6, 0.4]]
    assert pairs.challenger[order].round(9).tolist() == [[0.7, 0.3], [0.1, 0.9]]
    assert pairs.codes[order].tolist() == [1, -1]  # the second label comes later
    assert found(until=NOW + 90 * SECOND).codes.tolist() == [1, 1]
    assert len(found(since=NOW + SECOND).codes) == 1
    assert len(found(until=NOW - SECOND).codes) == 0


def test_a_request_of_many_rows_is_one_slow_request(store):
    for number in range(50):
        answer(store, number, "6", 0.2, latency=1.0 + number / 64)
    for number in range(50, 90):
        answer(store, number, "6", 0.2, latency=250.125)
    answer(store, 90, "7", 0.2, latency=9.0)
    until = NOW + 100 * SECOND
    found = shadows.latencies(store.database, "6", NOW, until)
    assert (len(found), (found > 100).sum()) == (51, 1)
    assert len(shadows.latencies(store.database, "6", NOW + 45 * SECOND, until)) == 6
    assert len(shadows.latencies(store.database, "6", None, until, limit=42)) == 3


def test_steps_are_kept_in_order_and_waits_do_not_pile_up(store):
    for number, (version, move) in enumerate(
        [("7", "next stage"), ("7", "wait"), ("7", "wait"), ("7", "promote"), ("8", "wait")]
    ):
        when = NOW + number * SECOND
        rollout_log.add(store.database, "tiny", version, when, move, {"n": number})
    kept = rollout_log.steps(store.database, "tiny")
    assert [(step["version"], step["n"]) for step in kept] == [
        ("7", 0), ("7", 2), ("7", 3), ("8", 4)
    ]  # fmt: skip
    assert [step["n"] for step in rollout_log.steps(store.database, "tiny", "7", limit=1)] == [3]
    assert rollout_log.steps(store.database, "other") == []
