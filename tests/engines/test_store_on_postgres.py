"""What only a server can do to a store: many writers, restarts, roles, neighbours."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from deployments.postgres import Postgres
from deployments.serving.metrics import Metrics
from deployments.serving.served import Served
from deployments.serving.spool import Spool
from deployments.serving.telemetry_writer import TelemetryWriter
from monitoring import rollout_log
from monitoring.connecting import alone
from monitoring.errors import StoreFault
from monitoring.records import Label, Prediction, RequestCount
from monitoring.telemetry import TelemetryStore

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 1, 1, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime
from monitoring.records import Label, Prediction, RequestCount
from monitoring.telemetry import TelemetryStore
now = datetime(2013, 1, 1, tzinfo=UTC)
with TelemetryStore(sys.argv[1]) as store:
    sys.stdin.readline()
    for n in range(20):
        own, shared = (
            [Prediction(f"{who}-{n}-{i}", now, "1", {"x": i}, (0.5, 0.5), 1.0) for i in range(50)]
            for who in (sys.argv[2], "shared")
        )
        if int(sys.argv[2]) % 2:
            shared.reverse()
        store.record([*own, *shared])
        store.label([Label(p.id, 1, now) for p in [*own[:10], *shared[:10]]])
        store.record_counts([RequestCount(now, "/invocations", "1", 1, 50, 0, 0)])
"""


def row(name: str) -> Prediction:
    return Prediction(name, NOW, "1", {"x": 1}, (0.5, 0.5), 1.0)


def test_writers_of_several_processes_lose_and_double_nothing(store_url: str) -> None:
    TelemetryStore(store_url).close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store_url, str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    time.sleep(1.5)
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    with TelemetryStore(store_url) as store:
        counts = store.counts()
        (asked,) = store.counts_between(NOW, NOW + timedelta(minutes=1))
    assert counts["predictions"] == 4 * 20 * 50 + 20 * 50
    assert counts["labelled"] == counts["labels"]
    assert counts["conflicts"] == 0
    assert (asked.requests, asked.rows) == (80, 4000)


def test_the_steps_of_a_roll_out_are_kept(store: TelemetryStore) -> None:
    for number, move in enumerate(("enter", "wait", "wait", "next")):
        at = NOW + timedelta(minutes=number)
        rollout_log.add(store.database, "m", "2", at, move, {"move": move, "number": number})
    found = rollout_log.steps(store.database, "m")
    assert [(step["move"], step["number"]) for step in found] == [
        ("enter", 0),
        ("wait", 2),
        ("next", 3),
    ]


def test_a_process_holds_ten_connections_at_most(store_url: str, postgres: Postgres) -> None:
    most = 0
    with TelemetryStore(store_url) as store:
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                store.counts()

        threads = [threading.Thread(target=read) for _ in range(30)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everfit'"
            most = max(most, int(postgres.sql(counted)))
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
    assert 2 <= most <= 10


def test_a_restart_costs_the_call_under_way_and_no_row(
    store_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    with TelemetryStore(store_url) as store:
        writer = TelemetryWriter(
            store, Metrics(), flush_seconds=0.05, spool=Spool(tmp_path / "spool", 2**24)
        )
        writer.start()
        sent = 0
        try:
            for phase in ("up", "down", "up again"):
                if phase == "down":
                    postgres.kill()
                    with pytest.raises(StoreFault, match="check that the database server runs"):
                        store.counts()
                if phase == "up again":
                    postgres.start()
                for _ in range(20):
                    ids = [f"r{sent}-{n}" for n in range(5)]
                    answers = [(0.5, 0.5)] * 5
                    served = Served(ids, NOW.timestamp(), "1", {"x": [1] * 5}, answers, 1.0)
                    assert writer.add(served)
                    sent += 1
                    time.sleep(0.02)
            assert store.counts()["predictions"] > 0  # the first call after the restart
            deadline = time.monotonic() + 60
            while store.counts()["predictions"] < 5 * sent and time.monotonic() < deadline:
                time.sleep(0.1)
            assert store.counts()["predictions"] == 5 * sent
        finally:
            writer.close()


def test_models_share_a_database_and_nothing_in_it(stores: str) -> None:
    names = [f"{stores}?schema=everfit_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    with TelemetryStore(names[0]) as one, TelemetryStore(names[1]) as other:
        one.record([row("a")])
        assert other.counts()["predictions"] == 0
        with one.database.write():  # alone in writing, but not in the other's schema
            began = time.monotonic()
            other.label([Label("a", 1, NOW)])
            assert time.monotonic() - began < 5
        assert one.counts()["labels"] == 0


def test_a_reader_sees_one_moment(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        store.record([row("a")])
        count = text("SELECT count(*) FROM predictions")
        with store.database.read() as reading:
            assert reading.scalar(count) == 1
            store.record([row("b")])
            assert reading.scalar(count) == 1
            with pytest.raises(Exception, match="read-only transaction"):
                reading.execute(text("DELETE FROM predictions"))


def test_a_writer_that_waits_too_long_is_told_why(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.connecting.WAIT_SECONDS", 0.2)
    with TelemetryStore(store_url) as store, store.database.append() as holding:
        alone(holding)
        with pytest.raises(StoreFault, match=r"lock timeout.*pg_stat_activity"):
            store.label([Label("a", 1, NOW)])


def test_a_user_who_may_not_make_tables_is_told_who_can(stores: str, postgres: Postgres) -> None:
    postgres.sql("CREATE ROLE poor LOGIN PASSWORD 'poor'", "stores")
    poor = stores.replace(f"everfit:{postgres.password}", "poor:poor")
    try:
        with pytest.raises(StoreFault, match=r"permission denied.*make the schema beforehand"):
            TelemetryStore(f"{poor}?schema=everfit_new")
        postgres.sql("CREATE SCHEMA everfit_new AUTHORIZATION poor", "stores")
        with TelemetryStore(f"{poor}?schema=everfit_new") as store:
            assert store.record([row("a")]) == (1, 0)
    finally:
        postgres.sql("DROP SCHEMA IF EXISTS everfit_new CASCADE", "stores")
        postgres.sql("DROP ROLE poor", "stores")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wr0ng"}, r"password authentication failed.*set PGPASSWORD"),
        ({"database": "nope"}, r"does not exist.*make it with `createdb`"),
        ({"port": 1}, r"check that the database server runs"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy_and_without_the_password(
    store_url: str, postgres: Postgres, change: dict[str, Any], message: str
) -> None:
    from sqlalchemy import make_url

    url = make_url(store_url).set(**change)
    with pytest.raises(StoreFault, match=message) as caught:
        TelemetryStore(url)
    assert "wr0ng" not in str(caught.value)
    assert postgres.password not in str(caught.value)


def test_the_password_may_come_from_the_environment(
    store_url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    with TelemetryStore(store_url.replace(f":{postgres.password}@", "@")) as store:
        store.record([replace(row("a"), latency_ms=2.0)])
        store.record_counts([RequestCount(NOW, "/", "1", 1, 1, 0, 0)])
        assert store.counts()["predictions"] == 1
