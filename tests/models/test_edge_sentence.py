"""Sentence vectors leave with their encoder: the folder answers alone, at every size of batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from models import bundle_files
from models.bundle import Predictor
from models.edge import export as edge
from models.edge import vectors
from models.onnx import int8_graph
from models.schema import Column, Schema
from models.text import sentences
from models.training import fit_bundle
from tests import encoder_parts

WORDS = ("good", "bad", "not", "fine", "goodly", "Grade1", "zebra", "caf\u00e9", "[PAD]", "\u00a35")
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # enough for sums and for groups of inputs
ALONE = """
import sys
for name in ("models", "tasks", "flows", "monitoring", "deployments", "torch", "sklearn", "scipy"):
    sys.modules[name] = None
import runpy
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sentences.Sentences:
    place = encoder_parts.write(tmp_path / "encoder", config=WIDE)
    monkeypatch.setenv(sentences.VARIABLE, str(place))
    return sentences.local()


def mails(n: int = 150) -> pd.DataFrame:
    """Two texts, some missing and some cut at the encoder's 24 tokens, beside a number."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(2),
            "subject": [" ".join(rng.choice(WORDS, rng.integers(0, 4))) for _ in range(n)],
            "body": ["\n".join(rng.choice(WORDS, rng.integers(0, 30))) for _ in range(n)],
        }
    )
    score = frame["body"].str.count("bad") - frame["body"].str.count("good") + frame["x"]
    frame["y"] = pd.cut(score, [-np.inf, -1, 1, np.inf], labels=["a", "b", "c"]).astype(str)
    return frame.assign(subject=frame["subject"].mask(frame.index % 5 == 0))


def rows(frame: pd.DataFrame, *names: str) -> list[dict[str, object]]:
    wanted = frame[list(names)].astype(object)
    return wanted.where(wanted.notna(), None).to_dict("records")


def test_a_folder_with_its_encoder_answers_alone(
    encoder: sentences.Sentences, tmp_path: Path
) -> None:
    frame, names = mails(), ("x", "subject", "body")
    kinds = {"x": "number", "subject": "text", "body": "text"}
    schema = Schema(tuple(Column(c, kinds[c]) for c in names), "y", ("a", "b", "c"))  # type: ignore[arg-type]
    fit_bundle(frame, schema, {"family": "sentence"}, folder=tmp_path / "bundle", seed=0)
    recorded, made = rows(frame, *names), {}
    forms: dict[edge.To, float] = {"onnx": edge.TOLERANCE["onnx"], "int8": 0.3}
    for to, allowed in forms.items():
        made[to] = edge.export(
            tmp_path / "bundle",
            tmp_path / to,
            to,
            recorded,
            name="mail",
            version="1",
            tolerance=allowed,
        )
        proof = made[to].proof
        assert proof.difference <= proof.tolerance == allowed
        assert (proof.recorded, proof.beside, proof.batches) == (150, 150, (1, 2, 33))
    assert made["onnx"].model == "model.onnx and encoder.onnx"
    assert made["int8"].notes["encoder"] == encoder.digest
    assert made["int8"].proof.difference > 1e-5
    heads = [(tmp_path / to / "model.onnx").read_bytes() for to in forms]
    assert heads[0] == heads[1]  # what a retrain changes is small, and the encoder is another file
    sizes = [(tmp_path / to / "encoder.onnx").stat().st_size for to in forms]
    assert sizes[1] < 0.4 * sizes[0]
    assert made["int8"].size == sizes[1] + len(heads[1])
    assert bundle_files.verify(tmp_path / "onnx") == made["onnx"].digest
    (tmp_path / "rows.json").write_text(json.dumps(recorded[:40]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, tmp_path / "onnx/predict.py", tmp_path / "rows.json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    native = Predictor.load(tmp_path / "bundle", native=True)
    expected = native.predict_proba({c: [row[c] for row in recorded[:40]] for c in names})
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)


def test_without_terms_the_head_reads_vectors_alone(
    encoder: sentences.Sentences, tmp_path: Path
) -> None:
    frame = mails().assign(y=lambda given: (given["y"] == "a").astype(int))
    schema = Schema((Column("body", "text"),), "y", (0, 1))
    params = {"family": "sentence", "sentence.terms": "none"}
    fit_bundle(frame, schema, params, folder=tmp_path / "bundle", seed=0)
    recorded = rows(frame, "body")
    made = edge.export(
        tmp_path / "bundle", tmp_path / "edge", "onnx", recorded, name="mail", version="1"
    )
    assert made.proof.difference <= 5e-6
    info = json.loads((made.folder / "edge.json").read_text(encoding="utf-8"))
    assert info["inputs"] == [vectors.VECTORS]
    assert {path.name for path in made.folder.iterdir()} == {
        "cutting.py",
        "digest.json",
        "edge.json",
        "encoder.onnx",
        "model.onnx",
        "predict.py",
        "requirements.txt",
        "tokenizer.json",
        "vectors.json",
    }


def test_whole_numbers_with_a_sign_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    place = encoder_parts.write(tmp_path, config=WIDE)
    encoder = sentences.Sentences(place)
    texts = [" ".join(WORDS[at % 7 :]) for at in range(33)]
    expected = np.stack(encoder.computed(texts))
    apart = {}
    for how in ("weights", "groups", "sums"):
        packed = int8_graph.rewritten(encoder.graph(), how)  # type: ignore[arg-type]
        assert packed is not None
        made = onnx.ModelProto.FromString(packed)
        onnx.checker.check_model(made)
        sums = [node.op_type for node in made.graph.node].count("MatMulInteger")
        assert sums == (12 if how == "sums" else 0)  # six in each of two layers
        twin = encoder.read_by(packed)
        got = np.stack(twin.computed(texts))
        apart[how] = 1 - float((got * expected).sum(axis=1).min())
        for n in (1, 2):
            np.testing.assert_allclose(np.stack(twin.computed(texts[:n])), got[:n], atol=1e-5)
    assert 0 < apart["groups"] < 0.9 * apart["weights"] < apart["weights"] < apart["sums"] < 0.02
