"""From a bundle to a folder that answers without everfit, proven before it is there."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models import bundle_files as files
from models.bundle import Predictor
from models.edge.portable import MODEL, Portable, portable
from models.edge.proof import EdgeFault, Proof, Row, beside, prove
from models.encoding import Encoded
from models.onnx import int8, parity
from models.onnx.export import NoForm

To = Literal["onnx", "int8", "litert"]

VERSION = 1  # of the folder's layout
TOLERANCE: Mapping[To, float] = {
    "onnx": parity.TOLERANCE,
    "int8": int8.TOLERANCE,
    "litert": 1e-5,  # its softmax is in float32
}

_SCRIPTS = Path(__file__).parent / "scripts"
_INFO, _SCRIPT = "edge.json", "predict.py"
# of a probability, between the machine that exported and the one that answers; in int8 a last bit
# of a sum may be rounded the other way
_AGAIN: Mapping[To, float] = {"onnx": 1e-5, "int8": 1e-3, "litert": 1e-5}


@dataclass(frozen=True, slots=True)
class Parts:
    """What is written of a model: its bytes, the names of its file, script and inputs, lines of
    requirements.txt, files beside it, what edge.json says besides, and which Python can run it."""

    model: bytes
    file: str
    script: str
    inputs: Sequence[str]
    needs: Sequence[str]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    python: Path = Path(sys.executable)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    name: str
    version: str
    family: str
    to: To
    folder: Path
    model: str  # its file, or files
    size: int  # bytes of the model
    proof: Proof
    digest: str
    notes: Mapping[str, Any]


def export(
    bundle: Path,
    folder: Path,
    to: To,
    recorded: Sequence[Row],
    *,
    name: str,
    version: str,
    tolerance: float | None = None,
    converter: Path | None = None,
    without: Collection[str] = (),
) -> Exported:
    """Write the bundle's model into `folder`, whole or not at all, and say how it answers.

    It is proven on `recorded` rows (the bundle's example without any), which for int8 also say by
    how much it differs. `tolerance` is of a probability; `converter`, for litert, the Python of an
    environment with litert-torch; columns `without` are missing in the example that goes along.
    `folder` is new, empty or an earlier export, which is replaced.
    Raises EdgeFault for a model that has no such form or answers otherwise, BundleFault for a
    bundle that is not whole.
    """
    _check(folder)
    native = Predictor.load(bundle, native=True)
    example = _rows(native.example)
    recorded = [*recorded, *example] if len(recorded) < len(example) else list(recorded)
    example = [{c: None if c in without else value for c, value in row.items()} for row in example]
    allowed = TOLERANCE[to] if tolerance is None else tolerance
    try:
        if to == "litert":
            parts = _litert(bundle, native, converter)
        else:
            looked_at = [*recorded, *beside(recorded, native.schema, np.random.default_rng(1))]
            columns = {c.name: [row[c.name] for row in looked_at] for c in native.schema.columns}
            rows = native.encoder.transform(columns)
            _check_small(native, to)
            parts = _onnx(portable(bundle, native), to, rows, allowed)
    except NoForm as fault:
        raise EdgeFault(f"version {version} of {name} can't be exported as {to}: {fault}") from None
    with files.whole(folder) as home:
        (home / parts.file).write_bytes(parts.model)
        shutil.copyfile(_SCRIPTS / parts.script, home / _SCRIPT)
        for file, whole in parts.files.items():
            (home / file).write_bytes(whole if isinstance(whole, bytes) else whole.encode("utf-8"))
        (home / "requirements.txt").write_text("\n".join(parts.needs) + "\n", encoding="utf-8")
        info = {
            "format": VERSION,
            "name": name,
            "version": version,
            **{key: native.info[key] for key in ("family", "trained_through", "data_digest")},
            "bundle": native.digest,
            "schema": native.schema.to_json(),
            "classes": list(native.classes),
            "texts": list(native.encoder.texts),
            "numbers": list(native.encoder.numbers),
            "categories": {c: list(v) for c, v in native.encoder.categories.items()},
            "model": parts.file,
            "form": to,
            "inputs": list(parts.inputs),
            "example": example,
            **parts.notes,
        }
        _write(home, info)
        proof, answers = prove(
            home,
            native.schema,
            native.predict_proba,
            recorded,
            example,
            allowed,
            python=parts.python,
        )
        found = {"answers": answers.tolist(), "tolerance": _AGAIN[to], "proof": proof.note()}
        digest = _write(home, {**info, **found})
    graphs = {file: whole for file, whole in parts.files.items() if isinstance(whole, bytes)}
    size, named = len(parts.model), " and ".join([parts.file, *graphs])
    size += sum(map(len, graphs.values()))
    return Exported(
        name, version, native.family, to, folder, named, size, proof, digest, parts.notes
    )


def _check(folder: Path) -> None:
    """Nothing else than an earlier export is ever replaced."""
    if not folder.exists() or (folder / _INFO).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise EdgeFault(
            f"an export goes into a folder that is new, empty or an earlier export, got {folder}: "
            "name another one"
        )


def _check_small(native: Predictor, to: To) -> None:
    """Raises NoForm for int8 of a model whose weights are few, and packed in another way."""
    own = {key.rpartition(".")[2]: value for key, value in native.params.items()}
    if to == "int8" and own.get("compress", "none") != "none" and own.get("precision") != "int8":
        raise NoForm(
            f"it was made small in training ({own['compress']}), where int8 is a parameter too: "
            f"train it with {native.family}.precision int8, or export onnx"
        )


def _onnx(found: Portable, to: To, recorded: Encoded, tolerance: float) -> Parts:
    """Raises NoForm for a model that cannot be as asked."""
    import onnx

    files, notes = {MODEL: found.model, **found.files}, dict(found.notes)
    whole = files[found.weights]
    assert isinstance(whole, bytes)
    if to == "int8" and not int8.is_packed(whole):
        made = int8.quantised(
            whole,
            found.opened,
            recorded,
            tolerance,
            hows=found.hows,
            most=found.rows,
            share=found.share,
        )
        files[found.weights], notes["int8"] = made.model, made.figures.note()
    model = files.pop(MODEL)
    assert isinstance(model, bytes)
    inputs = [given.name for given in onnx.ModelProto.FromString(model).graph.input]
    needs = [f"{package}=={installed(package)}" for package in found.packages]
    return Parts(model, MODEL, "predict_onnx.py", inputs, needs, files, notes)


def _litert(bundle: Path, native: Predictor, converter: Path | None) -> Parts:
    """Raises NoForm for a model that is no network."""
    from models import families
    from models.edge import litert

    if converter is None:
        raise EdgeFault(
            "LiteRT's converter has an environment of its own, got none: name one by --converter"
        )
    fitted: Any = families.get(native.family).load(bundle)
    model, inputs, needs = litert.converted(fitted, native.family, converter)
    cutting: dict[str, str] = {}
    if native.family == "textnet":
        from models.edge import tokens

        cutting = tokens.files(bundle, native.encoder, fitted.net.shape)
    return Parts(
        model, "model.tflite", "predict_litert.py", inputs, needs, cutting, python=converter
    )


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _write(home: Path, info: Mapping[str, Any]) -> str:
    """edge.json, and the digests of all files anew."""
    text = json.dumps(info, indent=1, allow_nan=False)
    (home / _INFO).write_text(text, encoding="utf-8")
    return files.seal(home)
