"""The database under the telemetry store and the claims: connections, transactions, faults, times.

SQLite in WAL mode, PostgreSQL through the same code. All that depends on the dialect stands here.
A committed transaction survives `kill -9` of its process on both, and a power cut never leaves half
of one. What survives a power cut as well is a transaction's own choice on SQLite: a `lasting` one
(labels, whose sender was told that they are kept) is on the disk when it returns, with all before
it (`synchronous=FULL`); of the others (predictions) the last moments may be missing
(`synchronous=NORMAL`). On PostgreSQL every commit is on the disk.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    TextClause,
    create_engine,
    event,
    insert,
    inspect,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from monitoring.errors import RecordFault, StoreFault
from monitoring.tables import VERSION, layout, metadata

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WAIT_SECONDS = 15.0  # for another writer, before 'locked' is an answer
_LOCK = 0x65766572  # PostgreSQL advisory lock: one arbitrary number of ours
_YEARS = range(1700, 2262)  # what a nanosecond time of pandas can hold

# What the driver says -> what a person does about it; the first match speaks.
_REMEDIES = (
    ("full", "free disk space; nothing of this call was written, so it can be sent again"),
    ("readonly", "give this user write permission on the file and its folder"),
    ("read-only", "give this user write permission on the file and its folder"),
    ("unable to open", "check that the folder exists and is writable"),
    ("malformed", "move the file aside and restore a copy (`sqlite3 FILE .recover` saves rows)"),
    ("not a database", "move the file aside: it is no SQLite database"),
    ("i/o error", "check the disk and its free space; nothing of this call was written"),
    ("locked", "another process holds the store: end it, or use PostgreSQL for many writers"),
    ("no such", "the store was made by another version of everfit: move it aside"),
    ("surrogates", "send text that is valid Unicode"),
    ("connection", "check that the database server runs and that the URL is right"),
)


class Database:
    """One engine, opened and checked. Safe for several threads; not for use across a fork.

    `target` is a URL, or an Engine that stays its owner's to dispose of. Raises StoreFault when the
    store cannot be opened, is no database, or has another layout.
    """

    def __init__(self, target: str | URL | Engine) -> None:
        self._owned = not isinstance(target, Engine)
        self.engine = target if isinstance(target, Engine) else _engine(target)
        if self.engine.dialect.name == "sqlite" and not event.contains(
            self.engine, "begin", _begin
        ):
            event.listen(self.engine, "connect", _pragmas)
            event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(everfit_write=True)
        self._lasting = self.engine.execution_options(everfit_write=True, everfit_lasting=True)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self.read() as connection:
            inspector = inspect(connection)
            ready = inspector.has_table(layout.name)
            whole = ready and all(inspector.has_table(name) for name in metadata.tables)
        try:
            if not whole:
                with self.write() as connection:  # the lock makes a second process wait, find it
                    metadata.create_all(connection)
                    connection.execute(self.insert(layout), {"version": VERSION})
        except StoreFault as fault:
            if not ready:
                raise
            # made before a table was added, and now read-only: all that it holds can be read
            _log.warning("a table could not be added to an older store: %s", fault)
        with self.read() as connection:
            found = connection.scalar(select(layout.c.version))
        if found != VERSION:
            raise StoreFault(
                f"{self} has layout version {found}, this everfit reads {VERSION}: use the everfit "
                "that made it, or move it aside to begin a new one"
            )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot; never waits for a writer."""
        with faults(str(self)), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, lasting: bool = False, overwrite: bool = False) -> Iterator[Connection]:
        """A transaction that is alone in writing: all of it is committed, or nothing.

        A `lasting` one is on the disk when the block has ended, whatever happens to the machine.
        With `overwrite`, what it deletes is zeroed in SQLite's file.
        """
        with faults(str(self)), (self._lasting if lasting else self._writer).begin() as connection:
            if overwrite and self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            if self.engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection

    @contextmanager
    def append(self) -> Iterator[Connection]:
        """A transaction that only adds rows: on PostgreSQL several of them run side by side."""
        with faults(str(self)), self._writer.begin() as connection:
            yield connection

    def clock(self) -> ColumnElement[int]:
        """Microseconds since 1970 by the database's own clock, for a statement to write or compare.

        The moment of the statement, not of its transaction.
        """
        if self.engine.dialect.name == "postgresql":
            return literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        return literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)")

    def insert(self, table: Table) -> Any:
        """INSERT that leaves a row in peace whose key is there already."""
        if self.engine.dialect.name == "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        if self.engine.dialect.name == "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        return insert(table)

    def insert_json(self, table: Table) -> TextClause:
        """INSERT of many rows in one statement, which leaves a row in peace whose key is there.

        Its parameter `rows` is a JSON array with one array for each row, in the order of the
        table's columns. The driver lets other threads run for the whole of the statement.
        """
        names = ", ".join(column.name for column in table.columns)
        if self.engine.dialect.name == "postgresql":
            types = [column.type.compile(self.engine.dialect) for column in table.columns]
            values = ", ".join(f"CAST(value->>{i} AS {kind})" for i, kind in enumerate(types))
            source = "json_array_elements(CAST(:rows AS json)) AS sent(value)"
        else:
            values = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(len(table.columns)))
            source = "json_each(:rows)"
        # WHERE: without it SQLite takes ON for a part of a join
        return text(
            f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {source} "  # noqa: S608 - ours
            "WHERE true ON CONFLICT DO NOTHING"
        )

    def accumulate(self, table: Table) -> Any:
        """INSERT that adds to the row whose key is there already, column by column."""
        kind = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        statement = kind.insert(table)
        keys = [column.name for column in table.primary_key]
        summed = {
            column.name: column + statement.excluded[column.name]
            for column in table.columns
            if column.name not in keys
        }
        return statement.on_conflict_do_update(index_elements=keys, set_=summed)

    def tidy(self) -> None:
        """Bring SQLite's log into its file and empty it, if no reader is in the way."""
        if self.engine.dialect.name == "sqlite":
            with faults(str(self)), self.engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        if self._owned:
            self.engine.dispose()

    def __str__(self) -> str:
        return f"the store {self.engine.url.render_as_string(hide_password=True)}"


