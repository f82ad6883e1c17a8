"""MLflow's registry on PostgreSQL: its own tests, many promoters, two first uses at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from deployments.postgres import Postgres
from models import registry_files
from models.errors import RegistryFault
from models.registry import Registry
from models.registry_lean import LeanRegistry
from tests.engines.elsewhere import taken
from tests.registry_parts import NAME, promote, register

ROOT = Path(__file__).parents[2]
FILES_ONLY = (  # what they measure, or say of MLflow's own tools, is not the database's
    "test_mlflows_own_tools_load_the_champion",
    "test_polling_the_champion_is_cheap",
    "test_registering_takes_less_than_two_seconds",
)

globals().update(taken("tests.models", ("test_registry",), ("store",), FILES_ONLY))


@pytest.fixture(scope="session")
def tables(postgres: Postgres) -> str:
    """A database with MLflow's tables, made once and copied: that takes it some seconds."""
    url = postgres.create("mlflow_tables")
    code = "import sys; from models.registry import Registry; from pathlib import Path\n"
    code += "assert Registry(sys.argv[1], 'flights', Path(sys.argv[2])).champion() is None"
    command = [sys.executable, "-c", code, url, str(postgres.folder / "unused")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return "mlflow_tables"


@pytest.fixture
def url(postgres: Postgres, tables: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres.sql(f"CREATE DATABASE {name} TEMPLATE {tables}")
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def store(url: str, tmp_path: Path) -> Registry:
    return Registry(url, NAME, tmp_path / "artifacts")


def test_the_lean_reader_says_what_the_client_says(store: Registry) -> None:
    reader = LeanRegistry(store.url, store.name, store.artifacts)
    assert reader.champion() is None
    register(store, 1)
    promote(store, "1", None)
    register(store, 2)
    promote(store, "2", "1")
    for which in ("champion", "challenger", "previous"):
        assert getattr(reader, which)() == getattr(store, which)()
    assert [reader.version(v) for v in "12"] == [store.version(v) for v in "12"]
    assert reader._lean
    reader._engine.dispose()  # a server keeps it as long as it lives


def test_of_16_promoters_at_once_one_wins(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on 16 machines without a file lock in common: nothing but the database is between them."""
    monkeypatch.setattr(registry_files, "locked", lambda *_: nullcontext())
    store = Registry(url, NAME, tmp_path / "artifacts")
    first = register(store, 0)
    promote(store, first, None)
    versions = [register(store, n % 3, window_id=f"w-{n}") for n in range(16)]
    stores = [Registry(url, NAME, store.artifacts) for _ in versions]
    won: list[str] = []
    said: list[str] = []
    begin = threading.Barrier(16)

    def go(mine: Registry, version: str) -> None:
        begin.wait()
        try:
            promote(mine, version, first)
            won.append(version)
        except RegistryFault as fault:
            said.append(str(fault))

    threads = [
        threading.Thread(target=go, args=pair) for pair in zip(stores, versions, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(said)) == (1, 15), said
    assert all("another process was faster" in text for text in said)
    champion = store.champion()
    assert champion is not None
    assert champion.version == won[0]
    assert champion.tags["previous_champion"] == first
    promoted = [r.version for r in store.versions() if "promoted_at" in r.tags]
    assert promoted == [first, won[0]]


def test_first_uses_at_once_make_the_tables_once(
    database: Callable[[], str], tmp_path: Path
) -> None:
    url = database()
    code = """
import sys
from pathlib import Path
import mlflow
from models.registry import Registry
sys.stdin.readline()
print(Registry(sys.argv[1], sys.argv[2], Path(sys.argv[3])).champion())
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, name, str(tmp_path / name)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    time.sleep(6.0)  # let both import MLflow
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out) == (0, "None\n"), err


def test_a_registry_that_cannot_be_reached_says_so_without_its_password(
    store: Registry, postgres: Postgres, tmp_path: Path
) -> None:
    wrong = store.url.replace(postgres.password, "s3cr3t")
    with pytest.raises(RegistryFault, match="password") as caught:
        Registry(wrong, NAME, tmp_path / "artifacts").champion()
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(RegistryFault, match="password") as caught:
        LeanRegistry(wrong, NAME, tmp_path / "artifacts").champion()
    assert "s3cr3t" not in str(caught.value)


def test_it_goes_on_after_the_server_was_restarted(store: Registry, postgres: Postgres) -> None:
    register(store, 1)
    postgres.stop()
    try:
        with pytest.raises(RegistryFault):
            store.version("1")
    finally:
        postgres.start()
    promote(store, "1", None)
    assert store.champion() is not None
