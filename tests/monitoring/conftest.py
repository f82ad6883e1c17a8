"""Stores for the monitoring tests: SQLite always, PostgreSQL where one is offered."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from monitoring.telemetry import TelemetryStore

POSTGRES = os.environ.get("EVERFIT_TEST_POSTGRES")  # for instance postgresql://user@host/database


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRES else ["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that does not exist yet; on PostgreSQL a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'telemetry.db'}"
        return
    schema = f"everfit_{uuid.uuid4().hex}"
    url = make_url(POSTGRES or "")
    admin = create_engine(url)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(
        hide_password=False
    )
    with admin.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def store(store_url: str) -> Iterator[TelemetryStore]:
    """A new store, open."""
    with TelemetryStore(store_url) as opened:
        yield opened
