"""From a bundle to a folder that answers without everfit, proven before it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

from models import bundle_files as files
from models.bundle import Predictor
from models.edge.portable import Portable, portable
from models.edge.proof import EdgeFault, Proof, Row, ask, prove
from models.encoding import Encoded
from models.onnx import int8, parity
from models.onnx.export import NoForm

To = Literal["onnx", "int8"]
KINDS: tuple[To, ...] = ("onnx", "int8")

VERSION = 1  # of the folder's layout
TOLERANCE: Mapping[To, float] = {"onnx": parity.TOLERANCE, "int8": int8.TOLERANCE}

_SCRIPTS = Path(__file__).parent / "scripts"
_INFO, _SCRIPT = "edge.json", "predict.py"
_AGAIN = 1e-5  # of a probability, between the machine that exported and the one that answers


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    name: str
    version: str
    family: str
    to: To
    folder: Path
    model: str
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
) -> Exported:
    """Write the bundle's model into `folder`, whole or not at all, and say how it answers.

    It is proven on `recorded` rows (the bundle's example without any), which for int8 also say by
    how much it differs. `tolerance` is of a probability. `folder` is new, empty or an earlier
    export, which is replaced. Raises EdgeFault for a model that has no such form or answers
    otherwise, BundleFault for a bundle that is not whole.
    """
    _check(folder)
    native = Predictor.load(bundle, native=True)
    example = _rows(native.example)
    recorded = [*recorded, *example] if len(recorded) < len(example) else list(recorded)
    columns = {c.name: [row[c.name] for row in recorded] for c in native.schema.columns}
    allowed = TOLERANCE[to] if tolerance is None else tolerance
    try:
        found = portable(bundle, native)
        model, notes = _model(found, to, native.encoder.transform(columns), allowed)
    except NoForm as fault:
        raise EdgeFault(f"version {version} of {name} can't be exported as {to}: {fault}") from None
    with files.whole(folder) as home:
        (home / "model.onnx").write_bytes(model)
        shutil.copyfile(_SCRIPTS / "predict_onnx.py", home / _SCRIPT)
        for file, text in found.files.items():
            (home / file).write_text(text, encoding="utf-8")
        needs = [f"{package}=={installed(package)}\n" for package in found.packages]
        (home / "requirements.txt").write_text("".join(needs), encoding="utf-8")
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
            "model": "model.onnx",
            "precision": "int8" if to == "int8" else "float",
            "inputs": _inputs(model),
            "example": example,
            **notes,
        }
        _write(home, info)
        proof, answers = prove(
            home, native.schema, native.predict_proba, recorded, example, allowed
        )
        digest = _write(
            home, {**info, "answers": answers.tolist(), "tolerance": _AGAIN, "proof": proof.note()}
        )
        ask(home, [example])  # the digest that the script checks is the last one
    return Exported(
        name, version, native.family, to, folder, "model.onnx", len(model), proof, digest, notes
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


def _model(
    found: Portable, to: To, recorded: Encoded, tolerance: float
) -> tuple[bytes, dict[str, Any]]:
    """(the model's bytes, what edge.json says of it besides). Raises NoForm."""
    if to == "onnx" or int8.is_packed(found.model):
        return found.model, {}
    made = int8.quantised(found.model, found.opened, recorded, tolerance)
    return made.model, {"int8": made.figures.note()}


def _inputs(model: bytes) -> list[str]:
    import onnx

    return [given.name for given in onnx.ModelProto.FromString(model).graph.input]


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _write(home: Path, info: Mapping[str, Any]) -> str:
    """edge.json, and the digests of all files anew."""
    text = json.dumps(info, indent=1, allow_nan=False)
    (home / _INFO).write_text(text, encoding="utf-8")
    return files.seal(home)
