"""Texts to words and n-grams, in plain Python: the same in training and in the serving process."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.errors import DataFault

CHARACTERS = 20_000  # of a row's text that are read: a request's cost is bounded
LONGEST = 40  # characters of a word that are told apart; what is longer is code, not language

Cut = Literal["words", "marks", "case"]
CUTS: tuple[Cut, ...] = ("words", "marks", "case")

# A row's columns are joined by a line break, and so is a text that has several lines.
_WORDS = re.compile(r"\b\w\w+\b")
_MARKS = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


def texts_of(encoded: Encoded) -> list[str]:
    """One text per row: its text columns joined by a line break, cut at `CHARACTERS`.

    Raises DataFault where there is no text column.
    """
    columns = encoded.texts
    if columns is None or not columns.shape[1]:
        raise DataFault(
            "a family that reads text needs a text column, got none: name one under data.columns, "
            "or take a family of tables"
        )
    if columns.shape[1] == 1:
        return [text[:CHARACTERS] for text in columns[:, 0]]
    return ["\n".join(row)[:CHARACTERS] for row in columns.tolist()]


def cutter(cut: Cut) -> Callable[[str], list[str]]:
    """What cuts a text into words.

    'words' are runs of two or more letters and digits, lower case; 'marks' keeps single letters,
    apostrophes within words and each punctuation mark as well; 'case' is 'marks' with the case.

    >>> cutter("words")("Don't PANIC, I'm ok!"), cutter("case")("Don't PANIC!")
    (['don', 'panic', 'ok'], ["Don't", 'PANIC', '!'])
    """
    if cut == "words":
        return lambda text: _WORDS.findall(text.lower())
    if cut == "marks":
        return lambda text: _MARKS.findall(text.lower())
    return _MARKS.findall


def joined_grams(words: Sequence[str], longest: int) -> list[str]:
    """Words, and runs of two up to `longest` of them joined by a blank.

    >>> joined_grams(["not", "so", "good"], 2)
    ['not', 'so', 'good', 'not so', 'so good']
    """
    grams = [word[:LONGEST] for word in words]
    single = grams[:]
    for n in range(2, longest + 1):
        grams += [" ".join(single[at : at + n]) for at in range(len(single) - n + 1)]
    return grams


def letter_grams(word: str, longest: int) -> list[str]:
    """Runs of 2 up to `longest` characters of a word between blanks, each marked by a tab, so
    that none is taken for a word.

    >>> letter_grams("ab", 3)
    ['\\t a', '\\tab', '\\tb ', '\\t ab', '\\tab ']
    """
    padded = f" {word[:LONGEST]} "
    return [
        f"\t{padded[at : at + n]}"
        for n in range(2, longest + 1)
        for at in range(len(padded) - n + 1)
    ]


def object_column(texts: Sequence[str]) -> NDArray[Any]:
    """Texts as an object array (n, 1), as `Encoded` holds a single text column."""
    column = np.empty((len(texts), 1), dtype=object)
    column[:, 0] = list(texts)
    return column
