"""The telemetry store on SQLite and PostgreSQL: rows/s written, a check's reads, size; in one run.

    everfit bench stores [--set rows=200000] [--set writers=4] [--set url=postgresql://...]

PostgreSQL is one of this machine's package, started for the run on the same disk, with every commit
on the disk (fsync); with `url` it is yours, where a schema is made and dropped. Rows have ten
columns, as a server records them. The writers are processes. Reads are those of a check: a day, a
week twice, and the counts of 70 days.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from monitoring.recording import encoded
from monitoring.records import Label, RequestCount
from monitoring.storage import micros
from monitoring.telemetry import TelemetryStore

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 70
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}
SMALL, LARGE = 100, 5_000  # rows of one write: a quiet server's, a busy one's
FEATURES = (
    '{"carrier":"UA","origin":"EWR","dest":"IAH","distance":1400.0,"hour":%d,"temp":39.02,'
    '"wind":12.66,"precip":0.0,"visibility":10.0,"gust":null}'
)


def run(
    json_path: Path | None = None,
    *,
    rows: int = 200_000,
    writers: int = 4,
    url: str | None = None,
) -> list[dict[str, Any]]:
    """One row for each store."""
    from deployments.commands.bench import write

    found = []
    with tempfile.TemporaryDirectory(prefix="everfit-stores-") as place:
        found.append(_measured("SQLite", f"sqlite:///{place}/telemetry.db", rows, writers))
    with _postgres(url) as there:
        if there is not None:
            found.append(_measured("PostgreSQL", there, rows, writers))
    if json_path is not None:
        write(found, json_path)
    return found


@contextmanager
def _postgres(url: str | None) -> Iterator[str | None]:
    """The URL of an empty schema; None where there is no PostgreSQL."""
    from sqlalchemy import text

    from deployments import postgres
    from monitoring.connecting import connect

    schema = f"everfit_bench_{uuid.uuid4().hex[:8]}"
    if url is None:
        if reason := postgres.missing():
            click.echo(f"without PostgreSQL: {reason}", err=True)
            yield None
            return
        with postgres.temporary(DURABLE) as server:
            yield f"{server.create('bench')}?schema={schema}"
        return
    try:
        yield f"{url}{'&' if '?' in url else '?'}schema={schema}"
    finally:
        engine = connect(url)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        engine.dispose()


def _measured(name: str, url: str, rows: int, writers: int) -> dict[str, Any]:
    click.echo(f"{name} ...", err=True)
    result: dict[str, Any] = {"store": name}
    with TelemetryStore(url) as store:
        large = rows - rows // 4
        result[f"rows/s, {LARGE:,} a write"] = _written(store, 0, large, LARGE, rows)
        result[f"rows/s, {SMALL} a write"] = _written(store, large, rows // 8, SMALL, rows)
    each = rows // 8 // writers
    at = large + rows // 8
    result[f"the same, {writers} writers"] = _together(url, at, each, writers, rows)
    with TelemetryStore(url) as store:
        result[f"labels/s, {SMALL} a call"] = _labelled(store, rows // 2, rows)
        total = store.counts()["predictions"]
        size = _size(store) / 2**20 / total * 1e6
        _count(store)
        result["a check reads in ms"] = _read(store)
        result["of them ms for the day"] = _day(store)
        result["MB a million rows"] = round(size)
    result["rows"] = total
    return result


def batch(start: int, count: int, total: int) -> bytes:
    """Rows `start` to `start + count` of `total`, which are spread over DAYS."""
    begin, step = micros(START), int(timedelta(days=DAYS).total_seconds() * 1e6) // total
    return encoded(
        (f"p{n}", begin + n * step, "1", FEATURES % (n % 24), "[0.25,0.75]", 2.5)
        for n in range(start, start + count)
    )


def _written(store: TelemetryStore, start: int, count: int, size: int, total: int) -> float:
    """Rows a second; what they are made of is made before."""
    at = [(n, min(size, start + count - n)) for n in range(start, start + count, size)]
    batches = [(batch(n, many, total), many) for n, many in at]
    began = time.perf_counter()
    for data, many in batches:
        store.record_encoded(data, many)
    return round(count / (time.perf_counter() - began))


def _together(url: str, start: int, each: int, writers: int, total: int) -> float:
    """Rows a second of `writers` processes at once."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen(
            [sys.executable, __file__, url, *map(str, (start + n * each, each, total))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        for n in range(writers)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # it has opened the store and made its rows
    began = time.perf_counter()
    for child in children:
        child.communicate("go\n", timeout=600)
        if child.returncode:
            raise RuntimeError(f"a writer ended with {child.returncode}: see above")
    return round(writers * each / (time.perf_counter() - began))


def _labelled(store: TelemetryStore, count: int, total: int) -> float:
    step = timedelta(days=DAYS) / total
    labels = [Label(f"p{n}", n % 2, START + n * step + timedelta(hours=3)) for n in range(count)]
    began = time.perf_counter()
    for at in range(0, count, SMALL):
        store.label(labels[at : at + SMALL])
    return round(count / (time.perf_counter() - began))


def _count(store: TelemetryStore) -> None:
    """A count for each minute, so that `counts_between` has its 70 days."""
    minutes = DAYS * 24 * 60
    for at in range(0, minutes, LARGE):
        store.record_counts(
            RequestCount(START + timedelta(minutes=n), "/invocations", "1", 3, 3, 0, 0)
            for n in range(at, min(at + LARGE, minutes))
        )


def _read(store: TelemetryStore) -> float:
    """Milliseconds of what a check asks the store, the best of three."""
    now = START + timedelta(days=DAYS)
    week, day = timedelta(days=7), timedelta(days=1)

    def check() -> None:
        store.window("m", "1", now - day, now, as_of=now)
        store.rows(now - day, now, as_of=now)
        store.rows(now - week, now, "1", as_of=now)
        store.rows(now - week, now, as_of=now)
        store.new_labels(now - week, now)
        store.last_label_arrival(as_of=now)
        store.counts_between(now - day, now)
        store.counts_between(START, now, every=timedelta(hours=1))
        store.decisions(200)

    return _best(check)


def _day(store: TelemetryStore) -> float:
    now = START + timedelta(days=DAYS)
    return _best(lambda: store.rows(now - timedelta(days=1), now, as_of=now))


def _best(work: Any) -> float:
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return round(1e3 * min(spent), 1)


def _size(store: TelemetryStore) -> float:
    """Bytes on disk."""
    from sqlalchemy import text

    store.database.tidy()
    place = store.database.engine.url.database
    if store.database.engine.dialect.name == "sqlite":
        return float(Path(str(place)).stat().st_size)
    with store.database.read() as connection:
        size = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r'"
        own = f"{size} AND c.relnamespace = current_schema()::regnamespace"
        return float(connection.scalar(text(own)) or 0)


def _child(url: str, start: int, count: int, total: int) -> None:
    made = [
        (batch(at, min(SMALL, start + count - at), total), min(SMALL, start + count - at))
        for at in range(start, start + count, SMALL)
    ]
    with TelemetryStore(url) as store:
        print("ready", flush=True)  # noqa: T201 - to the parent
        sys.stdin.readline()
        for data, many in made:
            store.record_encoded(data, many)


if __name__ == "__main__":
    _child(sys.argv[1], *map(int, sys.argv[2:]))
