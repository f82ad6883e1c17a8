"""The text network: its batches, its parts, its file and its ONNX form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from models import families
from models.bundle import Predictor
from models.encoding import Encoded, Encoder
from models.errors import BundleFault
from models.families import TrainingData
from models.families.text_batches import Texts, batches, steps_of
from models.families.text_network import TextNet, log_ratios, runs
from models.onnx import export, int8, parity
from models.onnx.graph import Graph
from models.onnx.packed import rows as packed_rows
from models.onnx.session import Session
from models.schema import Column, Schema
from models.text.tokenizer import LENGTH, PAD, Tokenizer
from models.training import fit_bundle

TEXTNET = families.get("textnet")
QUICK = {**TEXTNET.default, "epochs": 4, "width": 16}


def mails(n: int = 240, *, k: int = 2, seed: int = 0) -> TrainingData:
    """Class 0 says 'not good', class 1 'not bad', class 2 'fine'; beside it numbers and codes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    filler = [f"word{i}" for i in range(60)]
    texts = np.empty((n, 1), dtype=object)
    for row, label in enumerate(y):
        words = list(rng.choice(filler, rng.integers(2, 30)))
        words[1:2] = [["not", "good"], ["NOT", "bad"], ["it's", "fine"]][label]
        texts[row, 0] = " ".join(words)
    numbers = rng.normal(size=(n, 2)).astype(np.float32)
    numbers[::7, 1] = np.nan
    return TrainingData(Encoded(numbers, rng.integers(0, 5, (n, 2)), texts), y, k, (5, 5))


def texts_alone(data: TrainingData) -> TrainingData:
    n = len(data)
    bare = Encoded(np.empty((n, 0), np.float32), np.empty((n, 0), np.int64), data.encoded.texts)
    return TrainingData(bare, data.y, data.k, ())


def test_flat_and_padded_texts_are_the_same() -> None:
    texts = Texts.of([[5, 6, 7], [], [8], [9, 9, 5, 6]])
    rows = torch.tensor([3, 1, 0])
    flat, lengths = texts.flat(rows)
    assert flat.tolist() == [9, 9, 5, 6, 5, 6, 7]
    assert lengths.tolist() == [4, 0, 3]
    assert texts.padded(rows).tolist() == [[9, 9, 5, 6], [PAD] * 4, [5, 6, 7, PAD]]
    for phrases in (1, 2, 3):
        padded = runs(texts.padded(torch.arange(4)), phrases, 10)
        found = texts.runs(phrases, 10)
        for row in range(4):
            expected = sorted(padded[row][padded[row] != PAD].tolist())
            assert sorted(found.flat(torch.tensor([row]))[0].tolist()) == expected
    assert Texts.of([[], []]).padded(torch.arange(2)).tolist() == [[PAD], [PAD]]
    assert not len(Texts.of([[]]).runs(3, 10).ids)


@pytest.mark.parametrize("deep", ["bag", "conv"])
def test_without_padding_the_network_is_the_same(deep: str) -> None:
    data = texts_alone(mails())
    net = TEXTNET.fit(data, {**QUICK, "deep": deep}, seed=0).net
    texts = Texts.of([[5, 6, 7], [], [8], [9, 9, 5, 6], []])
    every = torch.arange(5)
    flat, padded = net.pooled_flat(*texts.flat(every)), net.pooled(texts.padded(every))
    np.testing.assert_allclose(flat.numpy(), padded.numpy(), atol=1e-6)
    wide = texts.runs(2, net.shape.vocabulary)
    of_runs = net.bag(runs(texts.padded(every), 2, net.shape.vocabulary))
    found = net.bag_flat(*wide.flat(every), wide.lengths)
    np.testing.assert_allclose(found.numpy(), of_runs.numpy(), atol=1e-6)


@pytest.mark.parametrize("bucketed", [False, True])
def test_an_epoch_has_every_text_once_and_buckets_pad_little(bucketed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 300, (1_000,), generator=generator)
    parts = list(batches(lengths, 16, generator, bucketed=bucketed))
    assert sorted(torch.cat(parts).tolist()) == list(range(1_000))
    assert len(parts) == steps_of(1_000, 16, bucketed=bucketed)
    places = sum(int(lengths[part].max()) * len(part) for part in parts)
    assert (places < 1.1 * int(lengths.sum())) == bucketed


