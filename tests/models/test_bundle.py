from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models import bundle, bundle_files
from models.bundle import Predictor
from models.errors import BundleFault, DataFault
from models.records import Candidate
from models.schema import Column, Schema
from models.training import fit_bundle

SCHEMA = Schema((Column("x", "number"), Column("c", "category")), "y", ("a", "b", "c"))
QUICK = {
    "logistic": {"family": "logistic"},
    "hgb": {"family": "hgb", "hgb.max_iter": 20},
    "forest": {"family": "forest", "forest.n_estimators": 20},
    "mlp": {"family": "mlp", "mlp.epochs": 3},
}


def table(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=n), "c": rng.choice(["u", "v"], n)})
    frame.loc[n - 1, ["x", "c"]] = [np.nan, None]  # the example has a gap in it
    return frame.assign(y=rng.choice(["a", "b", "c"], n))


def made(folder: Path, family: str = "logistic", **params: object) -> Candidate:
    return fit_bundle(table(), SCHEMA, {**QUICK[family], **params}, folder=folder, seed=0)


@pytest.mark.parametrize("family", list(QUICK))
def test_a_bundle_loads_and_answers_its_own_example(family: str, tmp_path: Path) -> None:
    candidate = made(tmp_path / "bundle", family)
    predictor = Predictor.load(tmp_path / "bundle", digest=candidate.digest)
    predictor.self_check()
    assert predictor.schema == SCHEMA
    assert predictor.classes == ("a", "b", "c")
    assert (predictor.family, predictor.digest) == (family, candidate.digest)
    assert predictor.params == candidate.params
    assert predictor.example["x"][-1] is None
    assert len(predictor.example["x"]) >= 2
    for n in (0, 1, 2, 50):
        proba = predictor.predict_proba({"x": [0.5] * n, "c": ["u"] * n, "more": [1] * n})
        assert proba.shape == (n, 3)
        np.testing.assert_allclose(proba.sum(1), 1.0, atol=1e-6)
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    model = "model.pt2" if family == "mlp" else "model.skops"
    always = {"bundle.json", "digest.json", "model.onnx", model}
    assert always <= names <= {*always, "model.json"}


def test_columns_may_be_a_frame_arrays_or_lists(tmp_path: Path) -> None:
    predictor = Predictor.load(made(tmp_path / "bundle").bundle)
    frame = table()
    answers = [
        predictor.predict_proba(frame),
        predictor.predict_proba({name: frame[name].to_numpy() for name in ("x", "c")}),
        predictor.predict_proba({name: frame[name].tolist() for name in ("x", "c")}),
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_bad_columns_are_data_faults(tmp_path: Path) -> None:
    predictor = Predictor.load(made(tmp_path / "bundle").bundle)
    with pytest.raises(DataFault, match="got no c"):
        predictor.predict_proba({"x": [1.0]})
    with pytest.raises(DataFault, match="'x' holds numbers"):
        predictor.predict_proba({"x": ["1"], "c": ["u"]})


@pytest.mark.parametrize("family", list(QUICK))
def test_many_threads_get_the_same_answers(family: str, tmp_path: Path) -> None:
    predictor = Predictor.load(made(tmp_path / "bundle", family).bundle)
    frame = table()
    expected = predictor.predict_proba(frame)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: predictor.predict_proba(frame), range(12)):
            np.testing.assert_array_equal(answer, expected)


def alter_model(folder: Path) -> None:
    with (folder / "model.skops").open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


