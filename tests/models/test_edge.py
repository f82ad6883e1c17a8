"""An exported folder answers as the model does, in a process that cannot import everfit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models import bundle_files
from models.bundle import Predictor
from models.edge import export as edge
from models.edge import proof
from models.edge.proof import EdgeFault
from models.schema import Column, Schema
from models.training import fit_bundle

SCHEMA = Schema(
    (
        Column("x", "number"),
        Column("plan", "category"),
        Column("level", "category"),
        Column("z", "number"),
    ),
    "y",
    ("a", "b", "c"),
)
QUICK: Mapping[str, Mapping[str, object]] = {
    "logistic": {},
    "hgb": {"hgb.max_iter": 10},
    "forest": {"forest.n_estimators": 5},
    "mlp": {"mlp.epochs": 3, "mlp.width": 64},
}
ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ImportError("only the requirements may be imported, not " + name)
sys.meta_path.insert(0, Nothing())
import os, runpy
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def table(n: int = 300) -> pd.DataFrame:
    """Gaps, a category of numbers, one with many values, and text that is not plain."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(3),
            "plan": rng.choice(["pro", "caf\u00e9", "a b"], n),
            "level": rng.integers(0, 40, n).astype(float),
            "z": np.exp(3 * rng.normal(size=n)),
        }
    )
    score = frame["x"] + (frame["plan"] == "pro") + np.sin(frame["level"])
    frame["y"] = pd.cut(score, [-np.inf, 0, 1, np.inf], labels=["a", "b", "c"]).astype(str)
    frame.loc[frame.index % 11 == 0, ["x", "plan"]] = [np.nan, None]
    frame.loc[frame.index % 13 == 0, ["level"]] = np.nan
    return frame


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    wanted = frame[["x", "plan", "level", "z"]].astype(object)
    return wanted.where(wanted.notna(), None).to_dict("records")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    home, made = tmp_path_factory.mktemp("bundles"), set()

    def bundle(family: str) -> Path:
        if family not in made:
            params = {"family": family, **QUICK[family]}
            fit_bundle(table(), SCHEMA, params, folder=home / family, seed=0)
            made.add(family)
        return home / family

    return bundle


