"""A model's ONNX form in int8: a quarter of the bytes, and where it pays, sums of whole numbers.

What a row is answered with never depends on its batch: activations, where they are whole numbers as
well, have a scale for each row, found while answering.

An answer in int8 differs from the model's, and by how much is measured on recorded rows, never
assumed: see `Figures`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from models.encoding import Encoded
from models.onnx.export import NoForm
from models.onnx.int8_graph import LEAST, How, rewritten
from models.onnx.parity import Answers

TOLERANCE = 0.02  # of a probability, of any recorded row

ROWS = 4_096  # recorded rows that are looked at, at most
_BATCH = 33  # rows of the batch that forms are timed with, beside a single one
_TURNS = 15
_WORTH = 0.95  # of the first form's time is what the second may take at most to be the one chosen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """How a form in int8 differs from the float form on `rows` recorded rows, and what it takes.

    `largest` and `mean` are differences of a probability, `changed` the share of rows with another
    most probable class; times in microseconds, of one row and of a batch of 33.
    """

    how: How
    rows: int
    largest: float
    mean: float
    changed: float
    bytes: int
    float_bytes: int
    one_us: float
    batch_us: float
    float_one_us: float
    float_batch_us: float

    def note(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Quantised:
    """A model in int8 that answers within the tolerance, a session of it, and its figures."""

    model: bytes
    session: Answers
    figures: Figures


def quantised(
    model: bytes,
    opened: Callable[[bytes], Answers],
    recorded: Encoded,
    tolerance: float = TOLERANCE,
    *,
    hows: Sequence[How] = (),
    most: int = ROWS,
    share: float = 1.0,
) -> Quantised:
    """The quicker of the int8 forms of a model whose probabilities differ by at most `tolerance` on
    `recorded` rows from its own; `opened` gives what answers by a model. Of
    the rows `most` are looked at; where these are few, a form may take but a `share` of the
    tolerance on them, since others will differ by more.

    Raises NoForm for a model without layers of weights, or if no form is within the tolerance.
    """
    rows = recorded.take(np.unique(np.linspace(0, len(recorded) - 1, most).astype(np.int64)))
    floats = opened(model)
    expected = floats.predict_proba(rows)
    made: list[Quantised] = []
    refused = []
    for how in hows or ("weights", "sums", "groups", "halves"):
        if how in ("groups", "halves") and made:  # larger: for what the others change too much
            continue
        packed = rewritten(model, how)
        if packed is None:
            continue
        session = opened(packed)
        got = session.predict_proba(rows)
        apart = np.abs(got - expected)
        apart[~np.isfinite(got)] = np.inf
        figures = Figures(
            how=how,
            rows=len(rows),
            largest=float(apart.max()),
            mean=float(apart.mean()),
            changed=float((got.argmax(1) != expected.argmax(1)).mean()),
            bytes=len(packed),
            float_bytes=len(model),
            **_times("", session, rows),
            **_times("float_", floats, rows),
        )
        logger.debug("int8 by %s: %s", how, figures)
        if figures.largest <= tolerance * share:
            made.append(Quantised(packed, session, figures))
        else:
            refused.append(figures.largest)
    if made:
        return min(made, key=lambda each: _cost(each, made[0]))
    if refused:
        few = f" on so few, of {tolerance:g} on any" if share < 1 else ""
        raise NoForm(
            f"its int8 form differs by {min(refused):.2g} in a probability of {len(rows)} rows, "
            f"{tolerance * share:g} is allowed{few}"
        )
    raise NoForm(f"it has no layer of {LEAST} or more weights, which are what int8 makes smaller")


def is_packed(model: bytes) -> bool:
    """Whether a model has weights in int8 already."""
    constants = ModelProto.FromString(model).graph.initializer
    return any(constant.data_type == TensorProto.INT8 for constant in constants)


def _cost(each: Quantised, first: Quantised) -> float:
    """Time relative to the first form's, which is the more exact one and wins where it is close."""
    one = each.figures.one_us / first.figures.one_us
    batch = each.figures.batch_us / first.figures.batch_us
    return float(np.sqrt(one * batch)) / (1.0 if each is first else _WORTH)


def _times(which: str, session: Answers, rows: Encoded) -> dict[str, float]:
    one, batch = (_microseconds(session, rows.take(slice(0, n))) for n in (1, _BATCH))
    return {f"{which}one_us": one, f"{which}batch_us": batch}


def _microseconds(session: Answers, rows: Encoded) -> float:
    """The quickest of some answers."""
    taken = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        session.predict_proba(rows)
        taken.append(time.perf_counter() - began)
    return 1e6 * min(taken)
