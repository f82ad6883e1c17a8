"""`sentence` in ONNX: the encoder, and the head that reads its vectors beside terms and columns.

They are two graphs. A retrain changes the head alone, some hundred kilobytes, and a machine keeps
the encoder's 90 MB (23 in int8) of the version before; and the encoder is run on texts of about one
length, so that little of its work is padding and its memory is bounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.edge import terms
from models.edge.portable import PACKAGES, Portable
from models.encoding import Encoded, Encoder
from models.families.sentence import FittedSentence
from models.onnx.graph import Graph
from models.onnx.int8_graph import How
from models.text import sentences, tokenizer, tokens
from models.text.tokens import texts_of

ENCODER, VECTORS = "encoder.onnx", "vectors"  # float32 (n, width), each of length 1
_SCRIPT = Path(__file__).parent / "scripts" / "cutting_vectors.py"
_ROWS = 256  # that forms of the encoder are compared on: each takes as long as 100 of other models
_HOWS: tuple[How, ...] = ("groups", "sums")  # groups: 3 % larger than one scale, and twice as exact
_SHARE = 0.5  # of the tolerance: of 600 rows the largest difference was up to twice that of 256


def portable(fitted: FittedSentence, encoder: Encoder) -> Portable:
    """The head as the model, and beside it the encoder and what cuts texts for it."""
    how = {
        "texts": list(encoder.texts),
        "characters": tokens.CHARACTERS,
        "encoder": ENCODER,
        "width": fitted.encoder.width,
        "tokens": sentences.TOKENS,
        "terms": bool(len(fitted.terms.vocabulary)),
    }
    files: dict[str, str | bytes] = {
        ENCODER: fitted.encoder.graph(),
        tokenizer.FILE: fitted.encoder.tokenizer(),
        "vectors.json": json.dumps(how),
        "cutting.py": _SCRIPT.read_text(encoding="utf-8"),
    }
    if how["terms"]:
        files |= terms.files(fitted.terms, encoder, "cutting_terms.py")
    model = drawn(fitted, len(encoder.numbers), encoder.cardinality)
    return Portable(
        model,
        lambda form: Reading(model, form, fitted),
        files,
        (*PACKAGES, "tokenizers"),
        weights=ENCODER,
        rows=_ROWS,
        share=_SHARE,
        hows=_HOWS,
        notes={"encoder": fitted.encoder.digest},
    )


def drawn(fitted: FittedSentence, numbers: int, cards: tuple[int, ...]) -> bytes:
    """The head in ONNX, of vectors beside bags of terms, numbers and codes."""
    own = fitted.terms
    graph = Graph(numbers, cards, own.k)
    product = graph.node("MatMul", graph.cast(VECTORS, np.float64), graph.constant(fitted.head))
    scores = graph.node("Add", product, terms.beside(own, graph))
    shape = ["rows", fitted.encoder.width]
    more = [helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, shape)]
    if len(own.vocabulary):
        scores = graph.node("Add", scores, terms.of_terms(own, graph))
        more += terms.inputs()
    return terms.whole(scores, own, graph, more)


class Reading:
    """Answers by the head, of the vectors of a form of the encoder."""

    def __init__(self, model: bytes, encoder: bytes, fitted: FittedSentence) -> None:
        self._vocabulary = fitted.terms.vocabulary
        self._encoder = fitted.encoder.read_by(encoder)
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k); vectors are computed anew, so that it can be timed."""
        texts = texts_of(encoded)
        feed: dict[str, Any] = {
            "numbers": encoded.numbers,
            "codes": encoded.codes,
            VECTORS: np.stack(self._encoder.computed(texts)),
            **terms.bags(self._vocabulary, texts),
        }
        given = {name: value for name, value in feed.items() if name in self._inputs}
        result: NDArray[np.float64] = self._session.run(None, given)[0]
        return result
