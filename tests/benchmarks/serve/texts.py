"""A model of texts for the server's benchmark: registered and served, with texts to ask about."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.serve.models import Prepared

FILES = ("sms_spam", "spamassassin_mail")
_CONFIG = """\
name: bench
task: text
data:
  source: rows.csv
  target: target
  columns: {text: text}
  classes: [ham, spam]
train: {families: [%s]}
"""
_BODIES = 1_000  # different requests of one text, at most


@dataclass(frozen=True)
class Texts:
    """What is served, and what is asked."""

    prepared: Prepared
    asked: tuple[str, ...]
    error: float  # of the model, on the texts asked

    @property
    def characters(self) -> int:
        """Of the text of median length."""
        return int(np.median([len(text) for text in self.asked]))

    @property
    def typical(self) -> bytes:
        """The request about a text of median length."""
        return _body(sorted(self.asked, key=len)[len(self.asked) // 2 :][:1])

    def bodies(self, rows: int) -> list[bytes]:
        """Requests of so many texts each, all different as far as there are texts."""
        count = max(1, min(_BODIES, len(self.asked) // rows))
        return [_body(self.asked[i * rows : (i + 1) * rows]) for i in range(count)]


def _body(texts: tuple[str, ...] | list[str]) -> bytes:
    table = {"columns": ["text"], "data": [[text] for text in texts]}
    return json.dumps({"dataframe_split": table}).encode()


def prepare(home: Path, file: str, family: str) -> Texts:
    """Train `family` on the first four fifths of a file, in its order, register and promote it."""
    from models import families
    from models.bundle import Predictor
    from models.records import Verdict
    from models.registry import Registry
    from models.schema import Column, Schema
    from models.training import fit_bundle
    from tasks.config import load

    frame = pd.read_csv(Path(os.environ["EVERFIT_DATA"]) / f"{file}.csv.gz")
    frame = frame.sample(frac=1, random_state=0)[["text", "target"]].dropna()
    known, fresh = frame.iloc[: len(frame) * 4 // 5], frame.iloc[len(frame) * 4 // 5 :]
    known.to_csv(home / "rows.csv", index=False)
    path = home / "bench.yaml"
    path.write_text(_CONFIG % family)
    config = load(path)
    schema = Schema((Column("text", "text"),), target="target", classes=("ham", "spam"))
    (params,) = families.defaults([family])
    folder = config.folder / "bundle"
    candidate = fit_bundle(known, schema, params, folder=folder, seed=0)
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    now = datetime.now(UTC)
    made = registry.register(folder, candidate, verdict, window_id="bench", now=now)
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    predictor = Predictor.load(folder)
    said = predictor.predict_proba({"text": fresh["text"].tolist()}).argmax(axis=1)
    error = float((said != (fresh["target"] == "spam").to_numpy()).mean())
    (marker,) = config.artifacts.rglob("MLmodel")
    label = f"{family} {'ONNX' if predictor.runtime == 'onnx' else 'native'}"
    prepared = Prepared(label, path, marker.parent, None)
    return Texts(prepared, tuple(fresh["text"]), error)
