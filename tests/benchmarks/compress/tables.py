"""Real tables, split at random by the seed: 70 % to learn from, the rest to be asked about."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 3_000  # of a table at most
TABLES = ("spambase", "satimage", "phoneme", "splice", "adult")
TEXTS = ("amazon books", "amazon dvd", "amazon electronics", "sms_spam", "spamassassin")


@dataclass(frozen=True)
class Task:
    """Frames to learn from and to be asked about, and what their columns are."""

    name: str
    train: Any
    test: Any
    schema: Any

    @property
    def text(self) -> bool:
        return bool(self.schema.texts)


def load(name: str, seed: int) -> Task:
    """One of TABLES or TEXTS. Raises FileNotFoundError without the data."""
    from models.schema import Column, Schema

    frame = _texts(name) if name in TEXTS else _table(name)
    if len(frame) > ROWS:
        frame = frame.sample(ROWS, random_state=0)
    columns = tuple(
        Column(
            column,
            "text" if column == "text" else "number" if values.dtype.kind in "iuf" else "category",
        )
        for column, values in frame.items()
        if column != "target"
    )
    classes = tuple(sorted(frame["target"].unique().tolist(), key=str))
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = len(frame) * 7 // 10
    schema = Schema(columns, target="target", classes=classes)
    return Task(name, frame.iloc[order[:cut]], frame.iloc[order[cut:]], schema)


def folder() -> Path:
    return Path(os.environ.get("EVERFIT_DATA", "data"))


def _read(name: str) -> Any:
    import pandas as pd

    path = folder() / f"{name}.csv.gz"
    if not path.exists():
        raise FileNotFoundError(f"no {path}: set EVERFIT_DATA to the folder that holds it")
    return pd.read_csv(path)


def _table(name: str) -> Any:
    return _read(f"cc18/{name}")


def _texts(name: str) -> Any:
    if name.startswith("amazon"):
        every = _read("amazon_3domains")
        frame = every[every["domain"] == name.removeprefix("amazon ")]
    else:
        frame = _read({"spamassassin": "spamassassin_mail"}.get(name, name))
    words = [c for c in ("subject", "title", "text", "body", "message") if c in frame]
    text = frame[words].fillna("").astype(str).agg("\n".join, axis=1)
    return text.to_frame("text").assign(target=frame["target"].to_numpy())
