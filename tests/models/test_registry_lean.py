"""The registry as servers read it: what MLflow's client says, without MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from models.bundle import Predictor
from models.errors import BundleFault, RegistryFault
from models.registry import Registry
from models.registry_lean import LeanRegistry
from tests import registry_parts as parts
from tests.registry_parts import NOW, promote, register

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]


def lean(store: Registry) -> LeanRegistry:
    return LeanRegistry(store.url, store.name, store.artifacts)


def views(store: Registry) -> list[object]:
    versions = [store.version(v) for v in "12"]
    return [store.champion(), store.challenger(), store.previous(), versions, dict(store._record())]


def test_reading_creates_nothing(tmp_path: Path) -> None:
    reader = LeanRegistry(f"sqlite:///{tmp_path / 'm.db'}", "x", tmp_path / "artifacts")
    assert reader.champion() is None
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_the_client_says(tmp_path: Path) -> None:
    store = parts.registry(tmp_path)
    reader = lean(store)
    assert reader.champion() is None
    assert reader.previous() is None
    register(store, 1)
    promote(store, "1", None)
    assert reader.champion() == store.champion()
    register(store, 2)
    promote(store, "2", "1")
    assert views(reader) == views(store)
    store.rollback(decision_id="undo", who="tests", why="worse", now=NOW)
    assert views(reader) == views(store)
    store._drop_alias("champion")
    with pytest.raises(RegistryFault, match="the alias 'champion' is gone"):
        reader.champion()
    with pytest.raises(RegistryFault, match="has no version '9'"):
        reader.version("9")


def test_a_bundle_is_fetched_without_mlflow_in_this_process(tmp_path: Path) -> None:
    store = parts.registry(tmp_path)
    register(store, 1)
    promote(store, "1", None)
    job = [store.url, store.name, str(store.artifacts), str(tmp_path / "bundles")]
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from models.registry_lean import LeanRegistry\n"
        "url, name, artifacts, folder = json.load(sys.stdin)\n"
        "reader = LeanRegistry(url, name, Path(artifacts))\n"
        "print(reader.download(reader.champion().version, Path(folder)))\n"
        "print(sorted({'mlflow', 'pandas', 'torch', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(job),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    place, heavy = done.stdout.split("\n", 1)
    assert heavy.strip() == "[]"
    Predictor.load(Path(place)).self_check()


def test_a_damaged_version_is_refused_as_by_the_client(tmp_path: Path) -> None:
    store = parts.registry(tmp_path)
    version = register(store, 1)
    for file in store.artifacts.rglob("bundle.json"):
        file.write_text("{}")
    with pytest.raises(BundleFault, match="must be as it was registered"):
        lean(store).download(version, tmp_path / "bundles")
    assert not (tmp_path / "bundles" / "1").exists()


def test_other_tables_are_left_to_the_client(tmp_path: Path) -> None:
    store = parts.registry(tmp_path)
    register(store, 1)
    promote(store, "1", None)
    reader = lean(store)
    with create_engine(store.url).begin() as connection:
        connection.execute(text("alter table model_version_tags rename to other_tags"))
        connection.execute(text("create view model_version_tags as select * from other_tags"))
    assert reader.champion() == store.champion()  # a view is no table that this file knows
    assert not reader._lean