def _engine(url: str | URL) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreFault(f"a store is a database URL, got {url!r}: sqlite:///FILE") from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise StoreFault(f"a store is SQLite or PostgreSQL, got {kind}: use one of these")
    if kind == "postgresql":
        try:
            return create_engine(parsed, pool_pre_ping=True)
        except ModuleNotFoundError as fault:
            raise StoreFault(
                f"PostgreSQL needs its driver ({fault}): pip install 'psycopg[binary]'"
            ) from None
    path = parsed.database
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
    return create_engine(parsed, connect_args={"timeout": _WAIT_SECONDS})


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: the driver's own would begin too late
    cursor = connection.cursor()
    deadline = time.monotonic() + _WAIT_SECONDS
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


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Turn what the database raises into a StoreFault that says what to do."""
    try:
        yield
    except (SQLAlchemyError, UnicodeEncodeError) as fault:
        original = getattr(fault, "orig", None) or fault
        said = str(original).strip() or type(original).__name__
        lower = said.lower()
        remedy = next((r for mark, r in _REMEDIES if mark in lower), None)
        raise StoreFault(
            f"{where} refused: {said}: {remedy or 'see the message of the database'}"
        ) from fault


def micros(moment: datetime, what: str = "a time") -> int:
    """Microseconds since 1970 in UTC.

    >>> micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise RecordFault(f"{what} must be a datetime with a time zone, got {moment!r}: add UTC")
    if moment.year not in _YEARS:
        raise RecordFault(
            f"{what} must lie in {_YEARS.start}..{_YEARS.stop - 1}, got {moment}: correct it"
        )
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The UTC time of so many microseconds since 1970."""
    return _EPOCH + value * _MICROSECOND


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # numpy's scalars
        return value.item()
    raise TypeError(f"JSON has no {type(value).__name__}")


plain_json = msgspec.json.Encoder(enc_hook=_plain)


def to_json(value: Any, what: str = "a value") -> str:
    """JSON text; NaN and infinities become null. Raises RecordFault for what JSON cannot hold."""
    try:
        return plain_json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise RecordFault(f"{what} must be plain JSON values ({fault}): convert it") from None


def from_json(text: str) -> Any:
    """The value of JSON text that the store holds."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as fault:
        raise StoreFault(
            f"the store holds text that is no JSON ({fault}), {text[:60]!r}: something else wrote "
            "to it; restore a copy"
        ) from None
