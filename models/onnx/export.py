"""From a fitted model to bytes of ONNX that are proven to answer alike, or the reason why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from models.encoding import Encoded, Encoder
from models.families import Fitted
from models.onnx import parity
from models.onnx.session import Session

logger = logging.getLogger(__name__)

LARGEST = 256 * 2**20  # bytes; beyond that a server would load for long and hold twice as much

_DRAWN_BY = {  # family: the module here that draws it
    "logistic": "linear",
    "hgb": "hgb",
    "forest": "forest",
    "mlp": "network",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """The session and bytes of a model that passed, or the reason why it has none.

    `difference` is the largest one of a probability on `rows` rows.
    """

    model: bytes = b""
    session: Session | None = None
    reason: str = ""
    rows_at_once: int = 0
    difference: float = 0.0
    rows: int = 0
    seconds: float = 0.0

    def note(self) -> dict[str, Any]:
        """What bundle.json says of it."""
        if self.session is None:
            return {"runtime": "native", "reason": self.reason}
        return {
            "runtime": "onnx",
            "reason": "",
            "rows_at_once": self.rows_at_once,
            "parity": {
                "difference": self.difference,
                "tolerance": parity.TOLERANCE,
                "rows": self.rows,
            },
        }


def export(fitted: Fitted, family: str, encoder: Encoder, k: int, recorded: Encoded) -> Exported:
    """The model in ONNX, checked on `recorded` rows. Never raises for a model that has no form."""
    began = time.perf_counter()
    if family not in _DRAWN_BY:
        return Exported(reason=f"the family {family} has no ONNX form")
    try:
        model, rows_at_once = drawn(fitted, family, encoder, k)
        if len(model) > LARGEST:
            return Exported(
                reason=f"its ONNX form may have {LARGEST >> 20} MiB, it has {len(model) >> 20}"
            )
        session = Session(model, rows_at_once)
        apart, rows = parity.difference(session, fitted, recorded, encoder.cardinality)
    except Exception as fault:  # a retrain must not fail because its model has no faster form
        logger.warning("no ONNX form of %s: %s: %s", family, type(fault).__name__, fault)
        return Exported(reason=f"its ONNX form could not be made: {type(fault).__name__}")
    if not apart <= parity.TOLERANCE:
        logger.warning("the ONNX form of %s answers otherwise by %.2g", family, apart)
        return Exported(
            reason=f"its ONNX form differs by {apart:.2g} in a probability of {rows} rows, "
            f"{parity.TOLERANCE:g} is allowed",
            difference=apart,
            rows=rows,
        )
    return Exported(model, session, "", rows_at_once, apart, rows, time.perf_counter() - began)


def drawn(fitted: Fitted, family: str, encoder: Encoder, k: int) -> tuple[bytes, int]:
    """(the model in ONNX, rows that a run may take), nothing checked."""
    from models.onnx.graph import Graph

    draw: Callable[[Fitted, Graph], str] = import_module(f"models.onnx.{_DRAWN_BY[family]}").draw
    graph = Graph(len(encoder.numbers), encoder.cardinality, k)
    model = graph.model(draw(fitted, graph))
    return model.SerializeToString(), graph.rows_at_once
