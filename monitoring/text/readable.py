"""Text columns as columns of a table that a person can read, for pages and pictures.

Not for tests: the words are those that a test has already named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.text.forms import FORMS, forms
from monitoring.text.points import placed
from monitoring.text.words import strings, words

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_WORDS = 8  # of each column, those that moved most
_POINTS = 2_000  # texts of either side that are placed for a picture


def readable(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    texts: Sequence[str],
    detail: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Both frames with the `columns` and, for each of `texts`, what can be read off it.

    That is its form as numbers, and for each word in the `detail` of a vocabulary signal whether a
    text holds it. The kinds of all columns come third.
    """
    kinds = dict(columns)
    found = []
    for frame in (reference, current):
        parts: dict[str, Any] = {name: frame[name] for name in columns}
        for name in texts:
            values = strings(frame[name])
            for form, column in zip(FORMS, forms(values).T, strict=True):
                kinds.setdefault(f"{name} {form}", "number")
                parts.setdefault(f"{name} {form}", column)
            told = (detail or {}).get("columns", {}).get(name, {}).get("terms", ())
            terms = [term["word"] for term in told[:_WORDS]]
            held = [set(words(value)).intersection(terms) for value in values] if terms else []
            for term in terms:
                kinds.setdefault(f"{name} has {term!r}", "category")
                parts.setdefault(
                    f"{name} has {term!r}", ["yes" if term in each else "no" for each in held]
                )
        found.append(_frame(frame, parts))
    return found[0], found[1], kinds


def cloud(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    texts: Sequence[str],
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points of both sides, (m, k) and (n, k), each column with a like say, for a picture."""
    from monitoring.embedding import Embedding

    rng = np.random.default_rng(seed)
    sides = [
        frame.iloc[np.sort(rng.permutation(len(frame))[:_POINTS])] for frame in (reference, current)
    ]
    every = {**columns, **dict.fromkeys(texts, "text")}
    x, y, kinds = placed(sides[0], sides[1], every)
    embedding = Embedding.fit(x, kinds)
    return embedding.transform(x), embedding.transform(y)


def _frame(like: pd.DataFrame, parts: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(parts, index=like.index)
