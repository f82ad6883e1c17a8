"""A bundle: one folder with a fitted model, its encoder and its lineage, and no pickle in it.

    bundle.json     schema, encoder, family, parameters, lineage, an example with its answers
    model.*         what the family wrote: model.skops or model.pt2, and model.json
    digest.json     sha256 of every file, and of the whole

Loading needs neither pandas, MLflow nor Prefect.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import families
from models.encoding import Encoder
from models.errors import BundleFault, DataFault, ModelError, SpaceFault
from models.families import Fitted
from models.records import Params, Scalar
from models.schema import Schema

VERSION = 1
TOLERANCE = 1e-5  # of a probability, between the machine that fitted and the one that serves

_INFO = "bundle.json"
_DIGEST = "digest.json"


class Predictor:
    """A loaded bundle. `predict_proba` may be called from several threads at once."""

    def __init__(
        self, info: Mapping[str, Any], encoder: Encoder, fitted: Fitted, digest: str
    ) -> None:
        self.info = info  # all of bundle.json
        self.schema = Schema.from_json(info["schema"])
        self.encoder = encoder
        self.digest = digest
        self._fitted = fitted

    @classmethod
    def load(cls, folder: Path | str, *, digest: str | None = None) -> Predictor:
        """Load a bundle whose files are as written, and whose digest is `digest` if given.

        Raises BundleFault for a folder that is incomplete, altered or of another version.
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
            fitted = families.get(info["family"]).load(folder)
            return cls(info, encoder, fitted, found)
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
        encoded = self.encoder.transform(columns)
        if not len(encoded):
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
    folder: Path, fitted: Fitted, encoder: Encoder, info: Mapping[str, Any]
) -> tuple[str, NDArray[np.float64]]:
    """Write a bundle and give its digest and its answers to `info["example"]`.

    Everything is written and synced in a hidden folder beside `folder` and then renamed, so that
    `folder` is whole whenever it exists. One that is there already is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        answers = fitted.predict_proba(encoder.transform(info["example"]))
        fitted.save(temporary)
        whole = {
            "version": VERSION,
            **info,
            "encoder": encoder.to_json(),
            "answers": answers.tolist(),
        }
        text = json.dumps(whole, indent=1, allow_nan=False)
        (temporary / _INFO).write_text(text, encoding="utf-8")
        files = _hashes(temporary)
        total = _total(files)
        seal = json.dumps({"digest": total, "files": files}, indent=1)
        (temporary / _DIGEST).write_text(seal, encoding="utf-8")
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        temporary.chmod(0o755)  # mkdtemp's own is for its user alone; servers may be another
        _replace(temporary, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return total, answers


def verify(folder: Path | str, digest: str | None = None) -> str:
    """The digest of a bundle, after checking each of its files against it.

    Raises BundleFault if a file is missing, added or altered, or if the digest is not `digest`.
    """
    folder = Path(folder)
    try:
        seal = json.loads((folder / _DIGEST).read_text(encoding="utf-8"))
        sealed, stated = dict(seal["files"]), str(seal["digest"])
    except (OSError, KeyError, TypeError, ValueError) as fault:
        raise BundleFault(
            f"{folder} is no whole bundle ({type(fault).__name__}: {fault}): train or download anew"
        ) from None
    files = _hashes(folder)
    if files != sealed or _total(files) != stated:
        changed = sorted(n for n in files.keys() | sealed if files.get(n) != sealed.get(n))
        raise BundleFault(
            f"{folder} was altered since it was written: {', '.join(changed) or _DIGEST} differs: "
            "download it again or train anew"
        )
    if digest is not None and digest != stated:
        raise BundleFault(
            f"the bundle in {folder} should have the digest {digest}, got {stated}: it is another "
            "bundle, download it again"
        )
    return stated


def digest(folder: Path | str) -> str:
    """The digest of a bundle that is whole; BundleFault otherwise."""
    return verify(folder)


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file but the seal, by its path in the folder."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _DIGEST:
            with path.open("rb") as file:
                result[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return result


def _total(files: Mapping[str, str]) -> str:
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        folder.rename(old / "bundle")
        try:
            temporary.rename(folder)
        except OSError:
            (old / "bundle").rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
