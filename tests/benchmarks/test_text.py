"""The text benchmark: what its tables say, and that both loops train one network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from models import families
from models.families.text_batches import Texts
from models.families.text_network import Shape, log_ratios, made
from models.families.text_training import Rows, Terms
from models.schema import Column, Schema
from models.training import prepare
from tests.benchmarks.text import accuracy, corpora, speed
from tests.benchmarks.text.accuracy import Scores


def corpus(n: int = 700) -> corpora.Corpus:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    words = [f"word{i}" for i in range(50)]
    texts = [
        " ".join([*rng.choice(words, 8), "not", "good" if label else "bad", *rng.choice(words, 8)])
        for label in y
    ]
    classes = ("no", "yes")
    frame = pd.DataFrame({"body": texts, "target": [classes[label] for label in y]})
    return corpora.Corpus("made up", frame, Schema((Column("body", "text"),), "target", classes))


def test_a_round_scores_rows_that_neither_search_nor_gate_has_seen() -> None:
    here = accuracy.Round(corpus(), 3)
    parts = (here.train, here.valid, here.gate, here.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(700))
    told = accuracy.run(corpus(300), 0, [("end to end", ["textnet"])], 1)
    assert [each.arm for each in told] == ["conventional", "end to end", "end to end, gated"]
    assert told[1].accuracy > 0.95
    assert told[1].family == "textnet"
    assert told[2].accuracy in {told[0].accuracy, told[1].accuracy}


def test_the_table_pairs_seeds() -> None:
    scores = [
        Scores("a", seed, arm, value, 0.5)
        for seed, pair in enumerate(((0.90, 0.94), (0.80, 0.86), (0.86, 0.85)))
        for arm, value in zip(("conventional", "found"), pair, strict=True)
    ]
    base, found = accuracy.table(scores)
    assert base["gain, points"] == ""
    assert str(found["gain, points"]).startswith("+3.00 ± 8.96")  # 2 standard errors by t of 2
    assert found["errors gone"] == "20 %"
    assert found["seeds below"] == 1


@pytest.mark.parametrize("deep", ["bag", "conv"])
def test_both_loops_train_the_same_network(deep: str) -> None:
    made_up = corpus(60)
    frame = made_up.frame
    data = prepare(frame, frame, made_up.schema).train
    params = {**families.get("textnet").default, "deep": deep}
    from models.families.textnet import tokenised

    tokenizer, ids = tokenised(data.encoded, params)
    shape = Shape(len(tokenizer), 2, deep, 32, 2)  # type: ignore[arg-type]
    texts = Texts.of(ids)
    runs = texts.runs(2, shape.vocabulary)
    terms = Terms.of(runs, shape.rows, 1)  # with every run kept, padded texts count as flat ones
    rows = Rows.of(data.encoded, texts, runs, terms)
    ratio = log_ratios(rows.wide.ids, rows.wide.owner, torch.from_numpy(data.y), len(terms.kept), 2)
    ours = made(data, shape, ratio, torch.Generator().manual_seed(1))
    padded = torch.cat([torch.zeros(1, 2), ratio])
    plain = made(data, shape, padded, torch.Generator().manual_seed(1))
    every = torch.arange(60)
    expected = ours.last(rows.hidden(ours, every, 0.0, None))
    dataset = speed._Lists(ids, rows.wide, torch.from_numpy(data.y))
    tokens, places, y = speed._padded([dataset[row] for row in range(60)])
    found = plain.last(plain.mixed([plain.pooled(tokens)], plain.bag(places)))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), atol=1e-5)
    assert y.tolist() == data.y.tolist()


def test_missing_data_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("EVERFIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set EVERFIT_DATA"):
        corpora.load("books")
