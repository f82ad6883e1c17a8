"""A bundle: one folder with a fitted model, its encoder and its lineage, and no pickle in it.

    bundle.json     schema, encoder, family, parameters, lineage, an example with its answers
    model.onnx      the model for ONNX Runtime, if it answers as the model itself does
    model.*         what the family wrote: model.skops, model.pt2 or model.npz, and model.json
    tokenizer.json  what cuts texts for a model that reads tokens
    digest.json     sha256 of every file, and of the whole

Loading needs neither pandas, MLflow nor Prefect; with model.onnx, no scikit-learn or torch either.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models import bundle_files as files
from models.bundle_files import digest, verify
from models.encoding import Encoded, Encoder
from models.errors import BundleFault, DataFault, ModelError, SpaceFault
from models.records import Params, Scalar
from models.schema import Schema

if TYPE_CHECKING:
    from models.families import Fitted

__all__ = ["TOLERANCE", "VERSION", "Predictor", "digest", "verify", "write"]

logger = logging.getLogger(__name__)

VERSION = 1
TOLERANCE = 1e-5  # of a probability, between the machine that fitted and the one that serves

_INFO = "bundle.json"
_ONNX = "model.onnx"
_OLD = "the bundle is of a release that wrote no ONNX form"

Runtime = Literal["onnx", "native"]


class Answers(Protocol):
    """What answers encoded rows, from several threads at once."""

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k), n > 0, in the order of the schema's classes."""
        ...


class Predictor:
    """A loaded bundle. `predict_proba` and the like may be called from several threads at once.

    `runtime` is "onnx" where ONNX Runtime answers, else "native", and `reason` then says why.
    """

    def __init__(
        self,
        info: Mapping[str, Any],
        encoder: Encoder,
        fitted: Answers,
        digest: str,
        *,
        runtime: Runtime = "native",
        reason: str = "",
    ) -> None:
        self.info = info  # all of bundle.json
        self.schema = Schema.from_json(info["schema"])
        self.encoder = encoder
        self.digest = digest
        self.runtime = runtime
        self.reason = reason
        self._fitted = fitted

    @classmethod
    def load(
        cls, folder: Path | str, *, digest: str | None = None, native: bool = False
    ) -> Predictor:
        """Load a bundle whose files are as written, and whose digest is `digest` if given.

        `native` asks for the family's own form even if there is an ONNX form. Raises BundleFault
        for a folder that is incomplete, altered or of another version.
        """
        folder = Path(folder)
        found = verify(folder, digest)
        try:
            info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
            if info["version"] != VERSION:
                raise BundleFault(
                    f"a bundle of version {VERSION} is needed, got {info['version']} in {folder}: "
                    "train it anew, or use the release of everfit that wrote it"
                )
            encoder = Encoder.from_json(info["encoder"])
            runtime: Runtime
            fitted, runtime, reason = (None, "native", "") if native else _onnx(folder, info)
            if fitted is None:
                from models import families

                fitted = families.get(info["family"]).load(folder)
            return cls(info, encoder, fitted, found, runtime=runtime, reason=reason)
        except (OSError, KeyError, TypeError, ValueError, DataFault, SpaceFault) as fault:
            raise BundleFault(
                f"{folder} holds no bundle that can be read: {type(fault).__name__}: {fault}: "
                "train it anew"
            ) from fault

    @property
    def classes(self) -> tuple[Scalar, ...]:
        return self.schema.classes

    @property
    def family(self) -> str:
        return str(self.info["family"])

    @property
    def params(self) -> Params:
        params: Params = self.info["params"]
        return params

    @property
    def example(self) -> dict[str, list[Any]]:
        """A few input rows as columns of plain values; None where missing."""
        example: dict[str, list[Any]] = self.info["example"]
        return example

    @property
    def base_rates(self) -> NDArray[np.float64]:
        """Share of each class among the training labels (k,)."""
        return np.asarray(self.info["base_rates"], dtype=np.float64)

    def predict_proba(self, columns: Mapping[str, Any]) -> NDArray[np.float64]:
        """Probabilities (n, k), in the order of `classes`, of columns of n values each.

        Other columns than the schema's are ignored; no rows give (0, k). Raises DataFault that
        names the column at fault, and BundleFault if the model answers with NaN.
        """
        return self.predict_encoded(self.encoder.transform(columns))

    def predict_rows(
        self,
        numbers: NDArray[np.float64],
        categories: Sequence[Sequence[Any]],
        texts: Sequence[Sequence[Any]] = (),
    ) -> NDArray[np.float64]:
        """As `predict_proba`, of numbers (n, d_num) in the schema's order that are known to be NaN
        or within float32, and of one sequence of n values for each category and text column."""
        return self.predict_encoded(self.encoder.encode(numbers, categories, texts))

    def predict_encoded(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k) of rows that this bundle's encoder encoded.

        Raises BundleFault if the model answers with NaN.
        """
        if not len(encoded.numbers):
            return np.empty((0, len(self.classes)))
        proba = self._fitted.predict_proba(encoded)
        if not np.isfinite(proba).all():
            raise BundleFault(
                f"probabilities are finite, the {self.family} model gave {proba[0]}: roll it back"
            )
        return proba

    def self_check(self) -> None:
        """Answer the bundle's own example as at creation, within `TOLERANCE`, or BundleFault."""
        expected = np.asarray(self.info["answers"], dtype=np.float64)
        try:
            proba = self.predict_proba(self.example)
        except BundleFault:
            raise
        except ModelError as fault:
            raise BundleFault(f"the bundle refuses its own example: {fault}: train anew") from fault
        if proba.shape != expected.shape or np.abs(proba - expected).max() > TOLERANCE:
            raise BundleFault(
                f"the bundle must answer its example with {expected.tolist()} within "
                f"{TOLERANCE:g}, got {proba.tolist()}: train it anew on this platform"
            )


