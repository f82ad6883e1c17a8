"""What an exported model weighs, takes and answers: each form beside the model itself.

    everfit bench edge
    everfit bench edge --set seeds=1 --set converter=/opt/litert     # LiteRT too

Real rows (EVERFIT_DATA): electricity prices and short messages, the last third held back. A line is
a model and a form: `kb` of the model's file and `folder_kb` of the whole export; `us_row`, one row
by the export's script with its preparation, in a process without everfit; `differs`, the largest
difference of a probability on held-back rows, over all seeds (int8 is made for a tolerance of 0.02
on rows of training, or for that of --set tolerance=0.1); `accuracy` there, and `lost` against the
model itself in percentage points, with the 95 % interval of its mean over the seeds. A form that is
refused is told on stderr, and so is `sentence` where no encoder is installed; its vectors are
computed anew for each answer.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.onnx import int8
from models.text import sentences

T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}  # Student's, of n values

MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # label: (data, parameters)
    "logistic": ("elec2", {"family": "logistic"}),
    "hgb": ("elec2", {"family": "hgb"}),
    "forest": ("elec2", {"family": "forest"}),
    "mlp 2 x 32": ("elec2", {"family": "mlp"}),
    "mlp 3 x 256": ("elec2", {"family": "mlp", "mlp.width": 256, "mlp.depth": 3}),
    "tfidf": ("sms_spam", {"family": "tfidf"}),
    "textnet bag": ("sms_spam", {"family": "textnet"}),
    "textnet conv": ("sms_spam", {"family": "textnet", "textnet.deep": "conv"}),
    "sentence": ("sms_spam", {"family": "sentence"}),
}
FORMS = ("onnx", "int8", "litert")
ROWS = 12_000  # of a table that are read


def run(
    json_path: Path | None = None,
    *,
    models: Sequence[str] = tuple(MODELS),
    seeds: int = 5,
    converter: str = "",
    tolerance: float = int8.TOLERANCE,
) -> list[dict[str, Any]]:
    """One line for each model and form."""
    found = []
    for label in models:
        data, params = MODELS[label]
        if params["family"] == "sentence" and (lacks := sentences.absent()):
            sys.stderr.write(f"{label} is left out: {lacks}\n")
            continue
        measured: dict[str, list[dict[str, Any]]] = {}
        with tempfile.TemporaryDirectory(prefix="bench-edge-") as home:
            for seed in range(seeds if params["family"] in ("mlp", "textnet", "forest") else 1):
                place = Path(home) / str(seed)
                for form, figures in _one(data, params, seed, place, converter, tolerance):
                    measured.setdefault(form, []).append(figures)
        for form, each in measured.items():
            found.append({"data": data, "model": label, "form": form, **_summary(each)})
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _one(
    data: str, params: dict[str, Any], seed: int, home: Path, converter: str, tolerance: float
) -> Any:
    """(form, figures) of one fit, in each form that it has."""
    from models.edge import export as edge
    from models.edge.proof import EdgeFault, ask
    from models.training import fit_bundle
    from tasks.exporting import plain

    frame, schema = _table(data)
    cut = len(frame) * 2 // 3
    names = [column.name for column in schema.columns]
    fit_bundle(frame[:cut], schema, params, folder=home / "bundle", seed=seed)
    rows, held = plain(frame[:cut][names].tail(4_096)), plain(frame[cut:][names])
    labels = frame[cut:][schema.target].map({c: i for i, c in enumerate(schema.classes)}).to_numpy()
    native, took = _native(home / "bundle", frame[cut:][names])
    right = (native.argmax(1) == labels).mean()
    yield (
        "model itself",
        {
            "kb": _size(home / "bundle", "model.onnx") / 1e3,
            "folder_kb": "",
            "us_row": took,
            "differs": 0.0,
            "accuracy": right,
            "lost": 0.0,
        },
    )
    for form in FORMS:
        if form == "litert" and (not converter or params["family"] not in ("mlp", "textnet")):
            continue
        python = Path(converter) / "bin" / "python" if form == "litert" else Path(sys.executable)
        try:
            made = edge.export(
                home / "bundle",
                home / form,
                form,  # type: ignore[arg-type]
                rows,
                name=data,
                version="1",
                converter=python,
                tolerance=tolerance if form == "int8" else None,
            )
        except EdgeFault as fault:  # trees have no int8
            sys.stderr.write(f"{params['family']}, seed {seed}: {fault}\n")
            continue
        (proba,), us_row = ask(made.folder, [held], python)  # of the row that the model was asked
        yield (
            form,
            {
                "kb": made.size / 1e3,
                "folder_kb": _size(made.folder) / 1e3,
                "us_row": us_row,
                "differs": float(np.abs(proba - native).max()),
                "accuracy": float((proba.argmax(1) == labels).mean()),
                "lost": 100 * float(right - (proba.argmax(1) == labels).mean()),
            },
        )


def _native(bundle: Path, frame: Any) -> tuple[Any, float]:
    """(answers of scikit-learn or torch, microseconds for one row with its encoding)."""
    import time

    from models.bundle import Predictor

    model = Predictor.load(bundle, native=True)
    one = {name: values[:1].tolist() for name, values in frame.items()}
    taken = []
    for _ in range(30):
        if model.family == "sentence":
            sentences.local().forget()
        began = time.perf_counter()
        model.predict_proba(one)
        taken.append(time.perf_counter() - began)
    return model.predict_proba(frame), 1e6 * min(taken)


def _summary(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lost = np.array([figures["lost"] for figures in each])
    half = ""
    if len(each) > 1:
        t = T95.get(len(each), 2.0)
        half = f" +- {t * lost.std(ddof=1) / math.sqrt(len(each)):.2f}"
    return {
        "kb": round(float(np.mean([figures["kb"] for figures in each])), 1),
        "folder_kb": "" if each[0]["folder_kb"] == "" else round(each[0]["folder_kb"], 1),
        "us_row": round(min(figures["us_row"] for figures in each), 1),
        "differs": f"{max(figures['differs'] for figures in each):.1e}",
        "accuracy": round(float(np.mean([figures["accuracy"] for figures in each])), 4),
        "lost": f"{lost.mean():.2f}{half}",
    }


def _size(folder: Path, *without: str) -> int:
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file() and p.name not in without)


def _table(name: str) -> tuple[Any, Any]:
    import pandas as pd

    from models.schema import Column, Schema

    home = Path(os.environ.get("EVERFIT_DATA", ""))
    path = home / f"{name}.csv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: let EVERFIT_DATA name the folder with it")
    frame = pd.read_csv(path).head(ROWS)
    if name == "elec2":
        numbers = ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
        frame["day"] = frame["day"].astype(str)
        columns = [*(Column(c, "number") for c in numbers), Column("day", "category")]
    else:
        columns = [Column(c, "text") for c in frame.columns if c != "target"]
    classes = tuple(sorted(frame["target"].unique()))
    return frame.dropna(subset=["target"]), Schema(tuple(columns), "target", classes)
