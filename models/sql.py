"""Labelled rows from a query of a database, read in chunks, with its moments bound.

The query is one SELECT. `:since` and `:until` in it are bound to moments (UTC; on SQLite, which has
no type for them, to text as its own `datetime()` writes it). It runs in a transaction that can only
read. On PostgreSQL the server keeps the result and hands it out chunk by chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.data import times
from models.errors import DataFault, hidden
from models.sql_frames import frame, joined

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection

CHUNK_ROWS = 20_000  # that exist as Python's objects at a time
MOST_ROWS = 50_000_000  # more is a mistake in the query
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_CONNECT_SECONDS = 10
_NAMES = ("since", "until")
# A quoted text, a quoted name or a comment: what stands in it is no part of the statement.
_ASIDE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.S)


@dataclass(frozen=True, slots=True)
class SqlSource:
    """A query at a database's URL; `time` names the column that moments are held against."""

    url: str
    query: str
    time: str | None = None
    chunk_rows: int = CHUNK_ROWS

    def read(
        self,
        after: datetime | None = None,
        until: datetime | None = None,
        *,
        most: int | None = None,
    ) -> pd.DataFrame:
        """All rows, or those later than `after` and not later than `until` (both aware); of them
        the first `most`. Raises DataFault.

        Where the query has no `:since` or `:until` it is asked for all rows, and what lies outside
        is left out here.
        """
        import pandas as pd

        rows = joined(list(self.chunks(after, until, most=most)))
        if not len(rows) or (after is None and until is None):
            return rows
        if self.time is None:
            raise DataFault(
                "rows of a time need a time column and the query has none named: name it as "
                "data.time"
            )
        when = times(rows, self.time)
        inside = pd.Series(True, index=rows.index)
        if after is not None:
            inside &= when > after
        if until is not None:
            inside &= when <= until
        return rows if inside.all() else rows[inside].reset_index(drop=True)

    def chunks(
        self,
        after: datetime | None = None,
        until: datetime | None = None,
        *,
        most: int | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The rows in the query's order, `chunk_rows` at a time; at least one chunk, maybe empty.

        Raises DataFault, also for more rows than `MOST_ROWS`.
        """
        from sqlalchemy import text

        statement = text(self.query)
        with (
            self._reading() as connection,
            connection.execution_options(
                stream_results=True, max_row_buffer=self.chunk_rows
            ).execute(statement, self._moments(connection, after, until)) as result,
        ):
            names = [str(name) for name in result.keys()]  # noqa: SIM118 - no dict
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise DataFault(
                    f"column names must differ, the query gives {repeated} twice: name them with AS"
                )
            total = 0
            while True:
                size = self.chunk_rows if most is None else min(self.chunk_rows, most - total)
                rows = result.fetchmany(size) if size > 0 else []
                if rows or not total:
                    yield frame(rows, names)
                total += len(rows)
                if total > MOST_ROWS:
                    raise DataFault(
                        f"a query gives {MOST_ROWS:,} rows at most, and more came: narrow it, for "
                        "instance to the last years"
                    )
                if not rows:
                    return

    def _moments(
        self, connection: Connection, after: datetime | None, until: datetime | None
    ) -> dict[str, Any]:
        given = {"since": after or _BEGINNING, "until": until or datetime.now(UTC)}
        used = {name: value for name, value in given.items() if name in parameters(self.query)}
        if connection.dialect.name == "sqlite":
            return {k: f"{v.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for k, v in used.items()}
        return {name: value.astimezone(UTC) for name, value in used.items()}

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection in a transaction that can only read; what it raises is a DataFault."""
        from sqlalchemy import NullPool, create_engine, make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

        check(self.query)
        try:
            url = make_url(self.url)
            kind = url.get_backend_name()
            engine = create_engine(url, poolclass=NullPool, connect_args=_connect_args(kind))
        except (ArgumentError, NoSuchModuleError) as fault:
            raise DataFault(
                f"data.source is a database's URL that SQLAlchemy knows ({hidden(str(fault))}): "
                "write it as postgresql://USER@HOST/DATABASE"
            ) from None
        except ModuleNotFoundError as fault:
            raise DataFault(
                f"{kind} needs its driver ({fault}): install it, for PostgreSQL with pip install "
                "'everfit[postgres]'"
            ) from None
        if kind == "sqlite" and not Path(url.database or "").is_file():
            raise DataFault(
                f"no such file: {url.database}: correct data.source, or make the database first"
            )
        try:
            with engine.connect() as connection:
                if kind == "sqlite":
                    connection.exec_driver_sql("PRAGMA query_only=ON")
                elif kind in ("postgresql", "mysql", "mariadb"):
                    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                if kind == "postgresql":  # moments are compared in UTC, whatever the server's zone
                    connection.exec_driver_sql("SET LOCAL timezone TO 'UTC'")
                yield connection
        except SQLAlchemyError as fault:
            said = hidden(str(getattr(fault, "orig", None) or fault).strip())
            raise DataFault(
                f"data.query must run at {shown(self.url)}; the database says: {said}: "
                f"{_remedy(said)}"
            ) from fault
        finally:
            engine.dispose()


def check(query: str) -> str:
    """`query` if it is one statement that reads, with no other parameters than the two.

    Raises DataFault.
    """
    bare = _ASIDE.sub(" ", query).strip().rstrip(";").strip()
    if not re.match(r"(?i)(select|with|table|values)\b", bare) or ";" in bare:
        raise DataFault(f"a query is one SELECT, got {query.strip()[:60]!r}: write it as that")
    if foreign := sorted(parameters(query) - set(_NAMES)):
        raise DataFault(
            f"a query's parameters are :since and :until, got :{foreign[0]}: write its value, or "
            "\\: for a colon that is none"
        )
    return query


def parameters(query: str) -> set[str]:
    """The names behind a colon, as SQLAlchemy takes them.

    >>> sorted(parameters("SELECT a::int, ':x' FROM t WHERE due > :since"))
    ['since']
    """
    return set(re.findall(r"(?<![:\w\\]):(\w+)(?!:)", _ASIDE.sub(" ", query)))


def shown(url: str) -> str:
    """A database for a person: without its password and its driver's options."""
    return hidden(url).partition("?")[0]


def _connect_args(kind: str) -> dict[str, Any]:
    if kind == "postgresql":
        return {"connect_timeout": _CONNECT_SECONDS, "application_name": "everfit"}
    return {}


def _remedy(said: str) -> str:
    lower = said.lower()
    if "password" in lower:
        return "set PGPASSWORD, or the whole URL in EVERFIT_DATA_URL"
    if "permission denied" in lower:
        return "grant SELECT to this user"
    if any(mark in lower for mark in ("read-only", "readonly", "data-modifying")):
        return "a query may only read: take out what writes"
    if "connection" in lower:
        return "check that the server runs and that data.source is right"
    return "correct data.query"