def test_the_ratio_counts_a_text_once() -> None:
    flat, owner = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 2])
    found = log_ratios(flat, owner, torch.tensor([1, 0, 1]), 3, 2)
    seen = np.array([[0, 2], [1, 1]]) + 1.0  # texts of class 0 and 1 with rows 0 and 1
    rates = seen / (seen.sum(0) + 1)  # the third row has one of each by smoothing alone
    np.testing.assert_allclose(found[:2, 1], np.log(rates[:, 1] / rates[:, 0]), atol=1e-6)
    assert found[2].tolist() == [0, 0]


@pytest.mark.parametrize("deep", ["none", "bag", "conv", "attention"])
@pytest.mark.parametrize("k", [2, 3])
def test_it_learns_phrases_and_its_onnx_form_answers_alike(deep: str, k: int) -> None:
    data, fresh = mails(k=k), mails(k=k, seed=1)
    fitted = TEXTNET.fit(data, {**QUICK, "deep": deep, "phrases": k}, seed=0)
    proba = fitted.predict_proba(fresh.encoded)
    assert (proba.argmax(1) == fresh.y).mean() > 0.95
    form = export.drawn(fitted, "textnet", 2, data.cardinality, k)
    apart, rows = parity.difference(form.session, fitted, fresh.encoded, data.cardinality)
    assert rows == 480
    assert apart < 1e-6
    hard = np.array([[""], ["one"], ["not " * 2_000], ["\ud800 \x00"]], dtype=object)
    strange = Encoded(fresh.encoded.numbers[:4], fresh.encoded.codes[:4], hard)
    np.testing.assert_allclose(
        form.session.predict_proba(strange), fitted.predict_proba(strange), atol=1e-6
    )


@pytest.mark.parametrize("deep", ["none", "attention"])
def test_texts_alone(deep: str, tmp_path: Path) -> None:
    data = texts_alone(mails())
    fitted = TEXTNET.fit(data, {**QUICK, "deep": deep}, seed=0)
    form = export.drawn(fitted, "textnet", 0, (), 2)
    fitted.save(tmp_path)
    expected = fitted.predict_proba(data.encoded)
    assert (expected.argmax(1) == data.y).mean() > 0.95
    for other in (form.session, TEXTNET.load(tmp_path)):
        np.testing.assert_allclose(other.predict_proba(data.encoded), expected, atol=1e-6)


def test_of_a_hashed_table_the_rows_that_were_learnt_are_kept_alone() -> None:
    data = texts_alone(mails())
    fitted = TEXTNET.fit(data, {**QUICK, "deep": "none"}, seed=0)
    form = export.drawn(fitted, "textnet", 0, (), 2)
    table = fitted.net.arrays()["wide"]
    learnt = int(table.any(axis=1).sum())
    assert len(form.model) < 40 * learnt + 20_000 < table.nbytes / 4
    expected = fitted.predict_proba(data.encoded)
    np.testing.assert_allclose(form.session.predict_proba(data.encoded), expected, atol=1e-6)
    for how in ("weights", "halves"):
        packed = int8.quantised(form.model, again(fitted, form), data.encoded, hows=(how,))
        assert len(packed.model) < 0.75 * len(form.model)
        assert 0 < packed.figures.largest < int8.TOLERANCE

    full = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    assert kept_whole(full)
    full[60:] = 0.0
    assert not kept_whole(full)


def again(fitted, form):
    return lambda model: Session(model, form.rows_at_once, fitted.tokens)


def kept_whole(table: np.ndarray) -> bool:
    """Whether a table is in the graph as it is; what the graph makes of it is the table."""
    graph = Graph(0, (), 2)
    name = packed_rows(table, graph)
    model = graph.model(graph.cast(name, np.float64))
    got = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})[0]
    np.testing.assert_array_equal(got, table)
    return len(model.graph.node) == 2


