"""Sentence vectors of a local encoder and a linear head, beside weighted n-grams where they help.

What an encoder has learnt of language elsewhere tells where a few hundred rows cannot; the n-grams
tell what is particular to these rows. The encoder itself is not part of the bundle (it has some
90 MB), only its digest: where the model is served, the same one must be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.errors import BundleFault, DataFault
from models.families.base import TrainingData, Watch
from models.families.design import Design
from models.records import Params
from models.space import Categorical, Float, Space
from models.text.counts import Recipe, Vocabulary
from models.text.memo import remembered
from models.text.sentences import Sentences, local
from models.text.tokens import texts_of
from models.threads import one_thread

if TYPE_CHECKING:
    from models.families.tfidf_fitted import FittedTfidf

LIMIT = 1_000  # codes per category column; the rarer ones count as unknown
_TERMS = Recipe("marks", 2, 0, 2)


class Sentence:
    """L2-penalised maximum likelihood; `C` is the inverse penalty, `scale` the length of a vector
    beside the n-grams' length of 1."""

    name = "sentence"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category", "text"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights"})
    space = Space(
        (
            Categorical("terms", ("none", "bayes")),
            Float("scale", 0.3, 10.0, log=True),
            Float("C", 1e-2, 1e2, log=True),
            Categorical("class_weight", ("none", "balanced")),
        )
    )
    default: ClassVar[Params] = {
        "terms": "bayes",
        "scale": 1.0,
        "C": 10.0,
        "class_weight": "none",
    }

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedSentence:
        """Fit; it is deterministic, so the seed changes nothing.

        Raises DataFault where there is no encoder.
        """
        from scipy.sparse import csr_array, hstack

        from models.families.tfidf import maximum
        from models.families.tfidf_fitted import FittedTfidf, Weighting

        del seed, seconds, watch
        encoder, texts = local(), texts_of(data.encoded)
        vectors = encoder.vectors(texts).astype(np.float64) * float(params["scale"])
        bayes = params["terms"] == "bayes"

        def counted() -> tuple[Vocabulary, Any]:
            vocabulary = Vocabulary.fit(texts, _TERMS)
            return vocabulary, vocabulary.counts(texts)

        if bayes:
            vocabulary, counts = remembered(data.encoded.texts, _TERMS, counted)
        else:
            vocabulary = Vocabulary(_TERMS, ())
            counts = csr_array((len(data), 0), dtype=np.float32)
        weighting = Weighting.fit(counts, "log")
        design = Design.fit(data, limit=LIMIT)
        with one_thread():
            beside = hstack([design.sparse(data.encoded), csr_array(vectors)], format="csr")
            given = {**params, "ratio": "bayes" if bayes else "none"}
            found = maximum(weighting.rows(counts), csr_array(beside), data.y, given, data.weights)
        coef = found.pop("coef")
        terms = FittedTfidf(
            vocabulary, weighting, design, coef=coef[:, : design.width], **found, k=data.k
        )
        head = coef[:, design.width :].T * float(params["scale"])
        return FittedSentence(terms, head, encoder)

    def load(self, folder: Path) -> FittedSentence:
        return FittedSentence.load(folder)


class FittedSentence:
    """Scores of the n-grams and the other columns, and `head` (width, r) of a text's vector."""

    def __init__(self, terms: FittedTfidf, head: NDArray[Any], encoder: Sentences) -> None:
        self.terms, self.encoder = terms, encoder
        self.head = np.asarray(head, dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Without the encoder, which is not part of the model: its size is that of the head."""
        return {"terms": self.terms, "head": self.head}

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        vectors = self.encoder.vectors(texts_of(encoded)).astype(np.float64)
        return self.terms.probabilities(self.terms.scores(encoded) + vectors @ self.head)

    def save(self, folder: Path) -> None:
        self.terms.save(folder)
        np.savez_compressed(folder / "head.npz", allow_pickle=False, head=self.head)
        note = {"encoder": self.encoder.digest, "width": self.encoder.width}
        (folder / "encoder.json").write_text(json.dumps(note), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> FittedSentence:
        """Raises BundleFault for files that are damaged, and for another encoder than it had."""
        from models.families.tfidf_fitted import FittedTfidf

        terms = FittedTfidf.load(folder)
        try:
            note = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            wanted, width = str(note["encoder"]), int(note["width"])
            with (
                (folder / "head.npz").open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                head = arrays["head"]
            if head.shape != (width, len(terms.intercept)) or head.dtype.kind != "f":
                raise ValueError(f"a head of {head.dtype} {head.shape} for vectors of {width}")
        except (OSError, EOFError, KeyError, TypeError, ValueError) as fault:
            raise BundleFault(
                f"{folder} holds no sentence model that can be read: {type(fault).__name__}: "
                f"{fault}: train the model anew"
            ) from fault
        try:
            encoder = local()
        except DataFault as fault:
            raise BundleFault(f"the bundle in {folder} cannot answer: {fault}") from fault
        if encoder.digest != wanted:
            raise BundleFault(
                f"the bundle in {folder} was fitted with the encoder {wanted[:12]}, got "
                f"{encoder.digest[:12]} on this machine: install that one, or train the model anew"
            )
        return cls(terms, head, encoder)
