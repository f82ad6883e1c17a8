"""A form in int8 is a quarter of the size, answers within its tolerance, and alike in any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.encoding import Encoded
from models.families import TrainingData, get
from models.onnx import export, int8, int8_graph
from models.onnx.export import Form, NoForm
from models.onnx.session import Session


def table(n: int = 600, *, numbers: int = 6, cards: tuple[int, ...] = (9, 60)) -> TrainingData:
    """Numbers of very different ranges, with gaps and with outliers, and skewed categories."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, numbers)).astype(np.float32)
    x[:, 1] = np.exp(2 * x[:, 1])
    x[rng.random(x.shape) < 0.05] = np.nan
    ranks = [rng.geometric(min(0.9, 6 / card), n) % card for card in cards]
    codes = np.array(ranks, dtype=np.int64).reshape(len(cards), n).T.copy()
    score = 2 * np.nan_to_num(x[:, 0]) + 2 * np.sin(codes * 1.7).sum(axis=1)
    y = (score + rng.normal(size=n) > 0).astype(np.int64)
    return TrainingData(Encoded(x, codes), y, 2, cards)


def drawn(family: str, trained: TrainingData, **params: object) -> Form:
    made = get(family)
    fitted = made.fit(trained, {**made.default, **params}, seed=0)
    width = trained.encoded.numbers.shape[1]
    return export.drawn(fitted, family, width, trained.cardinality, trained.k)


def packed(
    form: Form, trained: TrainingData, tolerance: float = int8.TOLERANCE, **more: Any
) -> int8.Quantised:
    def opened(model: bytes) -> Session:
        return Session(model, form.rows_at_once)

    return int8.quantised(form.model, opened, trained.encoded, tolerance, **more)


@pytest.fixture(scope="module")
def wide() -> tuple[Form, TrainingData]:
    trained = table()
    return drawn("mlp", trained, width=128, depth=3, epochs=3), trained


@pytest.mark.parametrize("how", ["weights", "sums"])
def test_a_network_is_a_quarter_of_the_size_and_answers_nearly_alike(
    how: int8_graph.How, wide: tuple[Form, TrainingData]
) -> None:
    form, trained = wide
    made = packed(form, trained, hows=(how,))
    figures, answers = made.figures, made.session.predict_proba(trained.encoded)
    expected = form.session.predict_proba(trained.encoded)
    assert figures.largest == pytest.approx(np.abs(answers - expected).max())
    assert 0 < figures.mean < figures.largest < 0.01
    assert figures.changed <= 0.01
    assert len(made.model) == figures.bytes < 0.3 * figures.float_bytes
    assert (figures.rows, figures.how) == (len(trained), how)
    assert min(figures.one_us, figures.batch_us, figures.float_one_us, figures.float_batch_us) > 0
    onnx.checker.check_model(onnx.ModelProto.FromString(made.model))
    used = {node.op_type for node in onnx.ModelProto.FromString(made.model).graph.node}
    assert ("MatMulInteger" in used) == (how == "sums")
    for n in (1, 2, 33):  # what a row is answered with does not depend on the others
        part = made.session.predict_proba(trained.encoded.take(slice(7, 7 + n)))
        np.testing.assert_allclose(part, answers[7 : 7 + n], atol=1e-6)


def test_a_linear_model_keeps_its_small_parts_and_packs_its_long_tables() -> None:
    trained = table(1_500, cards=(400,))
    form = drawn("logistic", trained)
    made = packed(form, trained)
    assert made.figures.how == "weights"
    assert 0 < made.figures.largest <= int8.TOLERANCE
    kinds = {
        numpy_helper.to_array(constant).dtype
        for constant in onnx.ModelProto.FromString(made.model).graph.initializer
    }
    assert {np.dtype(np.int8), np.dtype(np.float64)} <= kinds


def test_nothing_is_given_that_differs_by_more_than_is_allowed(
    wide: tuple[Form, TrainingData],
) -> None:
    form, trained = wide
    with pytest.raises(NoForm, match=r"differs by .* 1e-05 is allowed"):
        packed(form, trained, 1e-5)
    with pytest.raises(NoForm, match=r"of 40 rows, 1e-05 is allowed on so few, of 2e-05 on any"):
        packed(form, trained, 2e-5, most=40, share=0.5)


def test_a_narrow_table_that_int8_changes_too_much_has_16_bits() -> None:
    trained = table(1_500, cards=(400,))
    form = drawn("logistic", trained)
    exact = packed(form, trained, 1e-3)
    assert (exact.figures.how, packed(form, trained).figures.how) == ("halves", "weights")
    assert exact.figures.largest <= 1e-3
    assert len(packed(form, trained).model) < len(exact.model) < 0.6 * len(form.model)


def test_trees_have_no_layer_to_pack() -> None:
    trained = table(300)
    with pytest.raises(NoForm, match="no layer of 256 or more weights"):
        packed(drawn("hgb", trained, max_iter=10), trained)


def test_a_large_weight_far_from_the_rest_only_costs_its_own_output(
    wide: tuple[Form, TrainingData],
) -> None:
    """One scale for a whole layer would leave nothing of the other outputs' weights."""
    form, trained = wide
    model = onnx.ModelProto.FromString(form.model)
    layers = [node for node in model.graph.node if node.op_type == "Gemm"]
    name = layers[1].input[1]
    for constant in model.graph.initializer:
        if constant.name == name:
            weights = numpy_helper.to_array(constant).copy()
            weights[5, 5] = 500.0
            constant.CopyFrom(numpy_helper.from_array(weights, name))
    spiked = model.SerializeToString()
    made = packed(replace(form, model=spiked), trained, 1.0, hows=("weights",))
    assert made.model == int8_graph.rewritten(spiked, "weights")
    assert int8.is_packed(made.model)
    assert not int8.is_packed(spiked)
    assert made.figures.mean < 0.01
