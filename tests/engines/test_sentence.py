"""The encoder of everfit[sentence] leaves with its head, and knows words that no row has shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.bundle import Predictor
from models.edge import export as edge
from models.edge.proof import ask
from models.schema import Column, Schema
from models.text import sentences
from models.training import fit_bundle

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(sentences.absent()), reason=sentences.absent()),
]

SHOWN = ("great", "lovely", "excellent", "delightful"), ("bad", "boring", "awful", "terrible")
NEW = ("wonderful", "superb", "marvellous"), ("dreadful", "horrible", "dull")
THINGS = ("film", "book", "meal", "hotel", "concert", "phone", "game", "story")


def reviews(words: tuple[tuple[str, ...], tuple[str, ...]]) -> pd.DataFrame:
    found = [
        {"body": f"The {thing} was {word}{'.' * (3 * at)}", "good": 1 - side}
        for side, each in enumerate(words)
        for word in each
        for at, thing in enumerate(THINGS)
    ]
    return pd.DataFrame(found).sample(frac=1, random_state=0, ignore_index=True)


def test_it_answers_alone_in_floats_and_in_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    frame, held = reviews(SHOWN), reviews(NEW)
    schema = Schema((Column("body", "text"),), "good", (0, 1))
    params = {"family": "sentence", "sentence.terms": "none"}
    fit_bundle(frame, schema, params, folder=tmp_path / "bundle", seed=0)
    assert sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir()) < 100_000
    asked = held[["body"]].to_dict("records")
    expected = Predictor.load(tmp_path / "bundle").predict_proba({"body": held["body"].tolist()})
    assert (expected.argmax(axis=1) == held["good"]).mean() > 0.9  # of words it was never shown
    sizes = []
    for to in ("onnx", "int8"):
        made = edge.export(
            tmp_path / "bundle",
            tmp_path / to,
            to,
            frame[["body"]].to_dict("records"),
            name="reviews",
            version="1",
        )
        assert made.proof.difference <= made.proof.tolerance == edge.TOLERANCE[to]
        assert made.proof.batches == (1, 2, 33)
        (got,), _ = ask(made.folder, [asked])
        np.testing.assert_allclose(got, expected, atol=1e-5 if to == "onnx" else 0.05)
        sizes.append(made.size)
    assert sizes[1] < 0.3 * sizes[0]
    info = json.loads((tmp_path / "int8" / "edge.json").read_text(encoding="utf-8"))
    assert info["encoder"] == sentences.local().digest
