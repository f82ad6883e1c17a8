"""A tokenizer that is learnt from the texts and saved with the model, by the library `tokenizers`.

Everything is inside its file: lower case, what a word is, the vocabulary, the longest text. Ids are
0 for padding, 1 for what is unknown, from 2 the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleFault

# Batches of texts come from threads that have one core each; the library's own would compete.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PAD, UNKNOWN = 0, 1
LENGTH = 512  # tokens of a text that are read
FILE = "tokenizer.json"

Unit = Literal["words", "pieces"]
UNITS: tuple[Unit, ...] = ("words", "pieces")

_SPECIAL = ["[PAD]", "[UNK]"]
_SAMPLE = 20_000  # texts that it learns from, evenly spread
_WORD = r"\w+(?:['’]\w+)*|[^\w\s]"  # noqa: RUF001 - as texts are typed


class Tokenizer:
    """Texts to ids. Thread-safe."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __len__(self) -> int:
        return int(self._model.get_vocab_size())

    @classmethod
    def fit(
        cls, texts: Sequence[str], unit: Unit, size: int, *, case: bool = False, least: int = 2
    ) -> Tokenizer:
        """Learn `size` words, or byte-pair pieces of words (Sennrich et al. 2016), that `least`
        occurrences have; `case` keeps upper and lower case apart."""
        from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Model

        if len(texts) > _SAMPLE:
            texts = [texts[i] for i in np.linspace(0, len(texts) - 1, _SAMPLE).astype(np.int64)]
        made: Any
        trainer: Any
        if unit == "words":
            made = Model(models.WordLevel(unk_token=_SPECIAL[UNKNOWN]))
            trainer = trainers.WordLevelTrainer(
                vocab_size=size, min_frequency=least, special_tokens=_SPECIAL, show_progress=False
            )
        else:
            made = Model(models.BPE(unk_token=_SPECIAL[UNKNOWN]))
            trainer = trainers.BpeTrainer(
                vocab_size=size,
                min_frequency=least,
                special_tokens=_SPECIAL,
                limit_alphabet=500,
                max_token_length=24,
                show_progress=False,
            )
        steps = [normalizers.NFC(), *([] if case else [normalizers.Lowercase()])]
        made.normalizer = normalizers.Sequence(steps)
        made.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
        made.train_from_iterator(map(_clean, texts), trainer)
        made.enable_truncation(LENGTH)
        return cls(made)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at most `LENGTH`; a text without words has none."""
        encode = self._model.encode_batch_fast
        found: list[list[int]] = [each.ids for each in encode([_clean(text) for text in texts])]
        return found

    def padded(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Ids (n, length of the longest), short rows filled with `PAD`; one column at least."""
        rows = self.ids(texts)
        tokens = np.full((len(rows), max(1, *map(len, rows), 1)), PAD, dtype=np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(self._model.to_str(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Raises BundleFault for a file that cannot be read."""
        from tokenizers import Tokenizer as Model

        try:
            return cls(Model.from_str((folder / FILE).read_text(encoding="utf-8")))
        except Exception as fault:  # the library raises plain Exception
            raise BundleFault(
                f"{folder / FILE} is not readable: {fault}: train the model anew"
            ) from fault


def _clean(text: str) -> str:
    """Halves of surrogate pairs, which JSON may hold, are no text to the library."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
