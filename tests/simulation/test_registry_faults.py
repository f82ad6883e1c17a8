"""A full disk, kill -9 and races while registering and promoting: nothing is half-done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.bundle import Predictor
from models.errors import RegistryFault
from models.registry import Registry
from tests import registry_parts as parts
from tests.registry_parts import NAME, promote, register

pytestmark = pytest.mark.timeout(300)  # processes import MLflow anew, slowly on a busy machine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    """Version 1 is champion."""
    return parts.championed(tmp_path)


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def wrapped(*_: object, **__: object) -> None:
    """As MLflow passes on a fault of its store: only the text is left."""
    from mlflow.exceptions import MlflowException

    raise MlflowException("(sqlite3.OperationalError) database or disk is full")


def runs(store: Registry) -> list[tuple[str, str, str]]:
    """(window, status, fault) of every run, oldest first."""
    experiment = store._call("get_experiment_by_name", NAME).experiment_id
    found = store._call("search_runs", [experiment], order_by=["attributes.start_time"])
    return sorted(
        (run.data.tags["window_id"], run.info.status, run.data.tags.get("fault", ""))
        for run in found
    )


def files(store: Registry) -> set[str]:
    """Runs that have files."""
    return {path.name for path in store.artifacts.iterdir()}


def check_untouched(store: Registry) -> None:
    """Version 1 is the only one, is champion, and nothing waits."""
    assert [release.version for release in store.versions()] == ["1"]
    champion = store.champion()
    assert champion is not None
    assert champion.version == "1"
    assert store.challenger() is None
    assert files(store) == {champion.run_id}


def check_retry(store: Registry, folder: Path) -> None:
    """The same window goes through now, with a whole bundle."""
    version = register(store, 1)
    waiting = store.challenger()
    assert waiting is not None
    assert waiting.version == version
    assert [release.window_id for release in store.versions()] == ["w0", "w1"]
    Predictor.load(store.download(version, folder), digest=waiting.digest).self_check()
    promote(store, version, "1")
    assert store._call("get_run", waiting.run_id).info.status == "FINISHED"


# A full disk


@pytest.mark.parametrize("copied", [0, 2, 5], ids=["at once", "half-way", "late"])
def test_a_full_disk_while_copying_leaves_nothing_half_made(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    real, left = shutil.copy2, iter([True] * copied)

    def filling(source: str, target: str, **more: bool) -> object:
        if str(tmp_path / "artifacts") in str(target) and not next(left, False):
            with open(target, "wb") as file:
                file.write(b"half a fi")
            no_space()
        return real(source, target, **more)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", filling)
        with pytest.raises(RegistryFault, match=r"needs free disk space .*free some, then try"):
            register(store, 1)
    check_untouched(store)
    assert [(w, status) for w, status, _ in runs(store)] == [("w0", "FINISHED"), ("w1", "FAILED")]
    assert "needs free disk space" in runs(store)[1][2]
    check_retry(store, tmp_path / "serving")


@pytest.mark.parametrize("fault", [no_space, wrapped])
@pytest.mark.parametrize(
    "method",
    [
        "log_batch",
        "log_artifacts",
        "create_model_version",
        "set_registered_model_alias",
    ],
)
def test_a_full_disk_at_any_call_leaves_nothing_half_made(
    store: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fault: object,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store._client(), method, fault)
        with pytest.raises(RegistryFault, match="needs free disk space"):
            register(store, 1)
    check_untouched(store)
    assert runs(store)[1][:2] == ("w1", "FAILED")
    check_retry(store, tmp_path / "serving")


def test_a_copy_that_lost_bytes_is_not_registered(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store._client().log_artifacts

    def lossy(run_id: str, folder: str) -> None:
        real(run_id, folder)
        copied = tmp_path / "artifacts" / run_id / "artifacts" / "model/data/bundle/bundle.json"
        copied.write_bytes(copied.read_bytes()[:-1])

    with monkeypatch.context() as patch:
        patch.setattr(store._client(), "log_artifacts", lossy)
        with pytest.raises(RegistryFault, match=r"uploaded bundle must have the digest"):
            register(store, 1)
    check_untouched(store)
    check_retry(store, tmp_path / "serving")


@pytest.fixture
def busy(store: Registry) -> Iterator[sqlite3.Connection]:
    """Another writer that holds SQLite's lock."""
    other = sqlite3.connect(store.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_lock_that_comes_free_is_waited_out(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    real, faults = store._client().create_model_version, iter([True, True])

    def locked(*args: object, **more: object) -> object:
        if next(faults, False):
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return real(*args, **more)

    monkeypatch.setattr(store._client(), "create_model_version", locked)
    check_retry(store, tmp_path / "serving")


def test_reading_goes_on_beside_a_writer(store: Registry, busy: sqlite3.Connection) -> None:
    champion = store.champion()
    assert champion is not None
    assert champion.version == "1"


# kill -9 and races, each in processes of its own, all started by one to save imports

MOMENTS = {  # method, moment: whether version 2 is there (whole), and the status of its run
    ("log_artifacts", "during"): (False, "RUNNING"),
    ("create_model_version", "before"): (False, "RUNNING"),
    ("create_model_version", "after"): (True, "RUNNING"),
    ("set_registered_model_alias", "before"): (True, "FINISHED"),
}


@dataclass(frozen=True)
class Aftermath:
    """Where the processes were at work, with [exit code, output] of each."""

    killed: dict[tuple[str, str], tuple[Path, int]]
    promoting: Path
    promoted: dict[str, str]  # version: what its process says
    registering: Path
    registered: list[str]
    opened: list[tuple[int, int]]  # by each that opened one new store: exit code, versions there


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    def begun(versions: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("registry")
        made = parts.championed(folder)
        for number in range(1, versions):
            register(made, number)
        return folder

    killed = {key: begun() for key in MOMENTS}
    promoting, registering = begun(3), begun()
    jobs: list[dict[str, object]] = [
        {"folder": str(folder), "number": 1, "method": method, "moment": moment}
        for (method, moment), folder in killed.items()
    ]
    jobs += [{"folder": str(promoting), "what": "promote", "which": v} for v in ("2", "3")]
    jobs += [{"folder": str(registering), "what": "register", "which": "1"}] * 2
    jobs += [{"folder": str(tmp_path_factory.mktemp("new")), "what": "open"}] * 3
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.registry_children", json.dumps(jobs)],
        cwd=ROOT,
        env={**os.environ, **parts.told()},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes, outputs = zip(*json.loads(done.stdout), strict=True)
    return Aftermath(
        {key: (folder, code) for (key, folder), code in zip(killed.items(), codes, strict=False)},
        promoting,
        dict(zip(("2", "3"), outputs[4:6], strict=True)),
        registering,
        list(outputs[6:8]),
        list(zip(codes[8:], outputs[8:], strict=True)),
    )


@pytest.mark.parametrize("key", MOMENTS, ids=" ".join)
def test_kill_9_while_registering_leaves_no_half_version(
    aftermath: Aftermath, key: tuple[str, str]
) -> None:
    """At the third copied file, before and after the version is made, before the alias."""
    (folder, code), (whole, status) = aftermath.killed[key], MOMENTS[key]
    assert code == -signal.SIGKILL
    store = parts.registry(folder)
    champion = store.champion()
    assert champion is not None
    assert champion.version == "1"
    assert store.challenger() is None
    versions = [release.version for release in store.versions()]
    assert versions == (["1", "2"] if whole else ["1"])
    for version in versions:  # what exists is whole
        store.download(version, folder / "check")
    assert runs(store)[1][:2] == ("w1", status)
    check_retry(store, folder / "serving")
    ended = [ending for window, ending, _ in runs(store) if window == "w1"]
    assert ended == (["FINISHED"] if whole else ["FINISHED", "KILLED"])
    assert files(store) == {release.run_id for release in store.versions()}


def test_of_two_racing_promotions_exactly_one_wins(aftermath: Aftermath) -> None:
    said = aftermath.promoted
    assert sorted(output.partition(":")[0] for output in said.values()) == ["lost", "won"]
    winner, loser = sorted(said, key=lambda version: said[version] != "won")
    store = parts.registry(aftermath.promoting)
    champion = store.champion()
    assert champion is not None
    assert champion.version == winner
    assert champion.tags["previous_champion"] == "1"
    assert f"must still be 1; it is {winner}" in said[loser]
    assert "promoted_at" not in store.version(loser).tags


def test_two_processes_register_one_window_once(aftermath: Aftermath) -> None:
    assert aftermath.registered == ["2", "2"]
    store = parts.registry(aftermath.registering)
    assert [release.window_id for release in store.versions()] == ["w0", "w1"]


def test_a_held_lock_is_told(store: Registry, tmp_path: Path) -> None:
    version = register(store, 1)
    hasty = Registry(store.url, NAME, store.artifacts, lock_seconds=0.1)
    with (
        store._locked("alias"),
        pytest.raises(RegistryFault, match=r"the lock .* was not free for 0.1 s"),
    ):
        promote(hasty, version, "1")
    promote(hasty, version, "1")


def test_processes_that_open_a_new_store_at_once_make_its_tables_once(aftermath: Aftermath) -> None:
    assert aftermath.opened == [(0, 0)] * 3
