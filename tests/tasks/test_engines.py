"""Where the databases are: the config's word, the environment's over it, and no password told."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml

from deployments.check import check
from deployments.init import write_config
from models.errors import DataFault
from models.sql import SqlSource
from tasks import engines, sql_rows
from tasks.config import Config, ConfigFault, load

SECRET = "s3cr@t"


def changed(path: Path, **sections: dict[str, object]) -> Path:
    raw = yaml.safe_load(path.read_text())
    for name, value in sections.items():
        raw[name] = raw.get(name, {}) | value
    path.write_text(yaml.safe_dump(raw))
    return path


def test_the_config_names_databases_and_each_model_has_its_schema(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"telemetry": "postgresql://me@db/everfit", "artifacts": "shared"}
    config = load(changed(tiny_config, engines=given | {"registry": "sqlite:///r.db"}))
    assert config.store_url == "postgresql://me@db/everfit?schema=everfit_tiny"
    assert config.registry_url == f"sqlite:///{tmp_path / 'r.db'}"
    assert config.artifacts == tmp_path / "shared"
    assert Config.model_validate_json(config.model_dump_json()) == config

    monkeypatch.setenv(engines.TELEMETRY, f"postgresql://me:{SECRET}@other/x?schema=mine")
    monkeypatch.setenv(engines.REGISTRY, "http://mlflow:5000")
    monkeypatch.setenv(engines.ARTIFACTS, "/srv/{name}")
    assert config.store_url == f"postgresql://me:{SECRET}@other/x?schema=mine"
    assert config.registry_url == "http://mlflow:5000"
    assert config.artifacts == Path("/srv/tiny")
    assert SECRET not in config.model_dump_json() + repr(config)  # what Prefect keeps and shows


@pytest.mark.parametrize(
    "url", [f"postgresql://me:{SECRET}@db/x", f"postgresql://me@db/x?password={SECRET}"]
)
def test_a_password_in_a_config_is_refused_and_not_repeated(tiny_config: Path, url: str) -> None:
    sections = {"engines": {"telemetry": url, "registry": [url]}}
    sections["data"] = {"source": url, "query": "SELECT 1"}
    with pytest.raises(ConfigFault) as caught:
        load(changed(tiny_config, **sections))
    said = str(caught.value)
    assert SECRET not in said
    assert "PGPASSWORD, or the whole URL in EVERFIT_TELEMETRY_URL" in said
    assert "PGPASSWORD, or the whole URL in EVERFIT_DATA_URL" in said


def test_a_variable_that_is_no_database_is_named_without_its_password(
    tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(engines.TELEMETRY, f"postgresql+asyncpg://me:{SECRET}@db/x")
    with pytest.raises(ConfigFault, match="EVERFIT_TELEMETRY_URL is sqlite") as caught:
        load(tiny_config)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(check(tiny_config))


def test_check_says_what_cannot_be_reached(tiny_config: Path, free_port: int) -> None:
    pytest.importorskip("psycopg")
    nobody = f"postgresql://me@127.0.0.1:{free_port}/x"
    given = {"telemetry": nobody, "registry": f"http://127.0.0.1:{free_port}"}
    given["artifacts"] = "/dev/null/x"
    telemetry, registry, artifacts = check(changed(tiny_config, engines=given)).faults
    assert "check that the database server runs" in telemetry
    assert "no MLflow server answers" in registry
    assert "must be a folder that can be written, /dev/null is not" in artifacts


@pytest.fixture
def asked(tiny_config: Path, tmp_path: Path, small_frame: pd.DataFrame) -> Path:
    """A config whose rows are in a database; the labels of the last day are not known yet."""
    frame = small_frame.assign(due=small_frame["due"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    frame.loc[504:, "late"] = None
    with sqlite3.connect(tmp_path / "rows.db") as made:
        frame.to_sql("flights", made, index=False)
    made.close()
    query = "SELECT * FROM flights WHERE due > :since ORDER BY due"
    data = {"source": "sqlite:///rows.db", "query": query, "label_delay": "6h"}
    return changed(tiny_config, data=data)


def test_only_new_rows_are_read_where_the_query_asks_for_them(
    asked: Path, tmp_path: Path, small_frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(asked)
    read = SqlSource.read
    since: list[datetime | None] = []

    def noted(
        self: SqlSource, after: datetime | None = None, until: datetime | None = None, **_: int
    ):
        since.append(after)
        return read(self, after, until)

    monkeypatch.setattr(SqlSource, "read", noted)
    last = small_frame["due"].max().to_pydatetime()
    assert len(sql_rows.read(config, last)) == 600
    with sqlite3.connect(tmp_path / "rows.db") as made:  # labels come, and one row
        made.execute("UPDATE flights SET late = 'late' WHERE late IS NULL")
        new = f"{last + timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
        made.execute(
            "INSERT INTO flights SELECT ?, carrier, 5, 1, 1, late FROM flights LIMIT 1", (new,)
        )
    made.close()
    frame = sql_rows.read(config, last + timedelta(hours=2))
    assert (len(frame), frame["late"].isna().sum()) == (601, 0)
    assert len(sql_rows.read(config, last - timedelta(days=2))) == 600 - 2 * 96  # a replay
    assert len(sql_rows.read(config, last + timedelta(hours=2))) == 601
    back = timedelta(days=1, hours=12)
    assert since == [
        None,
        last - back,
        last - timedelta(days=2) - back,
        last + timedelta(hours=1) - back,
    ]
    kept = next((config.folder / "data").glob("rows-*.parquet"))
    kept.write_bytes(b"no table")
    assert len(sql_rows.read(config, last + timedelta(hours=2))) == 601


def test_a_database_that_gives_no_rows_says_so(asked: Path) -> None:
    with pytest.raises(DataFault, match=r"data.query gives no rows at sqlite:///.*rows.db"):
        sql_rows.read(load(asked), datetime(2000, 1, 1, tzinfo=UTC))


def test_a_config_on_a_query_is_checked_and_written(asked: Path, tmp_path: Path) -> None:
    told = str(check(asked))
    assert "is sound" in told
    assert "rows.db, 600 rows, 504 labelled" in told
    wrong = changed(asked, data={"query": "SELECT due, late FROM flights"})
    assert "has no column 'wind'" in str(check(wrong))
    wrong = changed(asked, data={"query": "SELECT * FROM fligths"})
    assert "no such table: fligths: correct data.query" in str(check(wrong))
    path, _ = write_config(
        "asked",
        "sqlite:///rows.db",
        "late",
        "due",
        query="SELECT * FROM flights -- all\nWHERE due > :since",
        output=tmp_path / "asked.yaml",
    )
    assert check(path).faults == ()
    assert load(path).data.query == "SELECT * FROM flights -- all\nWHERE due > :since"
    with pytest.raises(ConfigFault, match="must not hold a password"):
        write_config("x", f"postgresql://me:{SECRET}@db/x", "late", query="SELECT 1")
