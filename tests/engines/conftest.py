"""Real engines for these tests: PostgreSQL and Redis, started in temporary folders.

`make engines` runs what is here; `make test` does not collect it. Where the machine has no such
server, the tests that need one are skipped, and the reason is printed.
"""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments import postgres as servers
from deployments.postgres import Postgres
from monitoring.telemetry import TelemetryStore
from tests.engines.redis_server import Redis, redis_missing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.engines)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(240))


def _or_skip(*reasons: str) -> None:
    for reason in reasons:
        if reason:
            pytest.skip(reason)


def _module(name: str, extra: str) -> str:
    there = importlib.util.find_spec(name) is not None
    return "" if there else f"{name} is not installed: pip install 'everfit[{extra}]'"


@pytest.fixture(autouse=True)
def _mlflow_lets_go() -> Iterator[None]:
    """MLflow keeps an engine for each database as long as its process lives: close them here."""
    yield
    for name in [n for n in sys.modules if n.startswith("mlflow.store.")]:
        store = getattr(sys.modules[name], "SqlAlchemyStore", None)
        for engine in list(getattr(store, "_engine_map", {}).values()):
            engine.dispose()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the session; a test that stops it starts it again."""
    _or_skip(servers.missing(), _module("psycopg", "postgres"))
    with servers.temporary() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Callable[[], str]]:
    """`database()` makes an empty database and gives its URL; it is dropped after the test."""
    made: list[str] = []

    def make() -> str:
        made.append(f"test_{uuid.uuid4().hex[:12]}")
        return postgres.create(made[-1])

    yield make
    for name in made:
        postgres.drop(name)


@pytest.fixture(scope="session")
def stores(postgres: Postgres) -> str:
    """A database for many stores, each in a schema of its own."""
    return postgres.create("stores")


@pytest.fixture
def store_url(stores: str) -> str:
    """The URL of a store that does not exist yet, in a schema that is not there either."""
    return f"{stores}?schema=everfit_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(store_url: str) -> Iterator[TelemetryStore]:
    """A new store, open."""
    with TelemetryStore(store_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis server for the session."""
    _or_skip(redis_missing(), _module("prefect_redis", "redis"))
    with Redis.temporary() as server:
        yield server
