"""The scale benchmark's own parts: copies that are models of their own, and a meter that counts."""

from __future__ import annotations

import os
import sqlite3
import time

from tests.benchmarks.scale import herd, meter


def test_a_copy_has_its_own_name_in_all_that_it_has(tmp_path):
    source = tmp_path / "runs" / herd.FIRST
    (source / "versions").mkdir(parents=True)
    (source / "prefect").mkdir()
    with sqlite3.connect(source / "mlflow.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE runs (place TEXT, number INTEGER)")
        connection.execute("INSERT INTO runs VALUES (?, 7), ('elsewhere', 8)", (str(source),))
    config = tmp_path / f"{herd.FIRST}.yaml"
    config.write_text(f"name: {herd.FIRST}\n")
    one, two = herd.copies(config, 2)
    assert two.read_text() == "name: scale-00001\n"
    for path in (one, two):
        folder = tmp_path / "runs" / path.stem
        assert not (folder / "prefect").exists()
        with sqlite3.connect(folder / "mlflow.db") as connection:
            rows = connection.execute("SELECT * FROM runs ORDER BY number").fetchall()
        assert rows == [(str(folder), 7), ("elsewhere", 8)]


def test_the_meter_counts_what_a_process_has_used(tmp_path):
    before, began = meter.cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert 0.08 < meter.cpu_seconds(os.getpid()) - before < 5
    assert meter.memory_mb(os.getpid()) > 10
    database = meter.Sqlite(tmp_path / "p.db")
    with sqlite3.connect(database.path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1_000,)] * 1_000)
        connection.commit()
        full = database.size_mb()
        connection.execute("DELETE FROM t")
        connection.commit()
        assert 1.0 < full < 2.0
        assert database.size_mb() < 0.1  # freed pages do not count
