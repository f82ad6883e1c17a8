"""How a store of an earlier everfit is brought up to date: revisions in order, applied by Alembic.

Each file of `versions` changes the tables from the one before it; stores made before revisions were
noted are told by having none. All of it is one transaction, alone in writing, so processes that
start at once wait for the first, and a fault leaves the store as it was. A SQLite file is copied
before (FILE.before-REVISION), and `purge` deletes copies as old as what it deletes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)

from monitoring.errors import StoreFault
from monitoring.tables import VERSION, layout, metadata

_log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
TABLE = "everfit_revision"
REVISIONS = tuple(sorted(p.stem[1:5] for p in (FOLDER / "versions").glob("v[0-9]*.py")))
HEAD = REVISIONS[-1]
_ROOM = 64 * 2**20  # bytes that stay free beside a copy

# As Alembic makes it; not one of the store's own tables.
revisions = Table(
    TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{TABLE}_pkc"),
)


@dataclass(frozen=True, slots=True)
class State:
    """What a store says of itself; `layout` is None where there is none yet."""

    layout: int | None
    revision: str | None

    @property
    def new(self) -> bool:
        return self.layout is None

    def current(self, where: str) -> bool:
        """Whether nothing is to be done. Raises StoreFault for a store that is newer than this."""
        if self.layout is not None and self.layout > VERSION:
            raise StoreFault(
                f"{where} has layout version {self.layout}, this everfit reads {VERSION}: use the "
                "everfit that made it, or move it aside to begin a new one"
            )
        if self.revision is not None and self.revision not in REVISIONS:
            raise StoreFault(
                f"{where} is at revision {self.revision}, this everfit knows {REVISIONS[0]} to "
                f"{HEAD}: use the everfit that made it, or move it aside to begin a new one"
            )
        return self.layout == VERSION and self.revision == HEAD


def state(connection: Connection) -> State:
    """What the store that is open says of itself."""
    seen = inspect(connection)
    if not seen.has_table(layout.name):
        return State(None, None)
    noted = seen.has_table(TABLE)
    return State(
        connection.scalar(select(layout.c.version)),
        connection.scalar(select(revisions.c.version_num)) if noted else None,
    )


def make_schema(connection: Connection, name: str) -> None:
    """Make a PostgreSQL schema unless it is there: who may only use it need not be able to."""
    there = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.scalar(there, {"name": name}) is None:
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{name}"')


def upgrade(connection: Connection, found: State) -> None:
    """Bring a store up to date, in the transaction of `connection`, which is alone in writing."""
    if found.new:
        metadata.create_all(connection)
        revisions.create(connection)
        connection.execute(insert(layout), {"version": VERSION})
        connection.execute(insert(revisions), {"version_num": HEAD})
        return
    if connection.dialect.name == "sqlite":
        copy(connection)
    _apply(connection, found)
    _log.warning("a store was brought from revision %s to %s", found.revision or "(none)", HEAD)


def _apply(connection: Connection, found: State) -> None:
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    context = MigrationContext.configure(
        connection,
        opts={
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
            "version_table": TABLE,
            "script": scripts,
        },
    )
    if found.revision is None:  # of a time before revisions were noted
        context.stamp(scripts, REVISIONS[0])
    with Operations.context(context):
        context.run_migrations()


def copy(connection: Connection) -> Path | None:
    """Copy the SQLite file as it was before this transaction; None where there is no file.

    Another connection reads while this one, which has changed nothing yet, keeps writers out.
    """
    place = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
    if not place:
        return None
    path = Path(place)
    target, half = _copy_of(path, HEAD), _copy_of(path, f"{HEAD}.part")
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    if free < size + _ROOM:
        raise StoreFault(
            f"{path} is copied before its tables are changed, which takes {size / 2**20:,.0f} MB; "
            f"{free / 2**20:,.0f} MB are free: free disk space, then start again"
        )
    half.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("VACUUM INTO ?", (str(half),))
        shutil.copymode(path, half)
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.replace(target)
    except (OSError, sqlite3.Error) as fault:
        half.unlink(missing_ok=True)
        raise StoreFault(
            f"{path} could not be copied before its tables are changed ({fault}): see that its "
            "folder can be written, then start again"
        ) from None
    return target


def forget_copies(engine: Engine, before: datetime) -> int:
    """Delete the copies of a SQLite store that were made before a moment; how many there were."""
    place = engine.url.database if engine.dialect.name == "sqlite" else None
    if not place or place.startswith("file:"):
        return 0
    path, gone = Path(place), 0
    for copied in path.parent.glob(f"{path.name}.before-*"):
        if copied.stat().st_mtime < before.timestamp():
            copied.unlink(missing_ok=True)
            gone += 1
    return gone


def _copy_of(path: Path, revision: str) -> Path:
    return path.with_name(f"{path.name}.before-{revision}")
