"""What the registry's tests share: fitted bundles, a verdict, an empty MLflow store to copy."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from models.records import Candidate, Verdict
from models.registry import Registry
from models.schema import Column, Schema
from models.training import fit_bundle

NOW = datetime(2013, 3, 1, 6, tzinfo=UTC)
NAME = "flights"
_TOLD = "TESTS_CANDIDATES"
SCHEMA = Schema(
    (Column("wind", "number"), Column("carrier", "category")), "late", ("on time", "late")
)


def verdict(*, passed: bool = True) -> Verdict:
    return Verdict(
        passed=passed,
        reason="the gain's lower bound is above 0" if passed else "no gain was shown",
        rows=300,
        metric="log_loss",
        champion={"log_loss": 0.5},
        challenger={"log_loss": 0.4, "accuracy": 0.875},
        gain=0.1,
        low=0.05,
        high=0.15,
        confidence=0.95,
    )


def rows(count: int = 80) -> pd.DataFrame:
    """Rows with a missing number, a missing category and a category that training never saw."""
    rng = np.random.default_rng(7)
    wind, carrier = rng.gamma(2.0, 5.0, count), rng.choice(["AA", "B6", "EV"], count)
    late = np.where(wind + 8 * (carrier == "EV") + rng.normal(0, 3, count) > 14, "late", "on time")
    frame = pd.DataFrame({"wind": wind, "carrier": carrier.astype(object), "late": late})
    frame.loc[3, "wind"] = np.nan
    frame.loc[4, "carrier"] = None
    return frame


@functools.cache
def candidates() -> tuple[Candidate, ...]:
    """Three bundles that answer differently, fitted once a session: a child process is `told`."""
    if (known := os.environ.get(_TOLD)) is not None:
        return tuple(Candidate(**row) for row in json.loads(known))
    folder = Path(tempfile.mkdtemp(prefix="everfit-tests-bundles-"))
    return tuple(
        fit_bundle(
            rows(),
            SCHEMA,
            {"family": "logistic", "logistic.C": c, "logistic.class_weight": "none"},
            folder=folder / f"bundle{number}",
            seed=number,
            metrics={"log_loss": 0.41},
        )
        for number, c in enumerate((0.01, 1.0, 50.0))
    )


def told() -> dict[str, str]:
    """What a child process needs in its environment to take these bundles instead of fitting."""
    return {_TOLD: json.dumps([asdict(made) for made in candidates()])}


@functools.cache
def _empty_store() -> Path:
    """MLflow takes over a second to make its tables, so they are made once and copied."""
    place = Path(tempfile.mkdtemp(prefix="everfit-tests-store-")) / "mlflow.db"
    made = Registry(f"sqlite:///{place}", NAME, place.parent / "artifacts")
    place.touch()  # reading alone would not create it
    assert made.champion() is None
    return place


def tables(folder: Path) -> Path:
    """An empty store at folder/mlflow.db, unless there is one."""
    place = folder / "mlflow.db"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_empty_store(), place)
    return place


def moved(was: Path, folder: Path) -> None:
    """Tell the store in `folder`, a copy of all that lies in `was`, where its files lie now."""
    named = {
        "experiments": ("artifact_location",),
        "runs": ("artifact_uri",),
        "model_versions": ("source", "storage_location"),
    }
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        for table, columns in named.items():
            for column in columns:
                store.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                    (str(was), str(folder)),
                )


def registry(folder: Path) -> Registry:
    """A registry of its own in `folder`, its tables already made."""
    place = tables(folder)
    return Registry(f"sqlite:///{place}", NAME, folder / "artifacts")


@functools.cache
def _championed() -> Path:
    """A store in which version 1, bundle 0 of window w0, is champion."""
    folder = Path(tempfile.mkdtemp(prefix="everfit-tests-champion-"))
    made = registry(folder)
    promote(made, register(made, 0), None)
    return folder


def championed(folder: Path) -> Registry:
    """A registry of its own in `folder`, whose champion is version 1; made once and copied."""
    shutil.copytree(_championed(), folder, dirs_exist_ok=True)
    moved(_championed(), folder)
    return registry(folder)


def register(store: Registry, number: int, **more: object) -> str:
    """Register bundle `number` for window `w<number>`; gives the version."""
    candidate = candidates()[number]
    given = {"window_id": f"w{number}", "now": NOW, **more}
    ruling = given.pop("verdict", verdict())
    return store.register(Path(candidate.bundle), candidate, ruling, **given).version  # type: ignore[arg-type]


def promote(store: Registry, version: str, expected: str | None) -> None:
    store.promote(
        version,
        expected=expected,
        decision_id=f"d{version}",
        who="tests",
        why=f"version {version} is better",
        now=NOW,
    )
