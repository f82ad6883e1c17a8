"""Rows of a query: as a file would have them, chunk by chunk, and nothing but read."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from models import sql
from models.errors import DataFault
from models.sql import SqlSource

START = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with 100 rows, one an hour."""
    with sqlite3.connect(tmp_path / "rows.db") as made:
        made.execute("CREATE TABLE flights (due TEXT, wind REAL, hour INT, carrier TEXT, late INT)")
        rows = [
            (
                f"{START + timedelta(hours=n):%Y-%m-%d %H:%M:%S}",
                None if n % 10 == 3 else n / 2,
                n % 24,
                "AA" if n % 2 else None,
                n % 2 if n < 90 else None,
            )
            for n in range(100)
        ]
        made.executemany("INSERT INTO flights VALUES (?, ?, ?, ?, ?)", rows)
    made.close()
    return f"sqlite:///{tmp_path / 'rows.db'}"


def test_chunks_are_the_whole_with_the_types_of_a_file(url: str, tmp_path: Path) -> None:
    query = "SELECT due, wind, hour, carrier FROM flights ORDER BY due"
    whole = SqlSource(url, query).read()
    assert len(whole) == 100
    small = SqlSource(url, query, chunk_rows=7)
    assert [len(part) for part in small.chunks()] == [7] * 14 + [2]
    pd.testing.assert_frame_equal(small.read(), whole)
    assert [str(kind) for kind in whole.dtypes[["wind", "hour"]]] == ["float64", "int64"]
    assert whole["carrier"].tolist()[:2] == [None, "AA"]
    assert len(small.read(most=10)) == 10


def test_a_chunk_without_a_value_has_the_others_type(url: str) -> None:
    only = "CASE WHEN hour = 3 THEN {} END AS {}"
    columns = [only.format(*given) for given in (("1.5", "a"), ("2", "b"), ("'x'", "c"))]
    query = f"SELECT {', '.join(columns)}, NULL AS d FROM flights ORDER BY due"
    whole, parts = (SqlSource(url, query, chunk_rows=n).read() for n in (1000, 2))
    pd.testing.assert_frame_equal(whole, parts)
    assert [str(kind) for kind in parts.dtypes[["a", "b"]]] == ["float64", "float64"]


@pytest.mark.parametrize("where", ["", " WHERE due > :since AND due <= :until"])
def test_moments_are_bound_and_rows_outside_never_come(url: str, where: str) -> None:
    source = SqlSource(url, f"SELECT * FROM flights{where} ORDER BY due", "due")
    asked = source.read(START + timedelta(hours=4), START + timedelta(hours=9))
    assert asked["hour"].tolist() == [5, 6, 7, 8, 9]
    sent = sum(
        len(p) for p in source.chunks(START + timedelta(hours=4), START + timedelta(hours=9))
    )
    assert sent == (5 if where else 100)
    if not where:
        with pytest.raises(DataFault, match="need a time column"):
            SqlSource(url, "SELECT * FROM flights").read(START)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM flights", "a query is one SELECT, got 'DELETE FROM flights'"),
        ("SELECT 1; DROP TABLE flights", "a query is one SELECT"),
        ("SELECT * FROM flights WHERE hour = :hour", "are :since and :until, got :hour"),
        ("SELECT * FROM flight", "no such table: flight: correct data.query"),
        ("SELECT wind, wind FROM flights", r"\['wind'\] twice: name them with AS"),
        ("SELECT writefile('x', 'y')", "no such function"),
    ],
)
def test_a_query_that_cannot_be_used_says_why(url: str, query: str, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        SqlSource(url, query).read()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/rows.db", "no such file: /nowhere/rows.db"),
        ("nothing://host/db", "that SQLAlchemy knows"),
        ("oracle+cx_oracle://host/db", "oracle needs its driver"),
    ],
)
def test_a_database_that_is_not_there_says_so(url: str, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        SqlSource(url, "SELECT 1").read()


def test_more_rows_than_can_be_meant_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MOST_ROWS", 50)
    with pytest.raises(DataFault, match=r"50 rows at most.*narrow it"):
        SqlSource(url, "SELECT * FROM flights").read()


def test_what_only_looks_like_a_parameter_or_a_second_statement_is_none() -> None:
    query = (
        "SELECT ':a; x', due::date, \"b:c\" -- :d ; e\n, /* :f */ '{:g}' FROM t WHERE t > :since;"
    )
    assert sql.parameters(query) == {"since"}
    assert sql.check(query) == query
