"""A network converted to LiteRT answers by LiteRT's own interpreter as it does in torch.

The converter's environment is the folder that EVERFIT_LITERT names, which is made once (1.8 GB).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deployments.edge import converter
from models.bundle import Predictor
from models.edge import export as edge
from models.edge.proof import EdgeFault
from models.schema import Column, Schema
from models.training import fit_bundle

pytestmark = pytest.mark.timeout(900)

KINDS = {
    "both": ("x", "z", "plan", "level"),
    "numbers": ("x", "z"),
    "categories": ("plan", "level"),
}


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with litert-torch."""
    folder = os.environ.get("EVERFIT_LITERT")
    if not folder:
        pytest.skip("EVERFIT_LITERT names no folder for LiteRT's environment: `make engines` does")
    try:
        return converter.environment(Path(folder))
    except EdgeFault as fault:
        pytest.skip(str(fault))


def table(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(3),
            "z": np.exp(4 * rng.normal(size=n)),
            "plan": rng.choice(["pro", "caf\u00e9", "a b"], n),
            "level": rng.integers(0, 40, n).astype(str),
        }
    )
    score = frame["x"] + 2 * (frame["plan"] == "pro") + np.log(frame["z"])
    frame["y"] = pd.cut(score, [-np.inf, 0, 2, np.inf], labels=["a", "b", "c"]).astype(str)
    return frame.mask(
        pd.DataFrame({c: rng.random(n) < 0.1 for c in "xz"}).reindex(
            columns=frame.columns, fill_value=False
        )
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_network_answers_alike_by_the_interpreter(
    kind: str, python: Path, tmp_path: Path
) -> None:
    names = KINDS[kind]
    columns = [Column(n, "number" if n in ("x", "z") else "category") for n in names]
    schema = Schema(tuple(columns), "y", ("a", "b", "c"))
    frame = table()[[*names, "y"]]
    params: dict[str, Any] = {"family": "mlp", "mlp.epochs": 4, "mlp.width": 64, "mlp.depth": 3}
    fit_bundle(frame, schema, params, folder=tmp_path / "bundle", seed=0)
    plain = frame[list(names)].astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    made = edge.export(
        tmp_path / "bundle",
        tmp_path / "edge",
        "litert",
        rows,
        name="churn",
        version="1",
        converter=python,
    )
    assert made.proof.difference <= 1e-5
    assert (made.proof.recorded, made.proof.batches) == (400, (1, 2, 33))
    assert (made.folder / "model.tflite").read_bytes()[4:8] == b"TFL3"
    (tmp_path / "rows.json").write_text(json.dumps(rows[:20]), encoding="utf-8")
    done = subprocess.run(
        [python, made.folder / "predict.py", tmp_path / "rows.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    native = Predictor.load(tmp_path / "bundle", native=True)
    expected = native.predict_proba({c: [row[c] for row in rows[:20]] for c in names})
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
    needs = (made.folder / "requirements.txt").read_text(encoding="utf-8")
    assert [line.split("==")[0] for line in needs.splitlines()] == ["numpy", "ai-edge-litert"]


WORDS = (
    "free",
    "win",
    "caf\u00e9",
    "meeting",
    "don't",
    "\u00a31,000",
    "re:",
    "you",
    "\u4f60\u597d",
)


@pytest.mark.parametrize("deep", ["conv", "attention"])
def test_a_text_network_answers_alike_by_the_interpreter(
    deep: str, python: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 40))) for _ in range(120)]
    frame = pd.DataFrame({"body": [*texts, " ".join(WORDS * 100)]})  # the last one is cut
    frame["x"] = rng.normal(size=len(frame)).round(2)
    frame["y"] = (frame["body"].str.count("free") + frame["x"] > 2).astype(int)
    beside = [Column("x", "number")] if deep == "conv" else []
    schema = Schema((Column("body", "text"), *beside), "y", (0, 1))
    params: dict[str, Any] = {"textnet.deep": deep, "textnet.epochs": 3, "textnet.width": 16}
    fit_bundle(frame, schema, {"family": "textnet", **params}, folder=tmp_path / "bundle", seed=0)
    made = edge.export(
        tmp_path / "bundle",
        tmp_path / "edge",
        "litert",
        frame[[column.name for column in schema.columns]].to_dict("records"),
        name="mail",
        version="1",
        converter=python,
    )
    assert made.proof.difference <= 1e-5
    assert made.proof.recorded == 121
    assert "tokenizers==" in (made.folder / "requirements.txt").read_text(encoding="utf-8")