def exported(bundle: Path, folder: Path, to: edge.To = "onnx", **more: Any) -> edge.Exported:
    return edge.export(bundle, folder, to, rows(table()), name="churn", version="7", **more)


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The folder's script, where nothing but its own requirements can be imported."""
    names = ("models", "tasks", "flows", "monitoring", "deployments")
    heavy = ("torch", "sklearn", "pandas", "scipy", "mlflow", "prefect", "onnx", "skops")
    code = ALONE.format(names={*names, *heavy})
    return subprocess.run(
        [sys.executable, "-I", "-c", code, str(folder / "predict.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("family", list(QUICK))
def test_every_family_answers_alike_without_everfit(
    family: str, bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    made = exported(bundles(family), tmp_path / "edge")
    assert made.proof.difference < 5e-6
    assert (made.proof.recorded, made.proof.beside) == (300, 300)
    assert made.proof.batches == (1, 2, 33)
    assert bundle_files.verify(made.folder) == made.digest


def test_a_folder_says_what_it_is_and_is_sealed(
    bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    made = exported(bundles("mlp"), tmp_path / "edge")
    info = json.loads((made.folder / "edge.json").read_text(encoding="utf-8"))
    native = Predictor.load(bundles("mlp"))
    assert info["bundle"] == native.digest
    assert (info["name"], info["version"], info["family"]) == ("churn", "7", "mlp")
    assert Schema.from_json(info["schema"]) == SCHEMA
    assert info["proof"]["tolerance"] == 5e-6
    assert bundle_files.verify(made.folder) == made.digest
    done = alone(made.folder)
    np.testing.assert_allclose(json.loads(done.stdout), info["answers"], atol=info["tolerance"])
    (tmp_path / "rows.json").write_text(json.dumps(rows(table())[:40]), encoding="utf-8")
    done = alone(made.folder, str(tmp_path / "rows.json"))
    expected = Predictor.load(bundles("mlp"), native=True).predict_proba(table()[:40])
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
    names = {path.name for path in made.folder.iterdir()}
    assert names == {
        "digest.json",
        "edge.json",
        "model.onnx",
        "predict.py",
        "requirements.txt",
    }
    text = (made.folder / "predict.py").read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 30
    altered = (made.folder / "edge.json").read_text(encoding="utf-8").replace('"pro"', '"Pro"')
    (made.folder / "edge.json").write_text(altered, encoding="utf-8")
    assert "edge.json is not as it was exported" in alone(made.folder).stderr


WORDS = (
    "free",
    "win",
    "caf\u00e9",
    "meeting",
    "don't",
    "\u00a31,000",
    "re:",
    "see",
    "you",
    "\u4f60\u597d",
)
LETTERS = Schema(
    (Column("x", "number"), *(Column(c, "text") for c in ("subject", "body"))), "y", (0, 1)
)


def letters(n: int = 200) -> pd.DataFrame:
    """Two texts, some missing, some of many lines, and a number beside them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(2),
            "subject": [" ".join(rng.choice(WORDS, rng.integers(0, 5))) for _ in range(n)],
            "body": ["\n".join(rng.choice(WORDS, rng.integers(0, 60))).title() for _ in range(n)],
        }
    )
    frame["y"] = (frame["body"].str.count("Free") + frame["x"] > 1.5).astype(int)
    return frame.assign(subject=frame["subject"].mask(frame.index % 5 == 0))


@pytest.mark.parametrize(
    "params",
    [
        {"cut": "words", "words": 1, "letters": 0, "weights": "tfidf", "ratio": "none"},
        {"cut": "case", "words": 3, "letters": 4, "weights": "log", "ratio": "bayes"},
    ],
)
def test_texts_are_cut_as_the_model_cuts_them(params: dict[str, object], tmp_path: Path) -> None:
    frame = letters()
    chosen = {"family": "tfidf", **{f"tfidf.{key}": value for key, value in params.items()}}
    fit_bundle(frame, LETTERS, chosen, folder=tmp_path / "bundle", seed=0)
    asked = frame.drop(columns="y").astype(object)
    recorded = asked.where(asked.notna(), None).to_dict("records")
    forms: dict[edge.To, float] = {"onnx": 5e-6, "int8": 0.02}
    for to, allowed in list(forms.items())[: 1 + (params["words"] == 3)]:  # few terms: no int8
        made = edge.export(
            tmp_path / "bundle", tmp_path / to, to, recorded, name="mail", version="1"
        )
        assert made.proof.difference <= made.proof.tolerance == allowed
        assert made.proof.beside == 200
    done = alone(tmp_path / "onnx")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "onnx" / "edge.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == info["answers"]


@pytest.mark.parametrize("deep", ["conv", "attention"])
def test_a_text_network_brings_its_tokenizer(deep: str, tmp_path: Path) -> None:
    frame = letters()
    params = {
        "deep": deep,
        "epochs": 3,
        "width": 16,
        "unit": "pieces" if deep == "conv" else "words",
    }
    chosen = {"family": "textnet", **{f"textnet.{key}": value for key, value in params.items()}}
    fit_bundle(frame, LETTERS, chosen, folder=tmp_path / "bundle", seed=0)
    asked = frame.drop(columns="y").astype(object)
    recorded = asked.where(asked.notna(), None).to_dict("records")
    sizes = []
    for to in ("onnx", "int8"):
        made = edge.export(
            tmp_path / "bundle", tmp_path / to, to, recorded, name="mail", version="1"
        )
        assert made.proof.difference <= made.proof.tolerance == edge.TOLERANCE[to]
        sizes.append(made.size)
        assert "tokenizers==" in (made.folder / "requirements.txt").read_text(encoding="utf-8")
    assert sizes[1] < 0.9 * sizes[0]  # of so small a model operators and positions take most
    done = alone(tmp_path / "onnx")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "onnx" / "edge.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(json.loads(done.stdout), info["answers"], atol=1e-7)


def test_int8_is_a_quarter_of_the_size_and_says_by_how_much_it_differs(
    bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = exported(bundles("mlp"), tmp_path / "float")
    made = exported(bundles("mlp"), tmp_path / "packed", "int8")
    assert made.size < 0.4 * whole.size
    assert 1e-5 < made.proof.difference <= made.proof.tolerance == 0.02
    info = json.loads((made.folder / "edge.json").read_text(encoding="utf-8"))
    assert info["form"] == "int8"
    assert info["int8"]["bytes"] == made.size
    assert info["proof"]["changed"] <= 0.02
    with pytest.raises(EdgeFault, match=r"churn can.t be exported as int8: .* 1e-06 is allowed"):
        exported(bundles("mlp"), tmp_path / "packed", "int8", tolerance=1e-6)
    assert bundle_files.verify(tmp_path / "packed") == made.digest  # what was there still is
    with pytest.raises(EdgeFault, match="no layer of 256 or more weights"):
        exported(bundles("hgb"), tmp_path / "trees", "int8")
    assert not (tmp_path / "trees").exists()
    small = {"family": "mlp", "mlp.epochs": 2, "mlp.compress": "units", "mlp.sparsity": 0.5}
    for precision in ("float32", "int8"):
        params = {**small, "mlp.precision": precision}
        fit_bundle(table(), SCHEMA, params, folder=tmp_path / precision, seed=0)
    assert exported(tmp_path / "int8", tmp_path / "small", "int8").proof.difference < 5e-6
    with pytest.raises(EdgeFault, match=r"made small in training \(units\), where int8 is"):
        exported(tmp_path / "float32", tmp_path / "small", "int8")


def test_a_script_that_answers_otherwise_is_found_out(
    bundles: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one row of a batch of 33, or by a fault, or with an answer too few."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    monkeypatch.setattr(edge, "_SCRIPTS", scripts)
    real = (Path(proof.__file__).parent / "scripts" / "predict_onnx.py").read_text("utf-8")
    for wrong, message in (
        ("answer = real(rows); answer[32:33, 0] += 1e-3; return answer", "got 0.001 on"),
        ("raise KeyError('x')", "it ended with \"KeyError: 'x'\""),
        ("return real(rows)[:-1]", "got inf on"),
    ):
        text = f"{real}\n\nreal = predict\n\n\ndef predict(rows):\n    {wrong}\n"
        (scripts / "predict_onnx.py").write_text(text, encoding="utf-8")
        with pytest.raises(EdgeFault, match=message):
            exported(bundles("logistic"), tmp_path / "edge")
        assert not (tmp_path / "edge").exists()


def test_litert_needs_a_network_and_a_converter(
    bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EdgeFault, match="name one by --converter"):
        exported(bundles("mlp"), tmp_path / "edge", "litert")
    with pytest.raises(EdgeFault, match=r"can't be exported as litert: .* got hgb; use onnx"):
        exported(bundles("hgb"), tmp_path / "edge", "litert", converter=Path(sys.executable))
    with pytest.raises(EdgeFault, match="No module named 'litert_torch': name an environment"):
        exported(bundles("mlp"), tmp_path / "edge", "litert", converter=Path(sys.executable))
    assert not (tmp_path / "edge").exists()


def test_a_folder_of_something_else_is_left_alone(
    bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(EdgeFault, match="new, empty or an earlier export"):
        exported(bundles("logistic"), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_rows_beside_the_recorded_ones_try_what_may_come() -> None:
    made = proof.beside(rows(table()), SCHEMA, np.random.default_rng(0))
    for name in ("x", "plan", "level", "z"):
        values = [row[name] for row in made]
        assert 0.03 < sum(value is None for value in values) / len(values) < 0.3
        changed = sum(a[name] != b[name] for a, b in zip(made, rows(table()), strict=True))
        assert 0.1 < changed / len(made) < 0.4
    assert {proof._number(v) for v in ("3", "inf", "pro")} == {3.0, "inf", "pro"}
    assert any(row["plan"] == "\u2014 never seen \u2014" for row in made)
    assert {type(row["x"]) for row in made} == {float, bool, type(None)}


def test_the_readme_shows_the_script_as_it_is() -> None:
    root = Path(__file__).parents[2]
    script = (root / "models/edge/scripts/predict_onnx.py").read_text("utf-8")
    assert script in (root / "README.md").read_text("utf-8")