def write(
    folder: Path,
    fitted: Fitted,
    encoder: Encoder,
    info: Mapping[str, Any],
    recorded: Encoded | None = None,
) -> tuple[str, NDArray[np.float64]]:
    """Write a bundle and give its digest and its answers to `info["example"]`.

    The model is written in ONNX too if it has such a form that answers as the model does on
    `recorded` rows (the example's without any) and beside them, within `parity.TOLERANCE`;
    otherwise `info["onnx"]` says why not. `folder` is whole whenever it exists; one that is there
    already is replaced.
    """
    from models.onnx.export import export

    folder = Path(folder)
    sample = encoder.transform(info["example"])
    with files.whole(folder) as temporary:
        exported = export(
            fitted, info["family"], encoder, len(info["schema"]["classes"]), recorded or sample
        )
        answers = (exported.form.session if exported.form else fitted).predict_proba(sample)
        fitted.save(temporary)
        if exported.form is not None:
            (temporary / _ONNX).write_bytes(exported.form.model)
        whole = {
            "version": VERSION,
            **info,
            "encoder": encoder.to_json(),
            "onnx": exported.note(),
            "answers": answers.tolist(),
        }
        text = json.dumps(whole, indent=1, allow_nan=False)
        (temporary / _INFO).write_text(text, encoding="utf-8")
        total = files.seal(temporary)
    return total, answers


def _onnx(folder: Path, info: Mapping[str, Any]) -> tuple[Answers | None, Runtime, str]:
    """(what answers, or None; the runtime; why it is not ONNX Runtime)."""
    note = info.get("onnx", {"runtime": "native", "reason": _OLD})
    if note["runtime"] != "onnx":
        return None, "native", str(note["reason"])
    model, rows_at_once = (folder / _ONNX).read_bytes(), int(note["rows_at_once"])
    try:
        from models.onnx.session import Session

        return Session(model, rows_at_once, _tokens(folder)), "onnx", ""
    except Exception as fault:  # whatever ONNX Runtime raises, the family's own form is there
        logger.warning("%s of %s cannot be loaded, serving natively: %s", _ONNX, folder, fault)
        return None, "native", f"{_ONNX} cannot be loaded here: {type(fault).__name__}"


def _tokens(folder: Path) -> Callable[[Encoded], NDArray[np.int64]] | None:
    """What cuts rows' texts into the tokens that a bundle's model reads, where it reads some."""
    from models.text import tokenizer, tokens

    if not (folder / tokenizer.FILE).exists():
        return None
    cut = tokenizer.Tokenizer.load(folder)
    return lambda encoded: cut.padded(tokens.texts_of(encoded))
