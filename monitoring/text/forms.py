"""The form of texts, whatever they say: length, capitals, figures and marks.

It is what changes when a mail reader sends HTML, a field is cut off or an encoding breaks, which
words alone show late or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from monitoring.text.words import MOST_CHARACTERS

FORMS = ("length", "capitals", "figures", "marks")
_CAPITAL, _FIGURE, _MARK = 1, 2, 3
_BEYOND = 0x1_0000  # characters from here on are neither of these, but for a few


def forms(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, 4): characters, and the shares of capitals, figures and marks among them.

    The shares of an empty text are 0.

    >>> forms(["Ab 1!", ""]).tolist()
    [[5.0, 0.2, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0]]
    """
    found = np.zeros((len(texts), len(FORMS)))
    found[:, 0] = [len(text) for text in texts]
    heads = [text[:MOST_CHARACTERS] for text in texts]
    sizes = np.array([len(head) for head in heads], dtype=np.int64)
    points = np.frombuffer("".join(heads).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[np.minimum(points, _BEYOND)]
    ends = np.cumsum(sizes)
    for place, kind in enumerate((_CAPITAL, _FIGURE, _MARK), start=1):
        upto = np.r_[0, np.cumsum(kinds == kind)]
        count = upto[ends] - upto[ends - sizes]
        found[:, place] = count / np.maximum(sizes, 1)
    return found


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """What each character of the basic plane is; the last entry stands for all others."""
    kinds = np.zeros(_BEYOND + 1, dtype=np.uint8)
    for point in range(_BEYOND):
        letter = chr(point)
        if letter.isupper():
            kinds[point] = _CAPITAL
        elif letter.isdigit():
            kinds[point] = _FIGURE
        elif not letter.isalnum() and not letter.isspace():
            kinds[point] = _MARK
    return kinds
