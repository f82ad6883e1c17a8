"""How a store's database is reached: engines, what each connection and transaction begins with.

A PostgreSQL URL may name a `schema`: `postgresql://user@host/everfit?schema=everfit_churn`. Each
transaction sets its search path, so that it holds behind a pooler as well. A schema that is not
there is made when the store is opened.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from monitoring.errors import StoreFault

WAIT_SECONDS = 15.0  # for another writer, before 'locked' is an answer
_CONNECT_SECONDS = 10  # for a server to answer at all
_POOL = 5  # connections that a process keeps open to PostgreSQL, and as many more under load
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_LOCK = 0x65766572  # PostgreSQL advisory lock: one arbitrary number of ours

# What the driver says -> what a person does about it; the first match speaks.
_REMEDIES = (
    ("no space", "free disk space; nothing of this call was written, so it can be sent again"),
    ("full", "free disk space; nothing of this call was written, so it can be sent again"),
    ("readonly", "give this user write permission on the file and its folder"),
    ("read-only", "give this user write permission on the file and its folder"),
    ("unable to open", "check that the folder exists and is writable"),
    ("malformed", "move the file aside and restore a copy (`sqlite3 FILE .recover` saves rows)"),
    ("not a database", "move the file aside: it is no SQLite database"),
    ("i/o error", "check the disk and its free space; nothing of this call was written"),
    ("locked", "another process holds the store: end it, or use PostgreSQL for many writers"),
    ("lock timeout", "another process holds the store for long: see pg_stat_activity which one"),
    ("deadlock", "nothing of this call was written: send it again"),
    ("no such", "the store was made by another version of everfit: move it aside"),
    ("surrogates", "send text that is valid Unicode"),
    ("password", "set PGPASSWORD, or an entry in ~/.pgpass, to the password of that user"),
    ("permission denied", "have the database's owner grant it, or make the schema beforehand"),
    ("too many clients", "raise the server's max_connections, or run fewer workers"),
    ("connection slots", "raise the server's max_connections, or run fewer workers"),
    ("fatal:  database", "make it with `createdb`, or correct the URL"),
    ("connection", "check that the database server runs and that the URL is right"),
)


def connect(url: str | URL) -> Engine:
    """An engine on the database at `url`; nothing is opened yet. Raises StoreFault."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreFault(
            f"a store is a database URL, got {hidden(str(url))!r}: sqlite:///FILE"
        ) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise StoreFault(f"a store is SQLite or PostgreSQL, got {kind}: use one of these")
    return _postgres(parsed) if kind == "postgresql" else _sqlite(parsed)


def prepared(engine: Engine) -> Engine:
    """The same engine, whose connections and transactions begin as a store's must."""
    if engine.dialect.name == "sqlite" and not event.contains(engine, "begin", _begin):
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _begin)
    if engine.dialect.name == "postgresql" and not event.contains(engine, "begin", _begin_there):
        event.listen(engine, "begin", _begin_there)
    return engine


def schema_of(engine: Engine) -> str | None:
    """The PostgreSQL schema that the engine's URL named."""
    name: str | None = engine.get_execution_options().get("everfit_schema")
    return name


def _postgres(url: URL) -> Engine:
    schema = url.query.get("schema")
    if schema is not None and not (isinstance(schema, str) and _SCHEMA.fullmatch(schema)):
        raise StoreFault(
            f"a schema has letters, digits, _ and -, 63 at most, got {schema!r}: name another"
        )
    url = url.difference_update_query(["schema"])
    given: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": "everfit"}
    if url.get_driver_name() in ("psycopg", "postgresql", ""):
        given["prepare_threshold"] = None  # a pooler hands out another connection each time
    try:
        return create_engine(
            url,
            pool_pre_ping=True,  # a server that was restarted costs no call
            pool_size=_POOL,
            max_overflow=_POOL,
            pool_timeout=WAIT_SECONDS,
            connect_args={key: value for key, value in given.items() if key not in url.query},
            execution_options={"everfit_schema": schema} if schema else {},
        )
    except ModuleNotFoundError as fault:
        raise StoreFault(
            f"PostgreSQL needs its driver ({fault}): pip install 'everfit[postgres]', or "
            "'psycopg[binary]'"
        ) from None


def _sqlite(url: URL) -> Engine:
    path = url.database
    if path in (None, "", ":memory:"):
        raise StoreFault(f"a store outlives its process, got {url}: name a file, sqlite:///FILE")
    if not str(path).startswith("file:"):
        folder = Path(str(path)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise StoreFault(
                f"the store's folder {folder} cannot be made ({fault.strerror}): name another "
                "folder, or make it"
            ) from None
    return create_engine(url, connect_args={"timeout": WAIT_SECONDS})


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: the driver's own would begin too late
    cursor = connection.cursor()
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        # Two processes may open a new file at once, and this switch does not wait for its lock.
        while True:
            try:
                cursor.execute("PRAGMA journal_mode=WAL").fetchall()
                break
            except sqlite3.OperationalError as fault:
                if "locked" not in str(fault) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA journal_size_limit=67108864")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    # A writer takes its lock at once: a reader that turns into a writer half-way cannot wait for
    # another writer and would be answered 'locked' at any load.
    options = connection.get_execution_options()
    writes = options.get("everfit_write", False)
    if writes:
        level = "FULL" if options.get("everfit_lasting", False) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_there(connection: Connection) -> None:
    """All that a transaction on PostgreSQL begins with, in one message to the server."""
    options = connection.get_execution_options()
    said = []
    if options.get("everfit_write", False):
        said.append(f"SET LOCAL lock_timeout = {WAIT_SECONDS * 1000:.0f}")
    else:  # several queries of one reader see one and the same moment
        said.append("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    if schema := options.get("everfit_schema"):
        said.append(f'SET LOCAL search_path TO "{schema}"')
    connection.exec_driver_sql("; ".join(said))


def alone(connection: Connection) -> None:
    """Wait until no other writer of the same schema is in a transaction that called this."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(current_setting('search_path')))"
        )


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Turn what the database raises into a StoreFault that says what to do."""
    try:
        yield
    except (SQLAlchemyError, UnicodeEncodeError) as fault:
        original = getattr(fault, "orig", None) or fault
        said = hidden(str(original).strip() or type(original).__name__)
        lower = said.lower()
        remedy = next((r for mark, r in _REMEDIES if mark in lower), None)
        raise StoreFault(
            f"{where} refused: {said}: {remedy or 'see the message of the database'}"
        ) from fault


def hidden(text: str) -> str:
    """`text` without the passwords of the URLs in it.

    >>> hidden("postgresql://me:s3cr@t@host/db?password=x refused")
    'postgresql://me:***@host/db?password=*** refused'
    """
    text = re.sub(r"(://[^:/?@\s]*):[^\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)(password=)[^&\s'\"]*", r"\1***", text)


def shown(url: URL) -> str:
    """A store's URL for a person: nothing secret, and on PostgreSQL without the driver's options.

    >>> shown(make_url("postgresql://me:secret@host/db?password=x&schema=everfit_a"))
    'postgresql://me:***@host/db?schema=everfit_a'
    """
    if url.get_backend_name() == "postgresql":
        schema = url.query.get("schema")
        url = url.set(query={"schema": schema} if schema else {})
    return hidden(url.render_as_string(hide_password=True))
