"""What of a bundle goes into an export: its model in ONNX, and what prepares its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.bundle import Predictor
from models.onnx import int8
from models.onnx.export import drawn
from models.onnx.int8_graph import How
from models.onnx.parity import Answers
from models.onnx.session import Session

MODEL = "model.onnx"
PACKAGES = ("numpy", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Portable:
    """A model in ONNX, what opens another form of it, files beside it by name, and the packages
    that answering needs.

    `weights` is the file whose forms `opened` opens, the model itself or one beside it; `rows` are
    asked for at most to see how a form of it differs, which may take a `share` of the tolerance
    there, and `hows` the ways of packing it, if not all. `notes` go into edge.json.
    """

    model: bytes
    opened: Callable[[bytes], Answers]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    packages: tuple[str, ...] = PACKAGES
    weights: str = MODEL
    rows: int = int8.ROWS
    share: float = 1.0
    hows: Sequence[How] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def portable(bundle: Path, native: Predictor) -> Portable:
    """Of a bundle, loaded natively. Raises NoForm for a model that has no ONNX form at all; one
    that is slower than the model itself is good enough here."""
    if native.family == "tfidf":
        from models.edge import terms
        from models.families.tfidf_fitted import FittedTfidf

        return terms.portable(FittedTfidf.load(bundle), native.encoder)
    if native.family == "sentence":
        from models.edge import vectors
        from models.families.sentence import FittedSentence

        return vectors.portable(FittedSentence.load(bundle), native.encoder)
    model, rows_at_once = _model(bundle, native)
    if native.family == "textnet":
        from models.edge import tokens
        from models.text.tokenizer import Tokenizer
        from models.text.tokens import texts_of

        cutter = Tokenizer.load(bundle)
        return Portable(
            model,
            lambda form: Session(form, rows_at_once, lambda rows: cutter.padded(texts_of(rows))),
            tokens.files(bundle, native.encoder),
            (*PACKAGES, "tokenizers"),
        )
    return Portable(model, lambda form: Session(form, rows_at_once))


def _model(bundle: Path, native: Predictor) -> tuple[bytes, int]:
    """(the bundle's own ONNX form, or one that is drawn now; rows that it may take at once)."""
    served = Predictor.load(bundle)
    if served.runtime == "onnx":
        return (bundle / "model.onnx").read_bytes(), int(served.info["onnx"]["rows_at_once"])
    from models import families

    fitted = families.get(native.family).load(bundle)
    encoder, k = native.encoder, len(native.classes)
    form = drawn(fitted, native.family, len(encoder.numbers), encoder.cardinality, k)
    return form.model, form.rows_at_once
