"""Texts as points, for tests of all columns together: an embedding made where it is used.

Latent semantic analysis (Deerwester et al. 1990): every text is a vector of its words, each weighed
by 1 + log of its count and by how rare it is among texts, of length one; its place on the leading
principal axes of all those vectors is the embedding. Beside them stand four numbers on the form
(`monitoring.text.forms`), which say nothing of words.

Words, weights and axes come from the rows of both sides pooled, in an order that their own content
gives, never from a look at which side a row is of. So a permutation of the sides leaves the points
as they are, and a permutation test on them keeps its exact level, which it would not on an
embedding that was fitted to one side alone. No download, no random start: the same rows give the
same points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.text.forms import FORMS, forms
from monitoring.text.words import Counts, counts, strings

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

AXES = 16  # of each text column: on reviews 8 to 64 saw the same changes, more cost power
_NOTHING = 1e-6
_DENSE = 3 * AXES  # rows or words up to which the whole decomposition is cheaper


def points(texts: list[str], *, axes: int = AXES) -> Floats:
    """(texts, axes + 4) of pooled texts; fewer axes where there are fewer texts or words.

    The first axis has deviation 1 and every other less, as its share of what tells texts apart;
    the form's numbers are normal scores of deviation 0.5.
    """
    ordered = sorted(texts)
    values = np.hstack([_semantic(counts(ordered), axes), _scores(forms(ordered))])
    first: dict[str, int] = {}  # equal texts lie on one spot to the last digit
    for place, text in enumerate(ordered):
        first.setdefault(text, place)
    return values[[first[text] for text in texts]]


def _scores(values: Floats) -> Floats:
    """Each column's normal scores of the pooled ranks, of deviation 0.5; 0 where nothing varies."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores = np.zeros(values.shape)
    for place, column in enumerate(values.T):
        if len(column) and np.ptp(column) > 0:
            found = ndtri((rankdata(column) - 0.5) / len(column))
            scores[:, place] = (found - found.mean()) * (0.5 / found.std())
    return scores


def placed(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    kind: Literal["number", "point"] = "number",
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Both frames with each 'text' of `columns` as numbers, and the kinds of the columns then.

    The new ones are of `kind`: 'point' for tests by distance (`monitoring.coordinates`), 'number'
    for whoever places numbers on a scale of its own. Other columns stay as they are, and so does
    the order of rows; frames have no other column.
    """
    import pandas as pd

    kinds: dict[str, str] = {}
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, own in columns.items():
        if own != "text":
            kinds[name] = own
            for side, frame in zip(sides, (reference, current), strict=True):
                side[name] = frame[name].reset_index(drop=True)
            continue
        known = strings(reference[name])
        found = points(known + strings(current[name]))
        topics = found.shape[1] - len(FORMS)
        for place, column in enumerate(found.T):
            what = f"topic {place + 1}" if place < topics else FORMS[place - topics]
            kinds[f"{name}: {what}"] = kind
            sides[0][f"{name}: {what}"] = column[: len(known)]
            sides[1][f"{name}: {what}"] = column[len(known) :]
    return pd.DataFrame(sides[0]), pd.DataFrame(sides[1]), kinds


def _semantic(found: Counts, axes: int) -> Floats:
    """(texts, axes) places on the principal axes."""
    from scipy.sparse import csr_array

    rows = len(found)
    held = np.bincount(found.matrix.indices, minlength=len(found.terms))
    kept = np.flatnonzero((held >= 2) & (held < rows))
    if rows < 3 or len(kept) < 2:
        return np.zeros((rows, 0))
    matrix = csr_array(found.matrix[:, kept], dtype=np.float64)
    matrix.data = 1 + np.log(matrix.data)
    matrix.data *= (np.log((1 + rows) / (1 + held[kept])) + 1)[matrix.indices]
    of_row = np.repeat(np.arange(rows), np.diff(matrix.indptr))
    length = np.sqrt(np.bincount(of_row, matrix.data**2, minlength=rows))
    matrix.data /= length[of_row]
    left, size = _decomposed(matrix, min(axes, rows - 1, len(kept) - 1))
    real = size > _NOTHING * max(float(size.max(initial=0.0)), _NOTHING)
    left, size = left[:, real], size[real]
    # the sign of an axis is nobody's: the longer tail lies above
    sign = np.where(np.round((left**3).sum(axis=0), 9) < 0, -1.0, 1.0)
    return np.asarray(left * size * (sign * np.sqrt(rows) / size.max(initial=_NOTHING)))


def _decomposed(matrix: Any, axes: int) -> tuple[Floats, Floats]:
    """The leading left singular vectors and values of the centred rows, the largest first."""
    from scipy.sparse.linalg import LinearOperator, svds

    centre = np.asarray(matrix.mean(axis=0)).ravel()
    if float((matrix.data**2).sum()) - matrix.shape[0] * float(centre @ centre) < _NOTHING:
        return np.zeros((matrix.shape[0], 0)), np.zeros(0)  # all texts are alike
    if min(matrix.shape) <= _DENSE:
        left, size, _ = np.linalg.svd(matrix.toarray() - centre, full_matrices=False)
        return left[:, :axes], size[:axes]
    turned = matrix.T.tocsr()
    centred = LinearOperator(
        matrix.shape,
        matvec=lambda v: matrix @ v.ravel() - centre @ v.ravel(),
        rmatvec=lambda u: turned @ u.ravel() - centre * u.sum(),
        dtype=np.float64,
    )
    start = np.random.default_rng(0).normal(size=min(matrix.shape))
    left, size, _ = svds(centred, k=axes, v0=start)
    order = np.argsort(-size, kind="stable")
    return left[:, order], size[order]
