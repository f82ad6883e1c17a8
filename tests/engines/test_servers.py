"""The servers that the other tests stand on: started, crashed, started again, gone with us."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments import postgres as servers
from deployments.postgres import Postgres
from deployments.processes import StackFault
from tests.engines.redis_server import Redis

ROOT = Path(__file__).resolve().parents[2]


def test_postgres_runs_as_no_root_and_asks_for_its_password(postgres: Postgres) -> None:
    owner = (postgres.folder / "data").stat().st_uid
    assert owner != 0, pwd.getpwuid(owner).pw_name
    assert postgres.sql("SELECT current_user, inet_server_addr()") == "everfit|127.0.0.1"
    import psycopg

    wrong = postgres.url().replace(postgres.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_what_was_committed_is_there_after_a_crash(postgres: Postgres) -> None:
    postgres.sql("CREATE TABLE kept (x int)")
    postgres.sql("INSERT INTO kept VALUES (7)")
    postgres.kill()
    with pytest.raises(StackFault, match=r"refused.*connect"):
        postgres.sql("SELECT 1")
    postgres.start()
    assert postgres.sql("SELECT x FROM kept") == "7"
    postgres.sql("DROP TABLE kept")


def test_the_server_goes_with_the_process_that_started_it(tmp_path: Path) -> None:
    if reason := servers.missing():
        pytest.skip(reason)
    code = """
import sys, time
from deployments.postgres import temporary
with temporary() as server:
    print((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0], flush=True)
    print(server.folder, flush=True)
    time.sleep(600)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    pid, folder = int(child.stdout.readline()), child.stdout.readline().strip()
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    subprocess.run(["rm", "-rf", folder], check=True)


def test_redis_answers(redis: Redis) -> None:
    assert redis.answers()


def test_a_machine_without_the_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_PLACES", ())
    monkeypatch.setenv("PATH", os.devnull)
    assert "apt install postgresql" in servers.missing()