def alter_info(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"rows": 200', '"rows": 201'))


def alter_seal(folder: Path) -> None:
    seal = json.loads((folder / "digest.json").read_text())
    (folder / "digest.json").write_text(json.dumps({**seal, "digest": "0" * 64}))


ALTERED: list[tuple[Callable[[Path], object], str]] = [
    (alter_model, "altered since it was written: model.skops differs"),
    (alter_info, "bundle.json differs"),
    (alter_seal, "digest.json differs"),
    (lambda f: (f / "model.skops").unlink(), "model.skops differs"),
    (lambda f: (f / "more.bin").write_bytes(b"x"), "more.bin differs"),
    (lambda f: (f / "model.json").rename(f / "other.json"), "model.json, other.json differs"),
    (lambda f: (f / "digest.json").unlink(), "is no whole bundle"),
    (lambda f: (f / "digest.json").write_text("{"), "is no whole bundle"),
    (lambda f: (f / "digest.json").write_text("[]"), "is no whole bundle"),
]


@pytest.mark.parametrize(("alter", "message"), ALTERED)
def test_an_altered_bundle_is_refused(alter, message: str, tmp_path: Path) -> None:
    folder = Path(made(tmp_path / "bundle").bundle)
    alter(folder)
    with pytest.raises(BundleFault, match=message):
        Predictor.load(folder)
    with pytest.raises(BundleFault):
        bundle.digest(folder)


def test_another_bundle_than_the_one_wanted_is_refused(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", "hgb")
    assert one.digest != other.digest
    with pytest.raises(BundleFault, match="should have the digest"):
        Predictor.load(one.bundle, digest=other.digest)
    assert bundle.digest(one.bundle) == one.digest


def test_no_folder_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleFault, match="is no whole bundle"):
        Predictor.load(tmp_path / "none")


NATIVE = {"runtime": "native", "reason": "a test's"}


def reseal(folder: Path, **changes: object) -> None:
    """Change bundle.json and seal the folder anew, as a careful forger or another release would."""
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    files = bundle_files.hashes(folder)
    seal = {"digest": bundle_files.total(files), "files": files}
    (folder / "digest.json").write_text(json.dumps(seal))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "version 1 is needed, got 99"),
        ({"encoder": {}}, "holds no bundle that can be read: KeyError"),
        ({"schema": None}, "holds no bundle that can be read"),
        ({"schema": {"columns": [], "target": "y", "classes": [0, 1], "time": None}}, "at least"),
        ({"family": "xgboost", "onnx": NATIVE}, "a family is one of"),
        ({"family": "mlp", "onnx": NATIVE}, "is not readable"),
        ({"onnx": {}}, "holds no bundle that can be read: KeyError"),
        ({"onnx": {"runtime": "onnx"}}, "holds no bundle that can be read: KeyError"),
    ],
)
def test_a_sealed_bundle_that_makes_no_sense_is_refused(
    changes: dict, message: str, tmp_path: Path
) -> None:
    folder = Path(made(tmp_path / "bundle").bundle)
    reseal(folder, **changes)
    with pytest.raises(BundleFault, match=message):
        Predictor.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": [[1.0, 0.0, 0.0]] * 3}, "must answer its example"),
        ({"answers": [[0.5, 0.5]]}, "must answer its example"),
        ({"example": {"x": ["text"], "c": ["u"]}}, "refuses its own example"),
    ],
)
def test_the_self_check_finds_another_answer(changes: dict, message: str, tmp_path: Path) -> None:
    folder = Path(made(tmp_path / "bundle").bundle)
    reseal(folder, **changes)
    with pytest.raises(BundleFault, match=message):
        Predictor.load(folder).self_check()


def test_a_model_that_answers_nan_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(made(tmp_path / "bundle").bundle)
    monkeypatch.setattr(
        predictor._fitted, "predict_proba", lambda encoded: np.full((len(encoded), 3), np.nan)
    )
    with pytest.raises(BundleFault, match="probabilities are finite, the logistic model gave"):
        predictor.predict_proba(table())


