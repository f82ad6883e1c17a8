"""`everfit check` on real databases: what is there, what would be changed, who may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.check_engines import engine_faults
from deployments.postgres import Postgres
from monitoring.migrations import HEAD
from monitoring.telemetry import TelemetryStore
from tasks import engines
from tasks.config import load
from tests.monitoring.test_migrations import earlier_store


def test_it_says_what_is_there_and_changes_nothing(
    database: Callable[[], str],
    postgres: Postgres,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = database()
    name = url.rpartition("/")[2]
    for variable in (engines.TELEMETRY, engines.REGISTRY):
        monkeypatch.setenv(variable, url)
    config = load(tiny_config)

    def looked() -> tuple[list[str], str]:
        summary: list[str] = []
        return engine_faults(config, summary), "\n".join(summary)

    faults, said = looked()
    assert faults == []
    assert "schema everfit_tiny, no tables yet, PostgreSQL" in said
    assert "no tables of MLflow" in said
    assert postgres.password not in said
    assert postgres.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'everfit'", name) == "0"

    earlier_store(config.store_url, "0002", noted=True)
    assert f"revision 0002, to be brought to {HEAD}" in looked()[1]
    TelemetryStore(config.store_url).close()
    assert f"revision {HEAD}, PostgreSQL" in looked()[1]

    postgres.sql("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        poor = url.replace(f"everfit:{postgres.password}", "poor:poor")
        monkeypatch.setenv(engines.TELEMETRY, f"{poor}?schema=everfit_new")
        (fault,) = looked()[0]
        assert 'CREATE SCHEMA "everfit_new" AUTHORIZATION' in fault
    finally:
        postgres.sql("DROP ROLE poor")
