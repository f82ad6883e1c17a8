"""The simulated clock: who is asked what and told what, and when, on made flights."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from deployments.demo import client as demo_client
from deployments.demo import flights as fl
from deployments.demo.client import Answers, Client, DemoFault
from deployments.demo.comparators import Frozen, Weekly
from deployments.demo.replay import replay
from deployments.demo.scoreboard import Scoreboard
from monitoring.records import Action, Decision, Signals, Window

START = fl.YEAR_STARTS


def made_rows(days=16, per_day=30, seed=0):
    """Flights spread over the day; one in ten is cancelled, the others land within 9 hours."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    minutes = np.sort(rng.integers(0, days * 1440, n))
    time = pd.Timestamp(START) + pd.to_timedelta(minutes, unit="min")
    rows = pd.DataFrame({"id": [f"f{i}" for i in range(n)], "time": time})
    for name in fl.CATEGORIES:
        rows[name] = pd.Categorical(rng.choice(["a", "b"], n))
    for name in fl.NUMBERS:
        rows[name] = rng.normal(size=n).astype("float32")
    rows.loc[0, "wind_gust"] = np.nan
    late = (rng.random(n) < 0.3).astype(float)
    cancelled = rng.random(n) < 0.1
    rows["late"] = np.where(cancelled, np.nan, late)
    rows["arrived"] = rows["time"] + pd.to_timedelta(rng.integers(30, 540, n), unit="min")
    rows.loc[cancelled, "arrived"] = pd.NaT
    return rows


class Constant:
    """A predictor that always says the same."""

    def __init__(self, p):
        self.p = p

    def predict_proba(self, columns):
        n = len(columns["distance"])
        return np.tile([1 - self.p, self.p], (n, 1))


class Server:
    """Answers with its version as the probability, and keeps a diary."""

    def __init__(self):
        self.version, self.asked, self.told = 1, [], []

    def ask(self, rows):
        self.asked.append(rows)
        return Answers((str(self.version),) * len(rows), np.full(len(rows), self.version / 10))

    def tell(self, rows):
        self.told.append((len(self.asked), rows))

    def settle(self, start, end, answered):
        asked = pd.concat(self.asked)["time"]
        assert answered == ((asked >= start) & (asked < end)).sum()


def keep(now):
    window = Window(f"w-{now:%d}", "demo", "1", now - fl.DAY, now, 0, 0)
    return Decision(window.id, now, Action.KEEP, "quiet", (), Signals(window, ()))


async def run(
    folder, rows, days, server, watch=None, fit=lambda table, place: (Constant(0.3), 2.0)
):
    async def quiet(now):
        return keep(now)

    board, seen = Scoreboard(days), []
    weekly = Weekly(fl.WORLD, Constant(0.2), fit, folder)
    totals = await replay(
        fl.WORLD,
        rows,
        start=START,
        days=days,
        served=server,
        watch=watch or quiet,
        frozen=Frozen(fl.WORLD, Constant(0.2)),
        weekly=weekly,
        board=board,
        on_day=seen.append,
    )
    return board, weekly, seen, totals


async def test_every_flight_is_asked_for_once_in_order_and_by_the_hour(tmp_path):
    rows, server = made_rows(), Server()
    _, _, seen, totals = await run(tmp_path, rows, 16, server)
    asked = pd.concat(server.asked)
    assert asked["id"].tolist() == rows["id"].tolist()
    for request in server.asked:
        assert request["time"].dt.floor("h").nunique() == 1
    assert totals.rows == len(rows)
    assert totals.requests == len(server.asked)
    assert totals.unlabelled == rows["late"].isna().sum()
    assert [d.number for d in seen] == list(range(16))


