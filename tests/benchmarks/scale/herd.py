"""Many models that are one: a champion is trained once, and its store and registry are copied.

Every copy has a name, a folder, a registry and a telemetry store of its own, with all rows in them:
to a check it is a model like any other.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FIRST = "scale-first"  # as long as every copy's name, so that nothing moves in a file
OLD = timedelta(minutes=20)  # of the newest row: no news to a round that follows another
_DAY = timedelta(days=1)


def name_of(number: int) -> str:
    """
    >>> name_of(7)
    'scale-00007'
    """
    return f"scale-{number:05d}"


def first(folder: Path, rows: int, columns: int, *, label_share: float = 0.5) -> Path:
    """The config of a trained model with `rows` predictions of the last day, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    features, label = _world(rng, 1_000, columns)
    frame = pd.DataFrame(features, columns=[f"x{i}" for i in range(columns)]).round(4)
    frame["label"] = label
    frame.insert(0, "at", pd.date_range(end=_now() - 2 * _DAY, periods=1_000, freq="10min"))
    frame.to_csv(folder / "rows.csv", index=False)
    config = folder / f"{FIRST}.yaml"
    config.write_text(_config(FIRST, columns), encoding="utf-8")
    train = [sys.executable, "-P", "-m", "deployments", "train", str(config)]
    done = subprocess.run(train, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the first model was not trained:\n{done.stdout}{done.stderr}")
    fill(config, rows, columns, label_share=label_share, ago=OLD)
    return config


def fill(
    config: Path,
    rows: int,
    columns: int,
    *,
    label_share: float = 0.5,
    seed: int = 1,
    over: timedelta = _DAY,
    ago: timedelta = timedelta(0),
) -> None:
    """Add `rows` predictions of the time `over` that ended `ago`, and labels of some."""
    from monitoring.records import Label, Prediction
    from tasks import places
    from tasks.config import load

    rng = np.random.default_rng(seed)
    features, label = _world(rng, rows, columns)
    score = 1 / (1 + np.exp(-1.5 * features[:, 0] - 0.7 * features[:, 1]))
    now, tag = _now() - ago, f"{seed}-{os.urandom(4).hex()}"
    times = [now - over * ((rows - i) / rows) for i in range(rows)]
    names = [f"x{i}" for i in range(columns)]
    with places.telemetry(load(config)) as store:
        for begin in range(0, rows, 5_000):
            part = range(begin, min(begin + 5_000, rows))
            store.record(
                Prediction(
                    f"{tag}-{i}",
                    times[i],
                    "1",
                    dict(zip(names, features[i].round(4).tolist(), strict=True)),
                    [1 - score[i], score[i]],
                    1.0,
                )
                for i in part
            )
            known = [i for i in part if rng.random() < label_share]
            store.label(Label(f"{tag}-{i}", int(label[i]), now) for i in known)


def copies(config: Path, number: int) -> Iterator[Path]:
    """The configs of `number` copies of the trained model, beside it."""
    folder = config.parent
    source = folder / "runs" / FIRST
    for path in source.glob("*.db"):  # all of it in one file, so that one file is all of it
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    statements = {path.name: _renamings(path) for path in source.glob("*.db")}
    text = config.read_text(encoding="utf-8")
    for i in range(number):
        name = name_of(i)
        target = folder / "runs" / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("prefect", "retrains", "*.db-*", "logs")
        )
        for file, commands in statements.items():
            with sqlite3.connect(target / file) as connection:
                connection.execute("PRAGMA synchronous=OFF")
                for command in commands:
                    connection.execute(command, (FIRST, name))
        path = folder / f"{name}.yaml"
        path.write_text(text.replace(FIRST, name), encoding="utf-8")
        yield path


def _renamings(path: Path) -> list[str]:
    """One UPDATE for each column of text that names the first model."""
    found = []
    with sqlite3.connect(path) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (table,) in tables:
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall():
                where = f"FROM {table} WHERE typeof({column[1]}) = 'text' AND instr({column[1]}, ?)"
                if connection.execute(f"SELECT 1 {where} LIMIT 1", (FIRST,)).fetchone():
                    found.append(f"UPDATE {table} SET {column[1]} = replace({column[1]}, ?, ?)")
    return found


def _world(rng: np.random.Generator, rows: int, columns: int) -> tuple[Any, Any]:
    features = rng.normal(size=(rows, columns))
    chance = 1 / (1 + np.exp(-1.5 * features[:, 0] - 0.7 * features[:, 1]))
    return features, (rng.random(rows) < chance).astype(int)


def _config(name: str, columns: int) -> str:
    names = ", ".join(f"x{i}: number" for i in range(columns))
    return f"""\
name: {name}
data:
  source: rows.csv
  target: label
  time: at
  columns: {{{names}}}
  classes: [0, 1]
train: {{families: [logistic], trials: 2, warm_trials: 2, seconds: 30, parallel: 1}}
monitor: {{minimum_rows: 50, minimum_labels: 50}}
policy: {{minimum_new_labels: 1000000}}
gate: {{rows: 200, minimum_rows: 100, resamples: 200}}
schedule: {{cron: "0 * * * *"}}
"""


def _now() -> datetime:
    return datetime.now(UTC)


def size_mb(paths: Sequence[Path]) -> float:
    """On disk, of files and folders with all that is in them."""
    files = [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