def test_pieces_read_words_that_training_did_not_show() -> None:
    data = texts_alone(mails())
    strange = data.encoded.texts.copy()
    for row, (text,) in enumerate(strange):
        strange[row, 0] = text.replace("good", "goodly").replace("bad", "badly")
    unseen = Encoded(data.encoded.numbers, data.encoded.codes, strange)
    scores = []
    for unit in ("words", "pieces"):
        fitted = TEXTNET.fit(data, {**QUICK, "unit": unit, "vocabulary": 2_000}, seed=0)
        scores.append((fitted.predict_proba(unseen).argmax(1) == data.y).mean())
    assert scores[1] > 0.9 > scores[0]


def test_case_is_kept_where_it_should_be_and_texts_have_a_longest() -> None:
    kept, folded = (Tokenizer.fit(["Not not NOT"] * 3, "words", 99, case=c) for c in (True, False))
    assert len(set(kept.ids(["Not not NOT"])[0])) == 3
    assert len(set(folded.ids(["Not not NOT"])[0])) == 1
    assert len(folded.ids(["not " * 5_000])[0]) == LENGTH


def test_a_network_can_be_rebuilt_from_its_arrays() -> None:
    data = mails()
    net = TEXTNET.fit(data, QUICK, seed=0).net
    arrays = net.arrays()
    half = {**arrays, "mix": arrays["mix"][:8], "mix_bias": arrays["mix_bias"][:8]}
    half["head"] = np.delete(arrays["head"], range(8, 16), axis=1)
    tokens = torch.randint(0, 9, (5, 7))
    numbers, codes = torch.zeros(5, 2), torch.zeros(5, 2, dtype=torch.int64)
    same = TextNet.restored(net.shape, arrays)
    assert torch.equal(same(tokens, numbers, codes), net(tokens, numbers, codes))
    assert TextNet.restored(net.shape, half)(tokens, numbers, codes).shape == (5, 2)


def test_a_bundle_is_served_without_torch(tmp_path: Path) -> None:
    data = mails()
    texts = [row[0] for row in data.encoded.texts]
    frame = pd.DataFrame({"body": texts, "size": data.encoded.numbers[:, 0], "spam": data.y})
    schema = Schema((Column("body", "text"), Column("size", "number")), "spam", (0, 1))
    own = {f"textnet.{name}": value for name, value in QUICK.items()}
    fit_bundle(frame, schema, {"family": "textnet", **own}, folder=tmp_path / "b", seed=0)
    predictor = Predictor.load(tmp_path / "b")
    assert predictor.runtime == "onnx", predictor.reason
    predictor.self_check()
    native = Predictor.load(tmp_path / "b", native=True)
    native.self_check()
    code = (
        "import sys; from models.bundle import Predictor\n"
        f"predictor = Predictor.load({str(tmp_path / 'b')!r})\n"
        "predictor.self_check()\n"
        "predictor.predict_proba({'body': ['not good', None], 'size': [1.0, None]})\n"
        "assert not {'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    (tmp_path / "b" / "tokenizer.json").unlink()
    with pytest.raises(BundleFault, match=r"tokenizer\.json differs"):
        Predictor.load(tmp_path / "b")


@pytest.mark.parametrize("name", ["model.json", "model.npz", "tokenizer.json"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    data = texts_alone(mails(60))
    TEXTNET.fit(data, {**QUICK, "epochs": 1, "deep": "none"}, seed=0).save(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(BundleFault, match="train the model anew"):
        TEXTNET.load(tmp_path)


def test_an_encoder_gives_what_the_network_reads() -> None:
    encoder = Encoder((), {}, (), ("body", "subject"))
    encoded = encoder.transform({"body": ["not good"], "subject": ["hello"]})
    data = texts_alone(mails())
    fitted = TEXTNET.fit(data, QUICK, seed=0)
    joined = Encoded(encoded.numbers, encoded.codes, np.array([["not good\nhello"]], dtype=object))
    np.testing.assert_array_equal(fitted.predict_proba(encoded), fitted.predict_proba(joined))
