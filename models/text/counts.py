"""Bags of n-grams: a vocabulary learnt from texts, and sparse counts by it.

The vocabulary finds the terms of one text in microseconds, without scikit-learn or SciPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.text.tokens import LONGEST, Cut, cutter, joined_grams, letter_grams

TERMS = 2**18  # at most, the most frequent ones
_SAMPLE = 20_000  # texts that a vocabulary is learnt from, evenly spread: more add rare terms only
_REMEMBERED = 2**16  # words whose n-grams of letters are kept


@dataclass(frozen=True, slots=True)
class Recipe:
    """How texts are cut: n-grams of up to `words` words (1 or more), and of up to `letters` letters
    within words (0: none). Terms of fewer than `least` texts are left out."""

    cut: Cut = "words"
    words: int = 1
    letters: int = 0
    least: int = 1


class Vocabulary:
    """The terms of a recipe in their order, each with its column."""

    def __init__(self, recipe: Recipe, terms: Sequence[str]) -> None:
        self.recipe, self.terms = recipe, tuple(terms)
        self.columns = {term: column for column, term in enumerate(self.terms)}
        self._cut = cutter(recipe.cut)
        self._letters: dict[str, list[int]] = {}  # of a word: half of a text's words are common

    def __len__(self) -> int:
        return len(self.terms)

    def __getstate__(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "terms": self.terms}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        Vocabulary.__init__(self, state["recipe"], state["terms"])

    @classmethod
    def fit(cls, texts: Sequence[str], recipe: Recipe) -> Vocabulary:
        """Learn the terms of texts: the `TERMS` that most texts have, in alphabetical order."""
        chosen = texts
        if len(texts) > _SAMPLE:
            places = np.linspace(0, len(texts) - 1, _SAMPLE).astype(np.int64)
            chosen = [texts[place] for place in places]
        split = cutter(recipe.cut)
        frequency: dict[str, int] = {}
        for text in chosen:
            words = split(text)
            seen = set(joined_grams(words, recipe.words))
            if recipe.letters:
                for word in set(words):
                    seen.update(letter_grams(word, recipe.letters))
            for term in seen:
                frequency[term] = frequency.get(term, 0) + 1
        known = [term for term, count in frequency.items() if count >= recipe.least]
        if len(known) > TERMS:
            known = sorted(known, key=lambda term: (-frequency[term], term))[:TERMS]
        return cls(recipe, sorted(known))

    def places(self, text: str) -> list[int]:
        """Columns of a text's terms, each as often as it occurs; those not known are left out."""
        words, columns = self._cut(text), self.columns
        found = [
            column
            for term in joined_grams(words, self.recipe.words)
            if (column := columns.get(term)) is not None
        ]
        if self.recipe.letters:
            for word in words:
                found += self._of_word(word[:LONGEST])
        return found

    def _of_word(self, word: str) -> list[int]:
        known = self._letters.get(word)
        if known is None:
            grams = letter_grams(word, self.recipe.letters)
            known = [c for gram in grams if (c := self.columns.get(gram)) is not None]
            if len(self._letters) < _REMEMBERED:
                self._letters[word] = known
        return known

    def counts(self, texts: Sequence[str]) -> Any:
        """Occurrences (n, terms) as scipy CSR, float32, with sorted columns."""
        from scipy.sparse import csr_array

        ends = np.zeros(len(texts) + 1, dtype=np.int64)
        columns: list[NDArray[np.int32]] = []
        values: list[NDArray[np.float32]] = []
        for row, text in enumerate(texts):
            places, times = self.bag(text)
            columns.append(places.astype(np.int32))
            values.append(times)
            ends[row + 1] = ends[row] + len(places)
        return csr_array(
            (
                np.concatenate(values) if values else np.empty(0, dtype=np.float32),
                np.concatenate(columns) if columns else np.empty(0, dtype=np.int32),
                ends,
            ),
            shape=(len(texts), len(self)),
        )

    def bag(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Distinct columns of a text's terms in rising order, and how often each occurs."""
        places, times = np.unique(np.array(self.places(text), dtype=np.int64), return_counts=True)
        return places, times.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values."""
        recipe = self.recipe
        return {
            "cut": recipe.cut,
            "words": recipe.words,
            "letters": recipe.letters,
            "least": recipe.least,
            "terms": list(self.terms),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `to_json`."""
        recipe = Recipe(state["cut"], state["words"], state["letters"], state["least"])
        return cls(recipe, state["terms"])
