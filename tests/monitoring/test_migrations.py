"""Stores of earlier code are brought up to date once, whole, and not without a copy."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from monitoring import migrations
from monitoring.claims import Claims
from monitoring.connecting import connect, prepared, schema_of
from monitoring.errors import StoreFault
from monitoring.migrations import HEAD, REVISIONS, TABLE
from monitoring.records import Label, Prediction, RequestCount
from monitoring.retention import Limits, purge
from monitoring.storage import Database
from monitoring.tables import metadata
from monitoring.telemetry import TelemetryStore

NOW = datetime(2013, 1, 1, tzinfo=UTC)
ROW = Prediction("old", NOW, "1", {"x": 1}, (0.25, 0.75), 2.5)
UNNOTED = REVISIONS[:4]  # what code of a time before revisions were noted can have left


def earlier_store(url: str, revision: str, *, noted: bool = False) -> None:
    """A store as the code of `revision` made it, with a row in the first tables."""
    engine = prepared(connect(url))
    kind = engine.dialect.name
    script = (Path(__file__).parent / "layouts" / f"{kind}.sql").read_text(encoding="utf-8")
    sections = script.split("-- 0")[1:]
    with engine.execution_options(everfit_write=True).begin() as connection:
        if schema := schema_of(engine):
            migrations.make_schema(connection, schema)
        for section in sections[: REVISIONS.index(revision) + 1]:
            for statement in section.partition("\n")[2].split(";\n"):
                if statement.strip():
                    connection.exec_driver_sql(statement)
        connection.exec_driver_sql("INSERT INTO everfit_layout VALUES (1)")
        values = "('old', 1356998400000000, '1', '{\"x\":1}', '[0.25,0.75]', 2.5)"
        connection.exec_driver_sql(f"INSERT INTO predictions VALUES {values}")
        if noted:
            migrations.revisions.create(connection)
            connection.execute(migrations.revisions.insert(), {"version_num": revision})
    engine.dispose()


def shape(engine: Engine) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, as the database itself says."""
    seen = inspect(engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(name)],
            seen.get_pk_constraint(name)["constrained_columns"],
            sorted(
                (str(i["name"]), i["column_names"], i["unique"]) for i in seen.get_indexes(name)
            ),
        )
        for name in seen.get_table_names()
    }


def differences(database: Database) -> list[Any]:
    """What `alembic check` would say."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": TABLE})
        return compare_metadata(context, metadata)


def test_each_revision_has_its_file_and_follows_the_one_before() -> None:
    assert tuple(f"{n:04d}" for n in range(1, len(REVISIONS) + 1)) == REVISIONS


def test_a_new_store_is_as_its_definition_says(store: TelemetryStore) -> None:
    assert differences(store.database) == []
    with store.database.read() as connection:
        assert migrations.state(connection).current("it")


@pytest.mark.parametrize("revision", UNNOTED)
@pytest.mark.parametrize("noted", [False, True])
def test_a_store_of_earlier_code_is_brought_up_to_date(
    store_url: str, tmp_path: Path, revision: str, noted: bool
) -> None:
    earlier_store(store_url, revision, noted=noted)
    with TelemetryStore(store_url) as store:
        assert differences(store.database) == []
        assert store.rows(None, None)["id"].tolist() == ["old"]
        store.record_counts([RequestCount(NOW, "/invocations", "1", 1, 1, 0, 0)])
        assert store.label([Label("old", 1, NOW)])[0].name == "ACCEPTED"
        migrated = shape(store.database.engine) if "sqlite" in store_url else None
    with Claims(store_url) as claims:
        assert claims.claim("w", "host:1:x", NOW).status == "new"
    if migrated is not None:
        with TelemetryStore(f"sqlite:///{tmp_path / 'new.db'}") as new:
            assert shape(new.database.engine) == migrated


def test_a_file_is_copied_before_and_the_copy_is_purged_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    earlier_store(f"sqlite:///{path}", "0001")
    path.chmod(0o600)
    with TelemetryStore(f"sqlite:///{path}") as store:
        copied = tmp_path / f"t.db.before-{HEAD}"
        assert copied.stat().st_mode & 0o777 == 0o600
        before = sqlite3.connect(copied)
        assert before.execute("SELECT id FROM predictions").fetchall() == [("old",)]
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            before.execute("SELECT * FROM request_counts")
        before.close()
        purge(store.database, Limits(NOW, NOW, NOW))
        assert copied.exists()
        later = datetime.now(UTC) + timedelta(hours=1)
        purge(store.database, Limits(later, later, later))
        assert not copied.exists()


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier_store(store_url, "0002", noted=True)
    engine = prepared(connect(store_url))
    with engine.begin() as connection:
        before = sorted(inspect(connection).get_table_names())
    real = migrations._apply

    def apply_and_fail(connection: Any, found: Any) -> None:
        real(connection, found)
        assert inspect(connection).has_table("recordings")
        raise StoreFault("the power is gone: wait")

    monkeypatch.setattr(migrations, "_apply", apply_and_fail)
    with pytest.raises(StoreFault, match="the power is gone"):
        TelemetryStore(store_url)
    with engine.begin() as connection:
        assert sorted(inspect(connection).get_table_names()) == before
        assert migrations.state(connection).revision == "0002"
    engine.dispose()


def test_without_room_for_the_copy_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    earlier_store(f"sqlite:///{path}", "0001")
    monkeypatch.setattr(migrations, "_ROOM", 2**62)
    with pytest.raises(StoreFault, match=r"is copied before.*free disk space"):
        TelemetryStore(f"sqlite:///{path}")
    assert not list(tmp_path.glob("t.db.before-*"))


def test_a_store_of_later_code_is_refused(store_url: str) -> None:
    TelemetryStore(store_url).close()
    engine = prepared(connect(store_url))
    with engine.execution_options(everfit_write=True).begin() as connection:
        connection.execute(text(f"UPDATE {TABLE} SET version_num = '0999'"))
    engine.dispose()
    with pytest.raises(StoreFault, match="at revision 0999, this everfit knows 0001 to"):
        TelemetryStore(store_url)
