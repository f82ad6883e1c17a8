"""What a process and its children have used, and how large Prefect's database is."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all its living descendants."""
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(_ticks(one) for one in _family(pid)) / ticks


def memory_mb(pid: int) -> float:
    """Proportional resident memory of the same: what is shared counts once."""
    return sum(_pss(one) for one in _family(pid)) / 1e3


def _family(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:  # it has ended meanwhile
                continue
    return found


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(value) for value in fields[11:15])  # with children that were waited for


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Sqlite:
    """Prefect's database as a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size_mb(self) -> float:
        """Used pages, without those that deletions have left free."""
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=60) as connection:
            pages, free, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size / 1e6

    def tables(self) -> dict[str, int]:
        """Rows of the tables that grow with checks."""
        names = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "events",
                 "event_resources", "artifact")  # fmt: skip
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=60) as connection:
            return {
                name: int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
                for name in names
            }


class Postgres:
    """Prefect's database in PostgreSQL, at a URL that psycopg takes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def size_mb(self) -> float:
        return float(self._one("SELECT pg_database_size(current_database())")) / 1e6

    def tables(self) -> dict[str, int]:
        names = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "events",
                 "event_resources", "artifact")  # fmt: skip
        return {name: int(self._one(f"SELECT count(*) FROM {name}")) for name in names}

    def _one(self, statement: str) -> float:
        import psycopg

        with psycopg.connect(self.url) as connection:
            row = connection.execute(statement).fetchone()
            assert row is not None
            return row[0]
