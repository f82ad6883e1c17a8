"""A torch network that learns from raw texts: words and phrases, and what lies behind them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.compress import packed
from models.compress.choices import AS_IS, SHRINKING, SMALL, shrinks
from models.encoding import Encoded
from models.errors import BundleFault
from models.families.base import TrainingData, Watch
from models.records import Params
from models.space import Categorical, Float, Int, Ordinal, Space
from models.text.memo import remembered
from models.text.tokenizer import UNITS, Tokenizer
from models.text.tokens import texts_of
from models.threads import one_thread

if TYPE_CHECKING:
    from models.families.text_network import TextNet

_DEEP = ("none", "bag", "conv", "attention")
_AT_ONCE = 128  # texts that are answered together, sorted by length


class TextNetwork:
    """See `models.families.text_network` for the network, `text_training` for how it learns.

    The tokenizer is learnt from the training texts and is part of the search: whole words or
    byte-pair pieces of them, how many, with or without upper case.
    """

    name = "textnet"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category", "text"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "coral", "mmd", "self"})
    space = Space(
        (
            Categorical("unit", UNITS),
            Categorical("case", ("fold", "keep")),
            Ordinal("vocabulary", (2_000, 5_000, 10_000, 20_000, 30_000)),
            Int("phrases", 1, 3),  # tokens of the longest run that has a weight of its own
            Ordinal("least", (1, 2, 3, 5)),  # texts that such a run must be in
            Float("start", 0.0, 1.0),  # of the naive Bayes model that training begins at
            Float("wide_rate", 1.0, 100.0, log=True),
            Categorical("deep", _DEEP),
            Ordinal("width", (16, 32, 64), when=("deep", ("bag", "conv", "attention"))),
            Float("dropout", 0.0, 0.6),
            Float("learning_rate", 5e-4, 2e-2, log=True),
            Float("weight_decay", 1e-4, 1.0, log=True),
            Int("epochs", 3, 16, log=True),
            Ordinal("batch", (32, 64, 128, 256)),
            *SHRINKING,
        )
    )
    default: ClassVar[Params] = {
        "unit": "words",
        "case": "fold",
        "vocabulary": 20_000,
        "phrases": 2,
        "least": 2,
        "start": 0.3,
        "wide_rate": 30.0,
        "deep": "bag",
        "width": 32,
        "dropout": 0.3,
        "learning_rate": 3e-3,
        "weight_decay": 1e-2,
        "epochs": 8,
        "batch": 64,
        **AS_IS,
    }

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedTextNetwork:
        from models.families import text_training

        tokenizer, ids = tokenised(data.encoded, params)
        valid = None if watch is None else tokenizer.ids(texts_of(watch.valid))
        served = None if data.target is None else tokenizer.ids(texts_of(data.target))
        with one_thread():
            if shrinks(params):
                from models.compress import texts

                told = texts.Told(data, tokenizer, ids, seed, seconds, watch, valid, served)
                small, steps = texts.fit(told, params)
                return FittedTextNetwork(small, tokenizer, steps)
            net = text_training.train(
                data,
                tokenizer,
                ids,
                params,
                seed=seed,
                seconds=seconds,
                watch=watch,
                valid=valid,
                served=served,
            )
        return FittedTextNetwork(net, tokenizer)

    def load(self, folder: Path) -> FittedTextNetwork:
        return FittedTextNetwork.load(folder)


def tokenised(encoded: Encoded, params: Params) -> tuple[Tokenizer, list[list[int]]]:
    """The tokenizer of a configuration and the ids of the texts it learnt from; trials share it."""
    unit, case, size = params["unit"], params["case"] == "keep", int(params["vocabulary"])

    def made() -> tuple[Tokenizer, list[list[int]]]:
        texts = texts_of(encoded)
        tokenizer = Tokenizer.fit(texts, unit, size, case=case)  # type: ignore[arg-type]
        return tokenizer, tokenizer.ids(texts)

    return remembered(encoded.texts, ("tokens", unit, case, size), made)


class FittedTextNetwork:
    """A network that maps padded tokens (n, L), numbers (n, d_num) and codes (n, d_cat) to
    probabilities (n, k), and its tokenizer.

    model.npz   the network's arrays; model.json its shape; tokenizer.json

    `steps` of a small model are those of the matrices on a grid (`models.compress.grid`), by name,
    and its matrices are packed; None for a model that was left as it is.
    """

    def __init__(
        self,
        net: TextNet,
        tokenizer: Tokenizer,
        steps: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.net, self.tokenizer, self.steps = net, tokenizer, steps

    def tokens(self, encoded: Encoded) -> NDArray[np.int64]:
        """Padded ids (n, L) of the rows' texts."""
        return self.tokenizer.padded(texts_of(encoded))

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        import torch

        if len(encoded) > _AT_ONCE:  # texts of one length together: little padding, bounded memory
            order = np.argsort([len(text) for text in texts_of(encoded)], kind="stable")
            result = np.empty((len(encoded), self.net.shape.k))
            for part in np.split(order, range(_AT_ONCE, len(order), _AT_ONCE)):
                result[part] = self.predict_proba(encoded.take(part))
            return result
        with torch.no_grad():
            proba = self.net(
                torch.from_numpy(self.tokens(encoded)),
                torch.from_numpy(encoded.numbers),
                torch.from_numpy(encoded.codes),
            )
        found: NDArray[np.float64] = proba.numpy()
        return found

    def save(self, folder: Path) -> None:
        shape = json.dumps(self.net.shape.to_json())
        (folder / "model.json").write_text(shape, encoding="utf-8")
        arrays: dict[str, Any] = self.net.arrays()
        if self.steps is None:
            np.savez_compressed(folder / SMALL, allow_pickle=False, **arrays)
        else:
            from models.compress import texts

            texts.save(arrays, self.steps, folder / SMALL)
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: Path) -> FittedTextNetwork:
        """Raises BundleFault for files that are damaged or do not fit together."""
        from models.families.text_network import Shape, TextNet

        try:
            shape = Shape(**json.loads((folder / "model.json").read_text(encoding="utf-8")))
            with (
                (folder / SMALL).open("rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                arrays = {name: archive[name] for name in archive.files}
            steps = None
            if packed.SHAPES in arrays:
                from models.compress import texts

                arrays, steps = texts.load(arrays)
            net = TextNet.restored(shape, arrays)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as fault:
            raise BundleFault(
                f"{folder} holds no textnet model that can be read: {type(fault).__name__}: "
                f"{fault}: train the model anew"
            ) from fault
        return cls(net, Tokenizer.load(folder), steps)
