"""Weighted n-grams and logistic regression: the conventional pipeline, and what beats it.

With cut 'words', single words, weights 'tfidf' and no ratio it is scikit-learn's TfidfVectorizer
and LogisticRegression as they come. The ratio is that of Wang and Manning 2012 ("Baselines and
Bigrams"): each term is scaled by the logarithm of how much more often it occurs in one class, so
that the penalty spares the terms that a naive Bayes model would use. Columns of numbers and
categories are learnt from beside the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.families.base import TrainingData, Watch, samples
from models.families.design import Design
from models.records import Params
from models.space import Categorical, Float, Int, Ordinal, Space
from models.text.counts import Recipe, Vocabulary
from models.text.memo import remembered
from models.text.tokens import CUTS, texts_of
from models.threads import one_thread

if TYPE_CHECKING:
    from models.families.tfidf_fitted import FittedTfidf

LIMIT = 1_000  # codes per category column; the rarer ones count as unknown


class Tfidf:
    """L2-penalised maximum likelihood on unit-length rows; `C` is the inverse penalty."""

    name = "tfidf"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category", "text"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "self"})
    space = Space(
        (
            Categorical("cut", CUTS),
            Int("words", 1, 3),  # words of the longest n-gram
            Ordinal("letters", (0, 3, 4, 5)),  # of the longest n-gram within words
            Ordinal("least", (1, 2, 3, 5)),  # texts that a term must be in
            Categorical("weights", ("tfidf", "log", "presence")),
            Categorical("ratio", ("none", "bayes")),
            Float("C", 1e-1, 1e3, log=True),
            Categorical("class_weight", ("none", "balanced")),
        )
    )
    default: ClassVar[Params] = {
        "cut": "marks",
        "words": 2,
        "letters": 0,
        "least": 2,
        "weights": "log",
        "ratio": "bayes",
        "C": 30.0,
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
    ) -> FittedTfidf:
        """Fit; it is deterministic, so the seed changes nothing, and short, so no time is cut."""
        from models.families.tfidf_fitted import FittedTfidf, Weighting

        del seconds
        recipe = Recipe(
            str(params["cut"]),  # type: ignore[arg-type]
            int(params["words"]),
            int(params["letters"]),
            int(params["least"]),
        )

        def counted() -> tuple[Vocabulary, Any]:
            texts = texts_of(data.encoded)
            vocabulary = Vocabulary.fit(texts, recipe)
            return vocabulary, vocabulary.counts(texts)

        vocabulary, counts = remembered(data.encoded.texts, recipe, counted)
        weighting = Weighting.fit(counts, str(params["weights"]))
        design = Design.fit(data, limit=LIMIT)
        X, beside = weighting.rows(counts), design.sparse(data.encoded)

        def fitted(part: Any) -> FittedTfidf:
            weights = None if data.weights is None else data.weights[part]
            found = maximum(X[part], beside[part], data.y[part], params, weights)
            return FittedTfidf(vocabulary, weighting, design, **found, k=data.k)

        with one_thread():
            for part in samples(data, seed) if watch is not None else ():
                assert watch is not None
                watch.report(len(part) / len(data), fitted(part).predict_proba(watch.valid))
            return fitted(slice(None))

    def load(self, folder: Path) -> FittedTfidf:
        from models.families.tfidf_fitted import FittedTfidf

        return FittedTfidf.load(folder)


def maximum(
    X: Any,
    beside: Any,
    y: NDArray[np.int64],
    params: Params,
    weights: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """What FittedTfidf answers with. The ratio needs two sides: of more than two classes each is
    then fitted against the rest."""
    present = tuple(int(label) for label in np.unique(y))
    bayes = params["ratio"] == "bayes"
    if bayes:
        sides = [y == label for label in (present[1:] if len(present) == 2 else present)]
        ratios = [log_ratio(X, side) for side in sides]
    else:
        sides, ratios = [y], [np.ones(X.shape[1])]
    terms, coefs, intercepts = [], [], []
    for side, ratio in zip(sides, ratios, strict=True):
        coef, intercept = _coefficients(X, beside, side.astype(np.int64), ratio, params, weights)
        terms.append(coef[:, : X.shape[1]] * ratio)
        coefs.append(coef[:, X.shape[1] :])
        intercepts.append(intercept)
    return {
        "terms": np.concatenate(terms).T,
        "coef": np.concatenate(coefs),
        "intercept": np.concatenate(intercepts),
        "present": present,
        "each": len(sides) > 1,
    }


def _coefficients(
    X: Any,
    beside: Any,
    y: NDArray[np.int64],
    ratio: NDArray[np.float64],
    params: Params,
    weights: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(coefficients (r, terms + D) of X times the ratio and of the other columns, r intercepts)."""
    from scipy.sparse import csr_array, hstack
    from sklearn.linear_model import LogisticRegression

    scaled = csr_array((X.data * ratio[X.indices], X.indices, X.indptr), shape=X.shape)
    weight = params["class_weight"]
    model = LogisticRegression(
        C=float(params["C"]), class_weight=None if weight == "none" else weight, max_iter=2_000
    )
    whole = csr_array(hstack([scaled, beside], format="csr")) if beside.shape[1] else scaled
    model.fit(whole, y, weights)
    return model.coef_, model.intercept_


def log_ratio(X: Any, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log of each term's share of the occurrences within the positive rows over that within the
    others (terms,), with one occurrence added to each side; rows count a term once."""
    rates = []
    for rows in (positive, ~positive):
        seen = 1.0 + np.bincount(X[np.flatnonzero(rows)].indices, minlength=X.shape[1])
        rates.append(np.log(seen / seen.sum()))
    result: NDArray[np.float64] = rates[0] - rates[1]
    return result
