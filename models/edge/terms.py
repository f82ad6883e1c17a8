"""`tfidf` in ONNX: of a row's terms, by their places, and how often each occurs.

In everfit the model answers in NumPy, which is as quick; elsewhere one file that any runtime reads
is worth more. Cutting a text into terms is left to a script, which the export brings with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from models.edge.portable import Portable
from models.encoding import Encoded, Encoder
from models.families.tfidf_fitted import FittedTfidf
from models.onnx import linear
from models.onnx.graph import Graph
from models.text import tokens
from models.text.counts import Vocabulary
from models.text.tokens import texts_of

TERMS, COUNTS = "terms", "counts"  # int64 and float32 (n, L), filled with `len(vocabulary)` and 1
_SCRIPT = Path(__file__).parent / "scripts" / "cutting_terms.py"
_TINY = 1e-300  # instead of the length of a row without a term


def portable(fitted: FittedTfidf, encoder: Encoder) -> Portable:
    """The model, and terms.json with cutting.py beside it."""
    model = drawn(fitted, len(encoder.numbers), encoder.cardinality)
    return Portable(model, lambda form: Counting(form, fitted), files(fitted, encoder))


def files(fitted: FittedTfidf, encoder: Encoder, script: str = "cutting.py") -> dict[str, str]:
    """What cuts texts into terms, by name of the file."""
    recipe = fitted.vocabulary.recipe
    words = recipe.cut == "words"
    cut = {
        "texts": list(encoder.texts),
        "characters": tokens.CHARACTERS,
        "pattern": (tokens._WORDS if words else tokens._MARKS).pattern,
        "lower": recipe.cut != "case",
        "longest": tokens.LONGEST,
        "words": recipe.words,
        "letters": recipe.letters,
        "terms": list(fitted.vocabulary.terms),
    }
    return {
        "terms.json": json.dumps(cut),  # ASCII, since a term may hold half a surrogate pair
        script: _SCRIPT.read_text(encoding="utf-8"),
    }


def drawn(fitted: FittedTfidf, numbers: int, cards: tuple[int, ...]) -> bytes:
    """The model in ONNX, of bags of terms beside numbers and codes."""
    graph = Graph(numbers, cards, fitted.k)
    scores = graph.node("Add", of_terms(fitted, graph), beside(fitted, graph))
    return whole(scores, fitted, graph, inputs())


def inputs() -> list[ValueInfoProto]:
    """A graph's inputs of terms."""
    shape = ["rows", "terms"]
    return [
        helper.make_tensor_value_info(TERMS, TensorProto.INT64, shape),
        helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, shape),
    ]


def whole(scores: str, fitted: FittedTfidf, graph: Graph, more: Sequence[ValueInfoProto]) -> bytes:
    """The graph with the probabilities of `scores` (n, r) as its answer."""
    if fitted.each:
        powers = graph.node("Max", graph.node("Sigmoid", scores), graph.constant(1e-12))
        last = graph.constant(np.array([1], dtype=np.int64))
        proba = graph.node("Div", powers, graph.node("ReduceSum", powers, last, keepdims=1))
    elif len(fitted.intercept) == 1:
        proba = graph.two(graph.node("Sigmoid", scores))
    else:
        proba = graph.node("Softmax", scores, axis=1)
    return bytes(graph.model(graph.spread(proba, fitted.present), more).SerializeToString())


def of_terms(fitted: FittedTfidf, graph: Graph) -> str:
    """Sums over each row's terms (n, r); the place after the last term is of none, and counts 0."""
    weighting = fitted.weighting
    idf = np.append(weighting.idf, 0.0).astype(np.float32)
    values = graph.cast(graph.node("Gather", graph.constant(idf), TERMS, axis=0), np.float64)
    if weighting.kind != "presence":
        times = graph.cast(COUNTS, np.float64)
        if weighting.kind == "log":
            times = graph.node("Add", graph.node("Log", times), graph.constant(np.float64(1)))
        values = graph.node("Mul", values, times)
    axis = graph.constant(np.array([1], dtype=np.int64))
    square = graph.node("ReduceSum", graph.node("Mul", values, values), axis, keepdims=1)
    length = graph.node("Max", graph.node("Sqrt", square), graph.constant(np.float64(_TINY)))
    table = np.vstack([fitted.terms, np.zeros_like(fitted.terms[:1])])
    rows = graph.cast(graph.node("Gather", graph.constant(table), TERMS, axis=0), np.float64)
    each = graph.node("Unsqueeze", values, graph.constant(np.array([2], dtype=np.int64)))
    summed = graph.node("ReduceSum", graph.node("Mul", rows, each), axis, keepdims=0)
    return graph.node("Div", summed, length)


def beside(fitted: FittedTfidf, graph: Graph) -> str:
    """Scores of the other columns: (n, r), or (r,) where there are none."""
    return linear.scores(fitted.coef, fitted.intercept, fitted.design, graph)


class Counting:
    """Answers by the ONNX form, with texts cut as the model cuts them."""

    def __init__(self, model: bytes, fitted: FittedTfidf) -> None:
        self._fitted = fitted
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        """Probabilities (n, k)."""
        feed: dict[str, Any] = {
            "numbers": encoded.numbers,
            "codes": encoded.codes,
            **bags(self._fitted.vocabulary, texts_of(encoded)),
        }
        given = {name: value for name, value in feed.items() if name in self._inputs}
        result: NDArray[np.float64] = self._session.run(None, given)[0]
        return result


def bags(vocabulary: Vocabulary, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The inputs of terms: the places of each text's, and how often each occurs."""
    found = [vocabulary.bag(text) for text in texts]
    width = max(1, *(len(places) for places, _ in found))
    terms = np.full((len(found), width), len(vocabulary), dtype=np.int64)
    counts = np.ones((len(found), width), dtype=np.float32)
    for row, (places, times) in enumerate(found):
        terms[row, : len(places)], counts[row, : len(places)] = places, times
    return {TERMS: terms, COUNTS: counts}
