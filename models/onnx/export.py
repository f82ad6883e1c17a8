"""From a fitted model to bytes of ONNX that are proven to answer alike, or the reason why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from models.encoding import Encoded, Encoder
from models.errors import ModelError
from models.families import Fitted, TrainingData
from models.onnx import parity
from models.onnx.session import Session

logger = logging.getLogger(__name__)

LARGEST = 64 * 2**20  # bytes, some 1.5 million nodes of trees: beyond, loading takes over 5 s

_DRAWN_BY = {  # family: the module here that draws it
    "logistic": "linear",
    "hgb": "hgb",
    "forest": "forest",
    "mlp": "network",
    "textnet": "text",
    "custom": "custom",
}

_OTHERWISE = {  # family: how it answers without a form, and why it has none
    "tfidf": "it answers in NumPy, which is as quick as ONNX Runtime",
    "sentence": "it answers in NumPy, with vectors of a local encoder by ONNX Runtime",
}

_SLOWER = 3.0  # times the native answer to one row: then the native one is served
_TIMED = 5  # answers, of which the fastest counts


class NoForm(ModelError):
    """A model that has no ONNX form; the message says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """A model in ONNX, and a session that answers from it."""

    model: bytes
    session: Session
    rows_at_once: int


@dataclass(frozen=True, slots=True)
class Exported:
    """The form of a model that passed, or the reason why it has none.

    `difference` is the largest one of a probability on `rows` rows.
    """

    form: Form | None = None
    difference: float = 0.0
    rows: int = 0
    reason: str = ""

    def note(self) -> dict[str, Any]:
        """What bundle.json says of it."""
        if self.form is None:
            return {"runtime": "native", "reason": self.reason}
        return {
            "runtime": "onnx",
            "reason": "",
            "rows_at_once": self.form.rows_at_once,
            "parity": {
                "difference": self.difference,
                "tolerance": parity.TOLERANCE,
                "rows": self.rows,
            },
        }


def export(fitted: Fitted, family: str, encoder: Encoder, k: int, recorded: Encoded) -> Exported:
    """The model in ONNX, proven on `recorded` rows. Never raises: there is a reason instead."""
    try:
        return _proven(fitted, family, encoder, k, recorded)
    except NoForm as fault:
        logger.info("%s serves natively: %s", family, fault)
        return Exported(reason=str(fault))
    except Exception as fault:  # a retrain must not fail because its model has no faster form
        logger.warning("no ONNX form of %s: %s: %s", family, type(fault).__name__, fault)
        return Exported(reason=f"its ONNX form could not be made: {type(fault).__name__}")


def _proven(fitted: Fitted, family: str, encoder: Encoder, k: int, recorded: Encoded) -> Exported:
    """The model in ONNX. Raises NoForm if it answers otherwise than the model, or slower."""
    form = drawn(fitted, family, len(encoder.numbers), encoder.cardinality, k)
    session = form.session
    apart, rows = parity.difference(session, fitted, recorded, encoder.cardinality)
    if not apart <= parity.TOLERANCE:
        raise NoForm(
            f"its ONNX form differs by {apart:.2g} in a probability of {rows} rows, "
            f"{parity.TOLERANCE:g} is allowed"
        )
    single = recorded.take(slice(0, 1))
    taken, natively = _milliseconds(session, single), _milliseconds(fitted, single)
    if taken > _SLOWER * natively:
        raise NoForm(
            f"its ONNX form takes {taken:.2g} ms for a row, the model itself {natively:.2g}"
        )
    return Exported(form, apart, rows)


def drawn(fitted: Fitted, family: str, numbers: int, cards: Sequence[int], k: int) -> Form:
    """The model in ONNX, of `numbers` columns of numbers, `cards` codes per category column and
    `k` classes; nothing is checked. Raises NoForm, or whatever a library raises."""
    from models.onnx.graph import Graph

    if family not in _DRAWN_BY:
        raise NoForm(_OTHERWISE.get(family, f"the family {family} has no ONNX form"))
    room = import_module(f"models.onnx.{_DRAWN_BY[family]}")
    draw: Callable[[Fitted, Graph], str] = room.draw
    graph = Graph(numbers, cards, k)
    model = graph.model(draw(fitted, graph), getattr(room, "INPUTS", ())).SerializeToString()
    if len(model) > LARGEST:
        raise NoForm(f"its ONNX form may have {LARGEST >> 20} MiB, it has {len(model) >> 20}")
    session = Session(model, graph.rows_at_once, getattr(fitted, "tokens", None))
    return Form(model, session, graph.rows_at_once)


def form(fitted: Fitted, family: str, data: TrainingData) -> Form | None:
    """What a bundle of the model would serve, to be measured; None if that is the model itself."""
    numbers = data.encoded.numbers.shape[1]
    try:
        return drawn(fitted, family, numbers, data.cardinality, data.k)
    except Exception as fault:  # as in `export`: it serves natively
        logger.debug("no ONNX form of %s: %s", family, fault)
        return None


def _milliseconds(model: parity.Answers, single: Encoded) -> float:
    """The fastest of a few answers to one row."""
    taken = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        model.predict_proba(single)
        taken.append(time.perf_counter() - began)
    return 1_000 * min(taken)
