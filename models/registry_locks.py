"""Locks that hold over machines, where the registry is a PostgreSQL database.

A file lock binds those who share a folder. A PostgreSQL advisory lock binds everybody who uses the
database, and its server frees it when the holder's connection ends, however that happens. It is
taken in a transaction, so that it also works behind a pooler of connections.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from models.errors import RegistryFault, hidden

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

_AGAIN = 0.05  # seconds between two tries: a waiter holds no place in the server's own queue


def is_postgresql(url: str) -> bool:
    """Whether `url` is of a PostgreSQL database.

    >>> is_postgresql("postgresql+psycopg://host/registry"), is_postgresql("http://mlflow:5000")
    (True, False)
    """
    return url.partition(":")[0].partition("+")[0] == "postgresql"


@contextmanager
def advisory(url: str, name: str, what: str, seconds: float) -> Iterator[None]:
    """Hold the lock `name` of the database at `url`, for which `seconds` are waited at most.

    Raises RegistryFault when it is not free in time, or the database does not answer. A holder
    whose connection is lost meanwhile, such as by a fail-over, is told so in the log: whoever
    moves an alias compares it with what was expected all the same.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    engine = create_engine(url, poolclass=NullPool)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(engine.connect())
            held = connection.begin()
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            _taken(connection, name, what, seconds)
        except SQLAlchemyError as fault:
            said = hidden(str(getattr(fault, "orig", None) or fault).strip())
            remedy = (
                "set PGPASSWORD, or the whole URL in EVERFIT_REGISTRY_URL"
                if "password" in said.lower()
                else "see that the database answers, then try again"
            )
            raise RegistryFault(
                f"the lock for {what} is one of the registry's database; {said}: {remedy}"
            ) from fault
        try:
            yield
        finally:
            try:
                held.commit()
            except SQLAlchemyError as fault:
                log.warning("the lock for %s was lost meanwhile: %s", what, type(fault).__name__)


def _taken(connection: Connection, name: str, what: str, seconds: float) -> None:
    from sqlalchemy import text

    asked = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
    deadline = time.monotonic() + seconds
    while not connection.scalar(asked, {"name": f"everfit {name}"}):
        if time.monotonic() >= deadline:
            raise RegistryFault(
                f"one process at a time writes {what}; the lock of the database was not free for "
                f"{seconds:g} s: see who holds it (pg_locks, locktype advisory), then try again"
            )
        time.sleep(_AGAIN)
