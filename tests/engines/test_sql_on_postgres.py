"""Labelled rows from a query of PostgreSQL: its types, its cursor, its refusals."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml

from deployments.check import check
from deployments.postgres import Postgres
from models.errors import DataFault
from models.sql import SqlSource
from tasks import engines, sql_rows
from tasks.config import load

ROWS = 150_000
START = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """A database with a table of many rows, in a server whose zone is not UTC."""
    url = postgres.create("source")
    postgres.sql("ALTER DATABASE source SET timezone = 'America/New_York'")
    postgres.sql(
        f"""CREATE TABLE flights AS SELECT
        timestamptz '2013-01-01 00:00+00' + n * interval '1 minute' AS due,
        timestamp '2013-01-01 00:00' + n * interval '1 minute' AS due_utc,
        (n % 97)::numeric(6, 2) AS wind, n AS number, n % 2 = 0 AS even, 'EV'::text AS carrier,
        CASE WHEN n % 3 = 0 THEN 'late' ELSE 'on time' END AS late, repeat('x', 50) AS pad
        FROM generate_series(0, {ROWS - 1}) AS n""",
        "source",
    )
    yield url
    postgres.drop("source")


@pytest.mark.parametrize("time", ["due", "due_utc"])
def test_types_and_moments_are_the_same_whatever_the_servers_zone(url: str, time: str) -> None:
    query = f"SELECT * FROM flights WHERE {time} > :since AND {time} <= :until ORDER BY number"
    frame = SqlSource(url, query, time).read(START, START + timedelta(minutes=5))
    assert frame["number"].tolist() == [1, 2, 3, 4, 5]
    assert frame[time].tolist() == [START + timedelta(minutes=n) for n in range(1, 6)]
    assert [str(frame[c].dtype) for c in ("wind", "number", "even")] == ["float64", "int64", "bool"]


def test_a_long_result_is_never_in_memory_as_a_whole(url: str, postgres: Postgres) -> None:
    source = SqlSource(url, "SELECT due, wind, carrier, late, pad FROM flights", chunk_rows=5_000)
    rows, said = 0, ""
    tracemalloc.start()
    try:
        for part in source.chunks():
            rows += len(part)
            said = said or postgres.sql(
                "SELECT query FROM pg_stat_activity WHERE datname = 'source' AND pid <> "
                "pg_backend_pid() AND application_name = 'everfit'"
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == ROWS
    assert said.startswith("FETCH FORWARD")  # the server keeps the rest
    assert peak < 30 * 2**20  # all rows as Python's objects are ten times that


def test_a_query_cannot_write(url: str, postgres: Postgres) -> None:
    postgres.sql(
        "CREATE FUNCTION clear() RETURNS int LANGUAGE sql AS 'DELETE FROM flights RETURNING 1'",
        "source",
    )
    direct = "WITH gone AS (DELETE FROM flights RETURNING *) SELECT * FROM gone"
    for query in (direct, "SELECT clear()"):
        with pytest.raises(DataFault, match="take out what writes"):
            SqlSource(url, query).read()
    assert postgres.sql("SELECT count(*) FROM flights", "source") == str(ROWS)


def test_a_config_on_it_is_checked_and_read_with_the_password_of_the_environment(
    url: str, postgres: Postgres, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(tiny_config.read_text())
    raw["data"] |= {
        "source": url.replace(f":{postgres.password}@", "@"),
        "query": "SELECT * FROM flights WHERE due > :since ORDER BY due",
        "columns": {"wind": "number", "carrier": "category"},
    }
    tiny_config.write_text(yaml.safe_dump(raw))
    said = str(check(tiny_config))
    assert "set PGPASSWORD, or the whole URL in EVERFIT_DATA_URL" in said
    monkeypatch.setenv(engines.DATA, url)
    said = str(check(tiny_config))
    assert "is sound" in said
    assert "the first 100,000 rows" in said
    assert postgres.password not in said
    config = load(tiny_config)
    frame = sql_rows.read(config, START + timedelta(days=100))
    assert len(frame) == 100 * 1440 + 1
    again = sql_rows.read(config, START + timedelta(days=103))  # of these, two days are read
    assert len(again) == 103 * 1440 + 1
    pd.testing.assert_frame_equal(again.head(len(frame)), frame)
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    try:
        poor = url.replace(f"everfit:{postgres.password}", "reader:reader")
        with pytest.raises(DataFault, match=r"permission denied.*grant SELECT"):
            SqlSource(poor, "SELECT * FROM flights").read(most=1)
    finally:
        postgres.sql("DROP ROLE reader")
