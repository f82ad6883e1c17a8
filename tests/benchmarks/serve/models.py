"""One model for all servers: registered for everfit; as ONNX and as MLflow's folder for peers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

COLUMNS = [f"x{i}" for i in range(20)]
CONFIG = """\
name: bench
data:
  source: rows.csv
  target: y
  columns: {%s}
  classes: [0, 1]
train: {families: [%s]}
"""


@dataclass(frozen=True)
class Prepared:
    """Where the model lies: the config, MLflow's folder, and the ONNX file, None if it has none."""

    label: str
    config: Path
    mlflow: Path
    onnx: Path | None


def prepare(home: Path, family: str, *, native: bool = False) -> Prepared:
    """Train `family` on made-up rows of 20 numbers, register and promote it under `home`.

    `native` leaves the ONNX form out, as for a model that has none. What an earlier call has made
    there is used again.
    """
    note = home / "prepared.json"
    if note.exists():
        kept = json.loads(note.read_text(encoding="utf-8"))
        return Prepared(
            kept["label"],
            home / "bench.yaml",
            Path(kept["mlflow"]),
            home / "model.onnx" if kept["onnx"] else None,
        )
    made = _prepare(home, family, native)
    kept = {"label": made.label, "mlflow": str(made.mlflow), "onnx": made.onnx is not None}
    note.write_text(json.dumps(kept), encoding="utf-8")
    return made


def _prepare(home: Path, family: str, native: bool) -> Prepared:
    import pandas as pd

    from models import families
    from models.onnx import export
    from models.records import Verdict
    from models.registry import Registry
    from models.schema import Column, Schema
    from models.training import fit_bundle
    from tasks.config import load

    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2_000, len(COLUMNS))), columns=COLUMNS)
    frame["y"] = (frame[COLUMNS].sum(axis=1) + rng.normal(size=len(frame)) > 0).astype(int)
    frame.to_csv(home / "rows.csv", index=False)
    path = home / "bench.yaml"
    path.write_text(CONFIG % (", ".join(f"{c}: number" for c in COLUMNS), family))
    config = load(path)
    schema = Schema(tuple(Column(c, "number") for c in COLUMNS), target="y", classes=(0, 1))
    (params,) = families.defaults([family])
    folder = config.folder / "bundle"
    largest = export.LARGEST
    try:
        export.LARGEST = -1 if native else largest  # no form is small enough
        candidate = fit_bundle(frame, schema, params, folder=folder, seed=0)
        verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
        registry = Registry(config.registry_url, config.name, config.artifacts)
        now = datetime.now(UTC)
        made = registry.register(folder, candidate, verdict, window_id="bench", now=now)
    finally:
        export.LARGEST = largest
    registry.promote(made.version, expected=None, decision_id="b", who="b", why="b", now=now)
    form = folder / "model.onnx"
    if not form.exists():
        (marker,) = config.artifacts.rglob("MLmodel")
        return Prepared(f"{family} native", path, marker.parent, None)
    shutil.copyfile(form, home / "model.onnx")
    return Prepared(f"{family} ONNX", path, _as_onnx(home), home / "model.onnx")


def _as_onnx(home: Path) -> Path:
    """The same ONNX file under MLflow's own ONNX flavour: the quickest way that MLflow has."""
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    folder = home / "mlflow-onnx"
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(COLUMNS)), "numbers")])
    outputs = Schema([TensorSpec(np.dtype("float64"), (-1, 2), "probabilities")])
    mlflow.onnx.save_model(
        onnx.load(home / "model.onnx"),
        str(folder),
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        pip_requirements=["onnxruntime"],
    )
    return folder
