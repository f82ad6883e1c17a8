"""Encoded rows as dense points, on terms that the rows of both domains set alike.

Nothing here looks at labels or at which side a row is of, so that a test of two samples on these
points keeps its level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.threads import one_thread

Array = NDArray[np.float64]

WIDTH = 64  # of the texts' embedding
_LEVELS = 32  # of a category; the rarer ones (codes are ranked by frequency) count as one
_FAR = 6.0  # deviations at which a number is cut
_TERMS = 50_000
_COMMON = 0.5  # of the texts: what more of them hold tells nothing to a person
_WORD = r"(?u)\b\w+\b"
_SPREAD = 1e-9


def points(
    source: Encoded,
    target: Encoded,
    cardinality: Sequence[int],
    *,
    seed: int = 0,
    width: int = WIDTH,
) -> tuple[Array, Array]:
    """Points (n, q) and (m, q) of both sides.

    A number is standardised and has an indicator of missing, a category has one indicator per
    level, each of variance 1 at most. Texts are embedded by `embedded`. Columns that never vary are
    left out; where none varies there is one of zeros.
    """
    n = len(source)
    numbers = np.concatenate([source.numbers, target.numbers]).astype(np.float64)
    codes = np.concatenate([source.codes, target.codes])
    parts = [_standardised(numbers), np.isnan(numbers).astype(np.float64)]
    for column, card in zip(codes.T, cardinality, strict=True):
        levels = min(card, _LEVELS) + 1
        parts.append(np.eye(levels)[np.minimum(column, levels - 1)])
    whole = np.concatenate(parts, axis=1) if parts else np.zeros((len(numbers), 0))
    if source.texts is not None and target.texts is not None:
        lines = joined(source.texts) + joined(target.texts)
        whole = np.concatenate([whole, embedded(lines, seed=seed, width=width)], axis=1)
    whole = whole[:, whole.std(axis=0) > _SPREAD]
    if not whole.shape[1]:
        whole = np.zeros((len(numbers), 1))
    return whole[:n], whole[n:]


def joined(texts: NDArray[Any]) -> list[str]:
    """The text columns (n, d) of each row as one text."""
    return ["\n".join(row) for row in texts.tolist()]


def embedded(lines: Sequence[str], *, seed: int = 0, width: int = WIDTH) -> Array:
    """Texts as points of length 1 at most: latent semantic analysis (Deerwester et al. 1990).

    TF-IDF of words, by a truncated SVD to `width` dimensions; equal seeds give equal points. A text
    without any word that two texts share is at 0.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    with one_thread():
        counted = TfidfVectorizer(
            min_df=2,
            max_df=0.5,
            max_features=_TERMS,
            sublinear_tf=True,
            token_pattern=_WORD,
        )
        try:
            terms = counted.fit_transform(lines)
        except ValueError:  # no word is left: all texts are empty, or no two share one
            return np.zeros((len(lines), 1))
        size = min(width, min(terms.shape) - 1)
        if size < 1:
            return np.asarray(terms.toarray(), dtype=np.float64)
        found = TruncatedSVD(size, random_state=seed).fit_transform(terms)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(length > _SPREAD, length, 1.0), dtype=np.float64)


def telling(
    source: Sequence[str], target: Sequence[str], *, most: int = 8
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that tell `source` from `target`, and the other way round.

    By the log odds of a text holding the word, in units of their deviation, shrunk by the pooled
    frequency (Monroe, Colaresi and Quinn 2008, 'Fightin' words').
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counted = CountVectorizer(min_df=5, max_df=_COMMON, max_features=_TERMS, binary=True)
    try:
        seen = counted.fit_transform([*source, *target])
    except ValueError:
        return (), ()
    n, m = len(source), len(target)
    first, late = (np.asarray(part.sum(axis=0)).ravel() for part in (seen[:n], seen[n:]))
    prior = (first + late) / (n + m) * 10.0
    odds = np.log((first + prior) / (n + 10.0 - first - prior).clip(1e-9))
    others = np.log((late + prior) / (m + 10.0 - late - prior).clip(1e-9))
    score = (odds - others) / np.sqrt(1 / (first + prior) + 1 / (late + prior))
    words, order = counted.get_feature_names_out(), np.argsort(score, kind="stable")
    return (
        tuple(str(words[i]) for i in order[::-1][:most] if score[i] > 2),
        tuple(str(words[i]) for i in order[:most] if score[i] < -2),
    )


def _standardised(numbers: Array) -> Array:
    known = ~np.isnan(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, numbers, 0.0)
    mean = filled.sum(axis=0) / count
    apart = np.where(known, numbers - mean, 0.0)
    scale = np.sqrt((apart**2).sum(axis=0) / count)
    return np.asarray(np.clip(apart / np.where(scale > 0, scale, 1.0), -_FAR, _FAR))
