"""Texts as words, read alike on any machine and in any language, with nothing downloaded.

A word is a run of letters and digits in lower case; figures are written as zeros, so that no date,
price or telephone number is a word of its own, and none is ever named in a report. Scripts without
spaces between words are read by the character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_CHARACTERS = 20_000  # of a text that are read: what it is about shows by then
_LONGEST = 32  # letters of a word that are told apart
# Thai, Lao, Khmer, Japanese, Chinese: no spaces between words
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['\u2019][^\W_{_UNSPACED}]+)*")
_FIGURE = re.compile(r"\d+")


def words(text: str) -> list[str]:
    """The words of one text, in order.

    >>> words("Call 0800-555 now, it's FREE!")
    ['call', '0', '0', 'now', "it's", 'free']
    """
    text = text[:MOST_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return [word[:_LONGEST] for word in _WORD.findall(_FIGURE.sub("0", text.lower()))]


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each word is in each text: `matrix` (texts, words), its columns named by `terms`.

    Terms are sorted, so neither the order of the texts nor their sides decides anything.
    """

    matrix: csr_array
    terms: NDArray[np.object_]

    def __len__(self) -> int:
        return int(self.matrix.shape[0])


def counts(texts: Iterable[str]) -> Counts:
    """The words of many texts."""
    from scipy.sparse import csr_array

    place: dict[str, int] = {}
    codes: list[int] = []
    starts = [0]
    for text in texts:
        for term in words(text):
            codes.append(place.setdefault(term, len(place)))
        starts.append(len(codes))
    terms = np.array(list(place), dtype=object)
    order = np.argsort(terms, kind="stable") if len(terms) else np.zeros(0, dtype=np.int64)
    rank = np.empty(len(terms), dtype=np.int64)
    rank[order] = np.arange(len(terms))
    matrix = csr_array(
        (
            np.ones(len(codes), dtype=np.float32),
            rank[codes] if codes else np.zeros(0, np.int64),
            starts,
        ),
        shape=(len(starts) - 1, max(len(terms), 1)),
    )
    matrix.sum_duplicates()
    return Counts(matrix, terms[order] if len(terms) else np.array([""], dtype=object))


def strings(column: Any) -> list[str]:
    """A column as texts; what is missing is empty, and what is no text is written as one."""
    import pandas as pd

    values = pd.Series(column).to_numpy(dtype=object)
    gone = pd.isna(values)
    return [
        "" if g else v if isinstance(v, str) else str(v) for v, g in zip(values, gone, strict=True)
    ]
