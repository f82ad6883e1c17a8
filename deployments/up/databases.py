"""`everfit up --postgres URL`: the databases that it needs there, and how its parts find them.

Passwords are never in a URL, and so neither on a command line nor in a record: PostgreSQL's own
clients read PGPASSWORD, or the file that PGPASSFILE names, and so do all parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.processes import StackFault

PREFIX = "everfit"
_ENTRANCES = ("postgres", "template1")  # databases that are there to connect to
_ASYNC = {"sslmode": "ssl"}  # asyncpg's names for what libpq calls otherwise


@dataclass(frozen=True, slots=True)
class Databases:
    """Three databases of one server, as URLs without a password."""

    telemetry: str
    registry: str
    prefect: str
    names: tuple[str, str, str]

    @property
    def variables(self) -> dict[str, str]:
        """What the parts, and everfit's commands in other terminals, are to have set."""
        return {"EVERFIT_TELEMETRY_URL": self.telemetry, "EVERFIT_REGISTRY_URL": self.registry}

    @property
    def servers(self) -> dict[str, str]:
        """And what Prefect's server needs beside them."""
        return {"PREFECT_API_DATABASE_CONNECTION_URL": self.prefect}


def databases(url: str) -> Databases:
    """The databases on the server at `url`; one that it names is the beginning of their names.

    Raises StackFault for a URL of something else, or with a password in it.

    >>> databases("postgresql://me@db:5432").registry
    'postgresql://me@db:5432/everfit_mlflow'
    >>> databases("postgresql://me@db/acme?sslmode=require").prefect
    'postgresql+asyncpg://me@db/acme_prefect?ssl=require'
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        given = make_url(url)
    except ArgumentError:
        given = None
    if given is None or given.get_backend_name() not in ("postgresql", "postgres"):
        raise StackFault(
            "--postgres takes the address of a PostgreSQL server, such as "
            "postgresql://everfit@127.0.0.1:5432: correct it"
        )
    if given.password is not None or "password" in given.query:
        raise StackFault(
            "a password on the command line can be read by every user of the machine: take it out "
            "of the address and set PGPASSWORD"
        )
    prefix = given.database or PREFIX
    names = (f"{prefix}_telemetry", f"{prefix}_mlflow", f"{prefix}_prefect")
    plain = given.set(drivername="postgresql")
    query = {_ASYNC.get(key, key): value for key, value in given.query.items()}
    return Databases(
        str(plain.set(database=names[0])),
        str(plain.set(database=names[1])),
        str(given.set(drivername="postgresql+asyncpg", database=names[2], query=query)),
        names,
    )


def create(url: str, wanted: Databases) -> list[str]:
    """Make those that are not there; returns their names. Raises StackFault with the remedy."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError

    given = make_url(url).set(drivername="postgresql+psycopg")
    fault: Exception | None = None
    for entrance in _ENTRANCES:
        engine = create_engine(
            given.set(database=entrance),
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 10},
        )
        try:
            with engine.connect() as connection:
                there = set(connection.scalars(text("select datname from pg_database")))
                missing = [name for name in wanted.names if name not in there]
                for name in missing:
                    _create(connection, name, given.username)
                return missing
        except DBAPIError as refused:
            fault = refused
        except ModuleNotFoundError:
            raise StackFault(
                "PostgreSQL needs its driver: pip install 'everfit[postgres]'"
            ) from None
        finally:
            engine.dispose()
    raise StackFault(
        f"PostgreSQL at {given.host or 'its socket'} cannot be entered: {_said(fault)}: see that "
        "it runs, and set PGPASSWORD"
    )


def _create(connection: Any, name: str, user: str | None) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError, ProgrammingError

    quoted = '"' + name.replace('"', '""') + '"'
    try:
        connection.execute(text(f"create database {quoted}"))
    except ProgrammingError as refused:
        if getattr(refused.orig, "sqlstate", "") == "42P04":  # another was faster
            return
        owner = f' owner "{user}"' if user else ""
        raise StackFault(
            f"database {name} is not there and may not be made: {_said(refused)}: have an "
            f"administrator run `create database {quoted}{owner}`"
        ) from None
    except DBAPIError as refused:
        raise StackFault(f"database {name} could not be made: {_said(refused)}") from None


def _said(fault: Exception | None) -> str:
    told = getattr(fault, "orig", None) or fault
    return " ".join(str(told).split())


def exports(variables: Mapping[str, str]) -> list[str]:
    """Lines for a shell."""
    import shlex

    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
