"""The whole loop on one PostgreSQL: Prefect, MLflow, telemetry and the rows that are learnt from.

The passwords come in the URLs of the environment, and must stand in nothing that was written.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sqlalchemy import create_engine

from deployments import environment
from deployments.postgres import Postgres, program
from deployments.processes import free_port
from deployments.stack import prefect_command
from tasks import engines, places
from tasks.config import load
from tests.flows.test_loop import serve_rows

pytestmark = pytest.mark.timeout(420)

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # `train` goes by the clock
DATABASES = ("loop_prefect", "loop_mlflow", "loop_telemetry", "loop_source")


@pytest.fixture
def urls(postgres: Postgres) -> Iterator[dict[str, str]]:
    yield {name: postgres.create(name) for name in DATABASES}
    for name in DATABASES:
        postgres.drop(name)


@pytest.fixture
def config(
    urls: dict[str, str],
    tiny_config: Path,
    small_frame: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A config with no file but itself; what it names holds no password."""
    source = create_engine(urls["loop_source"])
    late = NOW - small_frame["due"].max()
    small_frame.assign(due=small_frame["due"] + late).to_sql("flights", source, index=False)
    source.dispose()
    raw = yaml.safe_load(tiny_config.read_text())
    nobody = "postgresql://everfit@127.0.0.1:1/nothing"  # the environment's take its place
    raw["data"] |= {"source": nobody, "query": "SELECT * FROM flights WHERE due > :since"}
    raw["engines"] = {"telemetry": nobody, "registry": nobody}
    raw["monitor"] |= {
        "window": "10d",
        "thresholds": [{"metric": "log_loss", "worse_by": 0.05}],
    }
    raw["policy"] |= {"confirmations": 1, "memory": 1, "cooldown": "1h", "drifted_share": 0.2}
    tiny_config.write_text(yaml.safe_dump(raw))
    (tiny_config.parent / "flights.csv").unlink()
    monkeypatch.setenv(engines.TELEMETRY, urls["loop_telemetry"])
    monkeypatch.setenv(engines.REGISTRY, urls["loop_mlflow"])
    monkeypatch.setenv(engines.DATA, urls["loop_source"])
    return tiny_config


def test_a_drift_is_seen_and_answered_and_no_password_is_written(
    config: Path, urls: dict[str, str], postgres: Postgres, make_frame, tmp_path: Path
) -> None:
    said = ""
    server = prefect_command(
        tmp_path / "prefect",
        free_port(),
        urls["loop_prefect"].replace("postgresql:", "postgresql+asyncpg:"),
    )
    with server.running():

        def everfit(*arguments: object) -> str:
            nonlocal said
            done = subprocess.run(
                [sys.executable, "-P", "-m", "deployments", *map(str, arguments)],
                cwd=tmp_path,
                env=environment.child(
                    PREFECT_API_URL=f"{server.url}/api",
                    PREFECT_HOME=str(tmp_path / "home"),
                    PREFECT_LOGGING_LEVEL="DEBUG",
                    PYTHONPATH=str(Path.cwd()),
                ),
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            said += done.stdout + done.stderr
            assert done.returncode == 0, said
            return done.stdout

        everfit("train", config)
        moved = make_frame(900, seed=7, start=f"{NOW:%Y-%m-%d %H:%M}", shift=25.0)
        loaded = load(config)
        serve_rows(loaded, moved, flip=True)
        told = everfit("watch", config, "--now", (NOW + timedelta(days=10)).isoformat())
        assert "retrain (performance)" in told, told
        champion = places.registry(loaded).champion()
        assert champion is not None
        assert champion.version == "2"
        assert champion.window_id in told
        everfit("explain", config)
    flows = postgres.sql("SELECT name, state_type FROM flow_run ORDER BY created", "loop_prefect")
    assert "watch-tiny|COMPLETED" in flows
    assert f"retrain-{champion.window_id}|COMPLETED" in flows
    tables = "SELECT count(*) FROM everfit_tiny.decisions"
    assert postgres.sql(tables, "loop_telemetry") == "1"
    assert not list(tmp_path.rglob("*.db"))

    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in DATABASES:
        dump = [program("pg_dump"), "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "everfit"]
        env = {**os.environ, "PGPASSWORD": postgres.password}
        written[Path(name)] = subprocess.run(
            [*dump, name], env=env, capture_output=True, check=True
        ).stdout
        assert len(written[Path(name)]) > 1_000
    written[Path("said")] = said.encode()
    secret = postgres.password.encode()
    assert [str(path) for path, text in written.items() if secret in text] == []
    assert b"127.0.0.1:1/nothing" in written[Path("loop_prefect")]  # the config is a parameter
