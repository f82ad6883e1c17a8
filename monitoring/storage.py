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
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    TextClause,
    insert,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from monitoring import migrations
from monitoring.connecting import alone, connect, faults, prepared, schema_of, shown
from monitoring.errors import RecordFault, StoreFault

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEARS = range(1700, 2262)  # what a nanosecond time of pandas can hold
_READ_ONLY = ("readonly", "read-only", "permission denied")


class Database:
    """One engine, opened and checked. Safe for several threads; not for use across a fork.

    `target` is a URL, or an Engine that stays its owner's to dispose of. Raises StoreFault when the
    store cannot be opened, is no database, or has another layout.
    """

    def __init__(self, target: str | URL | Engine) -> None:
        self._owned = not isinstance(target, Engine)
        self.engine = prepared(target if isinstance(target, Engine) else connect(target))
        self._writer = self.engine.execution_options(everfit_write=True)
        self._lasting = self.engine.execution_options(everfit_write=True, everfit_lasting=True)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Make the tables of a new store, bring an older one up to date, refuse a newer one."""
        with self.read() as connection:
            found = migrations.state(connection)
        if found.current(str(self)):
            return
        try:
            with self.write() as connection:
                if schema := schema_of(self.engine):
                    migrations.make_schema(connection, schema)
                found = migrations.state(connection)  # another process may have been faster
                if not found.current(str(self)):
                    migrations.upgrade(connection, found)
        except StoreFault as fault:
            if found.new or not any(said in str(fault).lower() for said in _READ_ONLY):
                raise
            # made before a table was added, and now read-only: all that it holds can be read
            _log.warning("an older store could not be brought up to date: %s", fault)

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
            alone(connection)
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
            order = " ORDER BY 1"  # one order for all writers, so that none waits in a circle
        else:
            values = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(len(table.columns)))
            source, order = "json_each(:rows)", ""
        # WHERE: without it SQLite takes ON for a part of a join
        return text(
            f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {source} "  # noqa: S608 - ours
            f"WHERE true{order} ON CONFLICT DO NOTHING"
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
        url = self.engine.url
        if schema := schema_of(self.engine):
            url = url.update_query_dict({"schema": schema})
        return f"the store {shown(url)}"


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
