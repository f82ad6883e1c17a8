"""The registry on a real MLflow store: what is kept, who is champion, what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Predictor
from models.errors import BundleFault, RegistryFault
from models.records import Release
from models.registry import Registry
from tests import registry_parts as parts
from tests.registry_parts import NOW, promote, register

pytestmark = pytest.mark.timeout(180)  # the first import of MLflow is slow on a busy machine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return parts.registry(tmp_path)


def rollback(store: Registry) -> Release:
    return store.rollback(decision_id="undo", who="tests", why="it disappointed", now=NOW)


def answers(store: Registry, version: str, folder: Path) -> np.ndarray:
    return Predictor.load(store.download(version, folder)).predict_proba(parts.rows())


# Before anything is there


def test_reading_creates_nothing(tmp_path: Path) -> None:
    store = Registry(f"sqlite:///{tmp_path / 'deep' / 'm.db'}", "x", tmp_path / "artifacts")
    assert store.champion() is None
    assert store.challenger() is None
    assert store.versions() == ()
    assert store.by_window("w") is None
    assert list(tmp_path.iterdir()) == []


def test_importing_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, models.registry\n"
        "heavy = {'mlflow', 'pandas', 'torch', 'sklearn', 'numpy', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryFault, match=r"shared by processes.*use sqlite:///FILE"):
        Registry(url, "x", tmp_path)


@pytest.mark.parametrize("name", ["", "a/b", "a'b", "-a"])
def test_a_bad_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryFault, match="rename it"):
        Registry(f"sqlite:///{tmp_path / 'm.db'}", name, tmp_path)


# Registering


def test_everything_of_a_candidate_goes_into_one_run(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    uri = mlflow.get_tracking_uri()
    (tmp_path / "decision.json").write_text('{"action": "retrain"}', encoding="utf-8")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "1.json").write_text("{}", encoding="utf-8")
    version = register(
        store,
        0,
        files={
            "decision.json": tmp_path / "decision.json",
            "reports/drift.html": tmp_path / "decision.json",
            "search": tmp_path / "trials",
        },
        tags={"reason": "drift", "window_id": "forged"},
        params={"trials": 16},
        metrics={"train.seconds": 3.5},
    )
    release = store.version(version)
    candidate = parts.candidates()[0]
    assert release.digest == candidate.digest
    assert release.window_id == "w0"  # the registry's own tags win
    assert release.tags["reason"] == "drift"
    assert release.tags["data_digest"] == candidate.data_digest
    assert release.tags["gate"] == "passed"
    assert float(release.tags["gate.accuracy"]) == 0.875
    run = store._call("get_run", release.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["logistic.C"] == "0.01"
    assert run.data.params["trials"] == "16"
    assert run.data.metrics["gate.challenger.log_loss"] == 0.4
    assert run.data.metrics["gate.low"] == 0.05
    assert run.data.metrics["search.log_loss"] == 0.41
    assert run.data.metrics["train.seconds"] == 3.5
    assert run.data.tags["data_digest"] == candidate.data_digest
    kept = tmp_path / "artifacts" / release.run_id / "artifacts"
    assert json.loads((kept / "decision.json").read_text()) == {"action": "retrain"}
    assert not (kept / "decision.json").is_symlink()
    assert (kept / "reports" / "drift.html").is_file()
    assert (kept / "search" / "1.json").is_file()
    assert json.loads((kept / "verdict.json").read_text())["gain"] == 0.1
    assert json.loads((kept / "candidate.json").read_text())["digest"] == candidate.digest
    assert [p.name for p in kept.rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib")] == []
    assert mlflow.get_tracking_uri() == uri
    assert list(elsewhere.iterdir()) == []  # no mlruns, no mlflow.db


def test_the_signature_and_the_example_are_the_bundles(store: Registry, tmp_path: Path) -> None:
    from mlflow.models import Model

    release = store.version(register(store, 0))
    model = Model.load(str(tmp_path / "artifacts" / release.run_id / "artifacts" / "model"))
    signature = model.signature.to_dict()
    assert [(c["name"], c["type"]) for c in json.loads(signature["inputs"])] == [
        ("wind", "double"),
        ("carrier", "string"),
    ]
    assert [(c["name"], c["type"]) for c in json.loads(signature["outputs"])] == [
        ("label", "string"),
        ("probability_on time", "double"),
        ("probability_late", "double"),
    ]
    example = model.load_input_example(
        str(tmp_path / "artifacts" / release.run_id / "artifacts" / "model")
    )
    assert len(example) >= 2
    assert list(example.columns) == ["wind", "carrier"]


def test_the_same_window_gives_the_version_that_is_there(store: Registry) -> None:
    first = register(store, 0)
    again = register(store, 1, window_id="w0")
    assert again == first
    assert [release.version for release in store.versions()] == [first]
    assert store.by_window("w0") == store.version(first)
    assert store.by_window("w1") is None


def test_a_challenger_is_whom_the_gate_let_through(store: Registry) -> None:
    passed = register(store, 0)
    refused = register(store, 1, verdict=parts.verdict(passed=False))
    waiting = store.challenger()
    assert waiting is not None
    assert waiting.version == passed
    with pytest.raises(RegistryFault, match=r"passed its gate.*gate=refused.*retrain"):
        promote(store, refused, None)
    assert store.champion() is None


def test_registering_takes_less_than_two_seconds(store: Registry) -> None:
    register(store, 0)  # imports what the others find imported
    spent = []
    for number in (1, 2):
        began = time.perf_counter()
        register(store, number)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 2


@pytest.mark.parametrize("window_id", ["", "a'b", "line\nbreak", "x" * 201])
def test_a_window_id_that_is_no_key_is_refused(store: Registry, window_id: str) -> None:
    with pytest.raises(RegistryFault, match="a window id starts with"):
        register(store, 0, window_id=window_id)


def test_a_naive_time_is_refused(store: Registry) -> None:
    with pytest.raises(RegistryFault, match=r"have a time zone; got the naive 2013-03-01T06:00:00"):
        register(store, 0, now=datetime(2013, 3, 1, 6))  # noqa: DTZ001


@pytest.mark.parametrize("place", ["", "/etc/x", "../x", "model/x", "verdict.json"])
def test_an_artifact_path_stays_inside_its_run(store: Registry, place: str) -> None:
    with pytest.raises(RegistryFault, match="choose another"):
        register(store, 0, files={place: Path(__file__)})
    assert store.versions() == ()


def test_a_missing_file_is_told_before_anything_starts(store: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryFault, match=r"'a.json' should come from .*write it first"):
        register(store, 0, files={"a.json": tmp_path / "nowhere.json"})
    assert store._call("get_experiment_by_name", parts.NAME) is None


def test_a_bundle_of_another_candidate_is_refused(store: Registry) -> None:
    first, second, _ = parts.candidates()
    with pytest.raises(BundleFault, match="should have the digest"):
        store.register(Path(first.bundle), second, parts.verdict(), window_id="w", now=NOW)
    assert store.versions() == ()


def test_a_moved_folder_is_told(store: Registry, tmp_path: Path) -> None:
    register(store, 0)
    moved = Registry(store.url, parts.NAME, tmp_path / "elsewhere")
    with pytest.raises(RegistryFault, match=r"must stay where.*elsewhere.*move the folder back"):
        register(moved, 1)


# Promotion


def test_promotion_leaves_its_story(store: Registry) -> None:
    one, two = register(store, 0), register(store, 1)
    promote(store, one, None)
    promote(store, two, one)
    champion = store.champion()
    assert champion is not None
    assert champion.version == two
    assert champion.tags["previous_champion"] == one
    assert champion.tags["promoted_at"] == NOW.isoformat()
    assert champion.tags["who"] == "tests"
    assert champion.tags["why"] == "version 2 is better"
    assert champion.tags["decision_id"] == "d2"
    assert store.challenger() is None  # it has arrived


def test_promotion_fails_when_the_champion_is_another(store: Registry) -> None:
    one, two, three = (register(store, n) for n in range(3))
    promote(store, one, None)
    promote(store, two, one)
    before = store.version(three).tags
    for expected in (one, None):
        with pytest.raises(RegistryFault, match=r"must still be .*; it is 2: .*judge again"):
            promote(store, three, expected)
    assert store.champion() == store.version(two)
    assert store.version(three).tags == before


def test_a_version_that_does_not_exist_is_named(store: Registry) -> None:
    register(store, 0)
    with pytest.raises(RegistryFault, match=r"no version '9': choose one of 1"):
        promote(store, "9", None)


def test_a_version_without_its_files_never_becomes_champion(
    store: Registry, tmp_path: Path
) -> None:
    one = register(store, 0)
    (tmp_path / "artifacts" / store.version(one).run_id).rename(tmp_path / "gone")
    with pytest.raises(RegistryFault, match=r"files must be there; version 1 has none"):
        promote(store, one, None)
    assert store.champion() is None


# Roll-back


def test_rollback_restores_the_exact_answers(store: Registry, tmp_path: Path) -> None:
    one, two = register(store, 0), register(store, 1)
    promote(store, one, None)
    before = answers(store, one, tmp_path / "serving")
    promote(store, two, one)
    assert np.abs(answers(store, two, tmp_path / "serving") - before).max() > 0.01
    rollback(store)
    champion = store.champion()
    assert champion is not None
    np.testing.assert_array_equal(answers(store, champion.version, tmp_path / "fresh"), before)
    assert champion.tags["restored_from"] == two
    left = store.version(two).tags
    assert left["rolled_back_why"] == "it disappointed"
    assert left["rolled_back_at"] == NOW.isoformat()


# Aliases that vanish with a deleted version


def test_a_deleted_champion_is_told_and_rolled_back(store: Registry) -> None:
    one, two, three = (register(store, n) for n in range(3))
    promote(store, one, None)
    promote(store, two, one)
    store._call("delete_model_version", parts.NAME, two)
    with pytest.raises(RegistryFault, match=r"version 2 .* was promoted, but the alias"):
        store.champion()
    with pytest.raises(RegistryFault, match="must still be nobody; it is 2"):
        promote(store, three, None)
    assert rollback(store).version == one
    assert store.champion() == store.version(one)


# Files


def test_a_download_is_cached_and_mended(store: Registry, tmp_path: Path) -> None:
    one = register(store, 0)
    bundle = store.download(one, tmp_path / "serving")
    assert bundle == tmp_path / "serving" / one
    made = (bundle / "bundle.json").stat().st_ino
    assert store.download(one, tmp_path / "serving") == bundle
    assert (bundle / "bundle.json").stat().st_ino == made
    (bundle / "bundle.json").write_text("{}", encoding="utf-8")
    store.download(one, tmp_path / "serving")
    Predictor.load(bundle, digest=store.version(one).digest).self_check()
    assert [p.name for p in (tmp_path / "serving").iterdir()] == [one]


def test_files_altered_in_the_registry_are_refused(store: Registry, tmp_path: Path) -> None:
    one, two = register(store, 0), register(store, 1)
    kept = {
        v: tmp_path / "artifacts" / store.version(v).run_id / "artifacts/model/data/bundle"
        for v in (one, two)
    }
    with (kept[one] / "bundle.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    with pytest.raises(BundleFault, match=r"was altered .*bundle.json differs.*roll back"):
        store.download(one, tmp_path / "serving")
    kept[two].rename(tmp_path / "aside")
    Path(parts.candidates()[2].bundle).rename(tmp_path / "other")
    try:  # a whole bundle, but not the one that was registered
        (tmp_path / "other").rename(kept[two])
        with pytest.raises(BundleFault, match="another bundle"):
            store.download(two, tmp_path / "serving")
    finally:
        kept[two].rename(parts.candidates()[2].bundle)
    with pytest.raises(RegistryFault, match=r"version 2 has none in run .*roll back"):
        store.download(two, tmp_path / "serving")
    assert list((tmp_path / "serving").iterdir()) == []


def test_files_of_two_versions_do_not_mix(store: Registry, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / "controller.json").write_text(str(number), encoding="utf-8")
        register(store, number, files={"controller.json": tmp_path / "controller.json"})
    found = [store.fetch_file(v, "controller.json", tmp_path / "got") for v in ("1", "2")]
    assert [path.read_text() for path in found if path] == ["0", "1"]
    assert store.fetch_file("1", "reference.parquet", tmp_path / "got") is None
    with pytest.raises(RegistryFault, match=r"without '..'; got '../x'"):
        store.fetch_file("1", "../x", tmp_path / "got")


def test_polling_the_champion_is_cheap(store: Registry) -> None:
    promote(store, register(store, 0), None)
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        store.champion()
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.01


def test_mlflows_own_tools_load_the_champion(store: Registry, tmp_path: Path) -> None:
    """In a process of its own, as anyone would do it: only the URI of the store is known."""
    one, two = register(store, 0), register(store, 1)
    promote(store, one, None)
    promote(store, two, one)
    frame = parts.rows()[["carrier", "wind"]]
    frame.to_json(tmp_path / "rows.json", orient="split")
    code = (
        "import sys, mlflow, pandas as pd\n"
        "rows = pd.read_json(sys.argv[1], orient='split')\n"
        "model = mlflow.pyfunc.load_model('models:/flights@champion')\n"
        "model.predict(rows).to_json(sys.argv[2], orient='split', double_precision=15)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rows.json"), str(tmp_path / "out.json")],
        cwd=ROOT,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": store.url,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        check=True,
        capture_output=True,
    )
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["columns"] == ["label", "probability_on time", "probability_late"]
    expected = answers(store, two, tmp_path / "serving")
    np.testing.assert_allclose([row[1:] for row in out["data"]], expected, atol=1e-12)
    assert [row[0] for row in out["data"]] == [
        ("on time", "late")[code] for code in expected.argmax(axis=1)
    ]
