"""A fitted `tfidf` model: it answers in NumPy, without scikit-learn, and is saved without pickle.

model.json    how texts are cut, the terms, the classes, the design of the other columns
model.npz     idf (terms,), terms (terms, r), coef (r, D), intercept (r,)
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.errors import BundleFault
from models.families.base import spread
from models.families.design import Design
from models.text.counts import Vocabulary
from models.text.tokens import texts_of


class Weighting:
    """Counts to weights: 'tfidf' (count times idf), 'log' (1 + ln count, times idf), 'presence'.

    idf = ln((1 + n) / (1 + texts with the term)) + 1, as scikit-learn's; rows then have length 1.
    """

    def __init__(self, kind: str, idf: NDArray[np.float64]) -> None:
        self.kind, self.idf = kind, idf

    @classmethod
    def fit(cls, counts: Any, kind: str) -> Weighting:
        """Of counts (n, terms) as scipy CSR."""
        n, terms = counts.shape
        if kind == "presence":
            return cls(kind, np.ones(terms))
        seen = np.bincount(counts.indices, minlength=terms)
        return cls(kind, np.log((1 + n) / (1 + seen)) + 1)

    def values(self, places: NDArray[Any], times: NDArray[Any]) -> NDArray[np.float64]:
        """Weights of terms that occur `times`, before the row has length 1."""
        if self.kind == "tfidf":
            scaled: NDArray[np.float64] = times * self.idf[places]
        elif self.kind == "log":
            scaled = (1 + np.log(times)) * self.idf[places]
        else:
            scaled = np.ones(len(places))
        return scaled

    def rows(self, counts: Any) -> Any:
        """The weights (n, terms) of counts, as scipy CSR."""
        from scipy.sparse import csr_array

        values = self.values(counts.indices, counts.data.astype(np.float64))
        owner = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        length = np.sqrt(np.bincount(owner, values * values, minlength=counts.shape[0]))
        return csr_array(
            (values / length[owner], counts.indices, counts.indptr), shape=counts.shape
        )


class FittedTfidf:
    """Scores are sums over a text's terms; thread-safe, and a row costs tens of microseconds.

    `terms` (terms, r), `coef` (r, D) and `intercept` (r,): one row of scores for two classes, else
    one per class of `present`; with `each` every class was fitted against the rest.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        weighting: Weighting,
        design: Design,
        *,
        terms: NDArray[Any],
        coef: NDArray[np.float64],
        intercept: NDArray[np.float64],
        present: tuple[int, ...],
        each: bool,
        k: int,
    ) -> None:
        self.vocabulary, self.weighting, self.design = vocabulary, weighting, design
        self.terms = np.ascontiguousarray(terms, dtype=np.float32)
        self.coef, self.intercept = coef, intercept
        self.present, self.each, self.k = present, each, k

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        return self.probabilities(self.scores(encoded))

    def scores(self, encoded: Encoded) -> NDArray[np.float64]:
        """(n, r)."""
        scores = self.design.scores(encoded, self.coef, self.intercept)
        for row, text in enumerate(texts_of(encoded)):
            places, times = self.vocabulary.bag(text)
            if len(places):
                values = self.weighting.values(places, times)
                scores[row] += values @ self.terms[places] / np.sqrt(values @ values)
        return scores

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, k) of scores (n, r)."""
        if self.each:
            powers = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
            powers = np.maximum(powers, 1e-12)
        else:
            if scores.shape[1] == 1:
                scores = np.hstack([np.zeros_like(scores), scores])
            powers = np.exp(scores - scores.max(1, keepdims=True))
        return spread(powers / powers.sum(1, keepdims=True), self.present, self.k)

    def save(self, folder: Path) -> None:
        state = {
            "k": self.k,
            "present": list(self.present),
            "each": self.each,
            "weights": self.weighting.kind,
            "design": self.design.to_json(),
            "vocabulary": self.vocabulary.to_json(),
        }
        text = json.dumps(state, ensure_ascii=True)  # a text may hold halves of surrogate pairs
        (folder / "model.json").write_text(text, encoding="ascii")
        np.savez_compressed(
            folder / "model.npz",
            idf=self.weighting.idf,
            terms=self.terms,
            coef=self.coef,
            intercept=self.intercept,
        )

    @classmethod
    def load(cls, folder: Path) -> FittedTfidf:
        """Raises BundleFault for files that are damaged or do not fit together."""
        try:
            state = json.loads((folder / "model.json").read_text(encoding="ascii"))
            with (
                (folder / "model.npz").open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                return cls._of(state, {name: arrays[name] for name in arrays.files})
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as fault:
            raise BundleFault(
                f"{folder} holds no tfidf model that can be read: {type(fault).__name__}: {fault}: "
                "train the model anew"
            ) from fault

    @classmethod
    def _of(cls, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedTfidf:
        vocabulary = Vocabulary.from_json(state["vocabulary"])
        design = Design.from_json(state["design"])
        scores = len(arrays["intercept"])
        shapes = {
            "idf": (len(vocabulary),),
            "terms": (len(vocabulary), scores),
            "coef": (scores, design.width),
            "intercept": (scores,),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
                raise ValueError(
                    f"{name} has the shape {shape}, got {arrays[name].dtype} {arrays[name].shape}"
                )
        return cls(
            vocabulary,
            Weighting(state["weights"], arrays["idf"]),
            design,
            terms=arrays["terms"],
            coef=arrays["coef"],
            intercept=arrays["intercept"],
            present=tuple(state["present"]),
            each=bool(state["each"]),
            k=int(state["k"]),
        )