def test_a_bundle_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    first = made(tmp_path / "bundle")
    second = made(tmp_path / "bundle", "hgb")
    assert first.digest != second.digest
    assert Predictor.load(tmp_path / "bundle").family == "hgb"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("owner", "call", "times"),
    [(os, "fsync", 1), (os, "fsync", 4), (Path, "rename", 1), (Path, "rename", 2)],
)
def test_a_full_disk_leaves_the_old_bundle_and_no_half_one(
    owner: object, call: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first, or at a later, call of its kind."""
    before = made(tmp_path / "bundle")
    real, calls = getattr(owner, call), 0

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == times:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(owner, call, full)
    with pytest.raises(OSError, match="No space left"):
        made(tmp_path / "bundle", "hgb")
    assert bundle.digest(tmp_path / "bundle") == before.digest
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_loading_imports_neither_mlflow_nor_prefect(tmp_path: Path) -> None:
    folder = made(tmp_path / "bundle").bundle
    code = (
        "import sys; from models.bundle import Predictor;"
        f"Predictor.load({folder!r}, native=True).self_check();"
        "assert not {'mlflow', 'prefect', 'evidently'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_onnx_bundle_is_served_without_the_libraries_that_made_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "bundle", "mlp").bundle
    code = (
        "import sys; from models.bundle import Predictor;"
        f"predictor = Predictor.load({folder!r}); predictor.self_check();"
        "assert predictor.runtime == 'onnx', predictor.reason;"
        "heavy = {'pandas', 'sklearn', 'torch', 'scipy', 'skops', 'onnx', 'mlflow'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_our_own_modules_import_no_pandas_to_serve() -> None:
    """skops loads pandas by itself where it is installed; nothing here asks for it."""
    code = (
        "import sys; import models.bundle, models.families;"
        "assert not {'pandas', 'sklearn', 'torch', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("family", list(QUICK))
def test_onnx_answers_as_the_model_itself_in_every_guise(family: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "bundle", family).bundle
    served, native = Predictor.load(folder), Predictor.load(folder, native=True)
    assert (served.runtime, served.reason, native.runtime) == ("onnx", "", "native")
    parity = served.info["onnx"]["parity"]
    assert parity["difference"] <= parity["tolerance"] <= bundle.TOLERANCE / 2
    assert parity["rows"] == 400
    columns = {"x": [0.1, None, -3e38, 3e38, 0.0], "c": ["u", "new", None, "v", ""]}
    expected = native.predict_proba(columns)
    np.testing.assert_allclose(served.predict_proba(columns), expected, atol=5e-6)
    numbers = np.array(columns["x"], dtype=np.float64)[:, None]
    np.testing.assert_allclose(served.predict_rows(numbers, [columns["c"]]), expected, atol=5e-6)
    for row in range(5):
        one = {name: values[row : row + 1] for name, values in columns.items()}
        np.testing.assert_allclose(served.predict_proba(one), expected[row : row + 1], atol=5e-6)


def test_a_bundle_from_before_onnx_serves_natively_and_says_so(tmp_path: Path) -> None:
    folder = Path(made(tmp_path / "bundle").bundle)
    (folder / "model.onnx").unlink()
    info = json.loads((folder / "bundle.json").read_text())
    del info["onnx"]
    (folder / "bundle.json").write_text(json.dumps(info))
    reseal(folder)
    predictor = Predictor.load(folder)
    predictor.self_check()
    assert (predictor.runtime, predictor.reason) == ("native", bundle._OLD)


def test_a_model_that_onnx_runtime_cannot_read_serves_natively_and_says_so(tmp_path: Path) -> None:
    folder = Path(made(tmp_path / "bundle", "hgb").bundle)
    (folder / "model.onnx").write_bytes(b"from another decade")
    reseal(folder)
    predictor = Predictor.load(folder)
    predictor.self_check()
    assert predictor.runtime == "native"
    assert predictor.reason.startswith("model.onnx cannot be loaded here")


def test_a_model_whose_onnx_form_answers_otherwise_is_not_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.onnx import linear

    real = linear._blocks
    monkeypatch.setattr(linear, "_blocks", lambda *given: [1.01 * b for b in real(*given)])
    folder = Path(made(tmp_path / "bundle").bundle)
    assert not (folder / "model.onnx").exists()
    predictor = Predictor.load(folder)
    predictor.self_check()
    assert predictor.runtime == "native"
    assert "differs by 0.00" in predictor.reason


def test_a_model_whose_onnx_form_cannot_be_made_is_bundled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.onnx import hgb

    monkeypatch.setattr(hgb, "ensemble", lambda *given: 1 / 0)
    predictor = Predictor.load(made(tmp_path / "bundle", "hgb").bundle)
    predictor.self_check()
    assert predictor.reason == "its ONNX form could not be made: ZeroDivisionError"
