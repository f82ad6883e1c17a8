"""The linear family of text: scikit-learn's pipeline is one point of its space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from models import families
from models.encoding import Encoded
from models.errors import BundleFault, DataFault
from models.families import TrainingData
from models.families.tfidf import log_ratio
from models.text.counts import Recipe, Vocabulary
from models.text.memo import remembered
from models.text.tokens import CHARACTERS, LONGEST, cutter, object_column, texts_of

PLAIN = {
    "cut": "words",
    "words": 1,
    "letters": 0,
    "least": 1,
    "weights": "tfidf",
    "ratio": "none",
    "C": 1.0,
    "class_weight": "none",
}


def encoded(texts: list[str]) -> Encoded:
    n = len(texts)
    return Encoded(
        np.empty((n, 0), dtype=np.float32), np.empty((n, 0), np.int64), object_column(texts)
    )


def reviews(n: int = 300, *, k: int = 2, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Labels that hang on a pair of words: 'not good' is of class 0, 'not bad' of class 1."""
    rng = np.random.default_rng(seed)
    filler = [f"word{i}" for i in range(200)]
    y = rng.integers(0, k, n)
    texts = []
    for label in y:
        words = list(rng.choice(filler, 12))
        pair = [["not", "good"], ["not", "bad"], ["it's", "fine"]][label]
        words[5:7] = pair
        words[0] = ["bad", "good", "fine"][label] if rng.random() < 0.3 else words[0]
        texts.append(" ".join(words))
    return texts, y


def table(texts: list[str], y: np.ndarray, k: int = 2) -> TrainingData:
    return TrainingData(encoded(texts), y.astype(np.int64), k, ())


@pytest.mark.parametrize("k", [2, 3])
def test_its_plainest_point_is_scikit_learns_pipeline(k: int) -> None:
    texts, y = reviews(k=k)
    fresh = [*reviews(50, k=k, seed=1)[0], "", "Wörter ABC. good good GOOD"]
    fitted = families.get("tfidf").fit(table(texts, y, k), PLAIN, seed=0)
    peer = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y)
    np.testing.assert_allclose(
        fitted.predict_proba(encoded(fresh)), peer.predict_proba(fresh), atol=2e-4
    )


@pytest.mark.parametrize("k", [2, 3])
def test_pairs_of_words_and_the_ratio_learn_what_single_words_cannot(k: int) -> None:
    texts, y = reviews(k=k)
    fresh, truth = reviews(300, k=k, seed=1)
    family = families.get("tfidf")

    def accuracy(params: dict) -> float:
        proba = family.fit(table(texts, y, k), params, seed=0).predict_proba(encoded(fresh))
        return float((proba.argmax(1) == truth).mean())

    assert accuracy({**PLAIN, "cut": "marks"}) < 0.92
    assert accuracy(dict(family.default)) > 0.97


def test_the_ratio_is_that_of_the_paper() -> None:
    vocabulary = Vocabulary.fit(["a b", "a", "b c"], Recipe("marks"))
    counts = vocabulary.counts(["a b", "a", "b c"])
    p, q = np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 2.0])  # with one added
    expected = np.log(p / p.sum()) - np.log(q / q.sum())
    np.testing.assert_allclose(log_ratio(counts, np.array([True, True, False])), expected)


def test_letters_recognise_a_misspelt_word() -> None:
    texts, y = reviews()
    swapped = [text.replace("good", "gooood").replace("bad", "baad") for text in texts]
    family = families.get("tfidf")
    scores = []
    for letters in (0, 4):
        fitted = family.fit(table(texts, y), {**PLAIN, "letters": letters, "words": 1}, seed=0)
        scores.append((fitted.predict_proba(encoded(swapped)).argmax(1) == y).mean())
    assert scores[1] > scores[0] + 0.1


def test_a_text_is_read_up_to_a_length_and_so_is_a_word() -> None:
    vocabulary = Vocabulary.fit(["x" * 5_000], Recipe("words", 1, 5))
    assert max(map(len, vocabulary.terms)) == LONGEST
    both = Encoded(
        np.empty((1, 0), np.float32),
        np.empty((1, 0), np.int64),
        np.array([["a", "b" * 2 * CHARACTERS]], dtype=object),
    )
    (text,) = texts_of(both)
    assert text.startswith("a\nbbb")
    assert len(text) == CHARACTERS
    with pytest.raises(DataFault, match="needs a text column, got none"):
        texts_of(Encoded(both.numbers, both.codes))


def test_terms_are_the_same_one_by_one_and_counted() -> None:
    texts, _ = reviews(40)
    vocabulary = Vocabulary.fit(texts, Recipe("case", 3, 4, 2))
    rows = vocabulary.counts(texts).toarray()
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(
            np.bincount(vocabulary.places(text), minlength=len(vocabulary)), row
        )
    assert (rows.astype(bool).sum(0) >= 2).all()
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.places(texts[0]) == vocabulary.places(texts[0])
    assert cutter("case")("It's 5 o\u2019clock!") == ["It's", "5", "o\u2019clock", "!"]


def test_what_trials_share_is_made_once_and_forgotten_with_its_owner() -> None:
    made: list[int] = []
    owner = np.empty(1, dtype=object)
    for _ in range(3):
        remembered(owner, "key", lambda: made.append(1))
    assert len(made) == 1
    del owner
    remembered(np.empty(1, dtype=object), "key", lambda: made.append(1))
    assert len(made) == 2


def test_it_answers_without_scikit_learn_and_scipy(tmp_path: Path) -> None:
    texts, y = reviews(60)
    fitted = families.get("tfidf").fit(table(texts, y), families.get("tfidf").default, seed=0)
    fitted.save(tmp_path)
    code = (
        "import sys; import numpy as np; from pathlib import Path; from models import families\n"
        "from models.encoding import Encoded; from models.text.tokens import object_column\n"
        f"fitted = families.get('tfidf').load(Path({str(tmp_path)!r}))\n"
        "e = Encoded(np.empty((1, 0), np.float32), np.empty((1, 0), np.int64), "
        "object_column(['not good']))\n"
        "assert abs(fitted.predict_proba(e).sum() - 1) < 1e-9\n"
        "assert not {'sklearn', 'scipy', 'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("damage", ["json", "npz", "shape"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    texts, y = reviews(60)
    family = families.get("tfidf")
    family.fit(table(texts, y), family.default, seed=0).save(tmp_path)
    if damage == "json":
        (tmp_path / "model.json").write_text("{}")
    elif damage == "npz":
        (tmp_path / "model.npz").write_bytes(b"PK\x03\x04 nothing")
    else:
        with np.load(tmp_path / "model.npz") as arrays:
            changed = {**arrays, "idf": arrays["idf"][:-1]}
        np.savez(tmp_path / "model.npz", **changed)
    with pytest.raises(BundleFault, match="holds no tfidf model that can be read"):
        family.load(tmp_path)