async def test_a_label_is_told_once_after_its_row_was_asked_for_and_not_before_it_came(tmp_path):
    rows, server = made_rows(), Server()
    await run(tmp_path, rows, 16, server)
    asked_before = {}
    for number, request in enumerate(server.asked):
        asked_before.update(dict.fromkeys(request["id"], number))
    told = pd.concat([labels for _, labels in server.told])
    assert told["id"].is_unique
    assert told["late"].notna().all()
    for requests, labels in server.told:
        assert all(asked_before[i] < requests for i in labels["id"])
        if requests < len(server.asked):  # the next request comes at least as late
            following = server.asked[requests]["time"].iloc[0]
            assert (labels["arrived"] <= following).all()
    last = START + 16 * fl.DAY
    assert set(told["id"]) == set(rows.loc[rows["arrived"] <= last, "id"])


async def test_watch_runs_at_the_end_of_each_day_and_the_next_answers_are_the_new_models(tmp_path):
    rows, server, calls = made_rows(), Server(), []

    async def watch(now):
        calls.append(now)
        if len(calls) == 3:
            server.version = 2
        return keep(now)

    board, _, seen, _ = await run(tmp_path, rows, 8, server, watch)
    assert calls == [START + (i + 1) * fl.DAY for i in range(8)]
    assert [d.version for d in seen] == ["1"] * 3 + ["2"] * 5
    day, _, p = board._all()
    assert set(p["everfit"][day < 3]) == {0.1}
    assert set(p["everfit"][day >= 3]) == {0.2}


async def test_weekly_refits_every_seventh_day_on_what_was_known_by_then(tmp_path):
    rows, tables = made_rows(), []

    def fit(table, place):
        tables.append(table)
        place.mkdir(parents=True)
        return Constant(0.3 + len(tables) / 10), 1.5

    board, weekly, _, _ = await run(tmp_path, rows, 16, Server(), fit=fit)
    assert weekly.retrains == 2
    assert weekly.seconds == 3.0
    for table, now in zip(tables, (START + 7 * fl.DAY, START + 14 * fl.DAY), strict=True):
        known = rows[(rows["arrived"] <= now) & (rows["time"] < now)]
        assert len(table) == len(known)
    day, _, p = board._all()
    assert set(p["weekly"][day < 7]) == {0.2}
    assert set(p["weekly"][(day >= 7) & (day < 14)]) == {0.4}
    assert set(p["frozen"]) == {0.2}
    assert [f.name for f in tmp_path.iterdir()] == ["02"]  # the fit before it is not kept


def answering(handler, count=lambda start, end: 0):
    made = Client(fl.WORLD, "http://server", count)
    made._http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(handler))
    return made


def test_the_client_sends_null_for_nan_and_reads_version_and_probability():
    rows = made_rows(days=1, per_day=3)
    bodies = []

    def handler(request):
        bodies.append((request.url.path, json.loads(request.content)))
        return httpx.Response(
            200,
            json={
                "model_version": "7",
                "predictions": [{"label": 0, "probability_0": 0.75, "probability_1": 0.25}] * 3,
            },
        )

    client = answering(handler)
    answer = client.ask(rows)
    assert answer.versions == ("7",) * 3
    assert answer.positive.tolist() == [0.25] * 3
    path, body = bodies[0]
    assert path == "/invocations"
    split = body["dataframe_split"]
    assert split["data"][0][split["columns"].index("wind_gust")] is None
    assert body["ids"] == rows["id"].tolist()
    assert pd.Timestamp(body["times"][0]) == rows["time"][0]


def test_a_refusal_by_the_server_ends_the_replay_with_its_words():
    client = answering(lambda request: httpx.Response(400, text="column 'temp': add it"))
    with pytest.raises(DemoFault, match=r"400: column 'temp'"):
        client.ask(made_rows(days=1, per_day=2))


def test_settle_waits_for_the_store_and_gives_up_with_a_reason(monkeypatch):
    counts = iter([1, 2, 3])
    client = answering(lambda request: httpx.Response(500), lambda start, end: next(counts))
    client.settle(START, START + timedelta(days=1), 3)
    monkeypatch.setattr(demo_client, "PATIENCE", 0.05)
    client = answering(lambda request: httpx.Response(500), lambda start, end: 1)
    with pytest.raises(DemoFault, match="2 of 3"):
        client.settle(START, START + timedelta(days=1), 3)
