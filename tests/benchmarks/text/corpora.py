"""The corpora of the text benchmark, as tables with text columns; their rows are drawn by seed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.data import read_table
from models.schema import Column, Schema

DOMAINS = ("books", "dvd", "electronics")
NAMES = (*DOMAINS, "sms_spam", "spamassassin")

_FILES = {
    **dict.fromkeys(DOMAINS, ("amazon_3domains", ("title", "text"), ("negative", "positive"))),
    "sms_spam": ("sms_spam", ("text",), ("ham", "spam")),
    "spamassassin": ("spamassassin_mail", ("subject", "text"), ("ham", "spam")),
}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Labelled texts: `frame` holds the schema's columns and its target."""

    name: str
    frame: pd.DataFrame
    schema: Schema

    def texts(self, rows: np.ndarray) -> list[str]:
        """Text columns of rows joined by a line break."""
        columns = [self.frame[name].to_numpy()[rows] for name in self.schema.texts]
        return ["\n".join(parts) for parts in zip(*columns, strict=True)]

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Labels of rows as codes of the schema's classes."""
        labels = self.frame[self.schema.target].to_numpy()[rows]
        return (labels == self.schema.classes[1]).astype(np.int64)

    def parts(self, seed: int, *shares: float) -> list[np.ndarray]:
        """Rows in random order, cut at the cumulated shares."""
        order = np.random.default_rng(seed).permutation(len(self.frame))
        cuts = np.round(np.cumsum(shares) * len(order)).astype(int)
        return np.split(order, cuts)


def load(name: str) -> Corpus:
    """One of `NAMES`, from the folder in EVERFIT_DATA. Raises FileNotFoundError with the remedy."""
    file, columns, classes = _FILES[name]
    path = Path(os.environ.get("EVERFIT_DATA", "data")) / f"{file}.csv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: set EVERFIT_DATA to the folder that holds it")
    frame = read_table(path)
    if name in DOMAINS:
        frame = frame[frame["domain"] == name].reset_index(drop=True)
    frame = frame[[*columns, "target"]].fillna("")
    schema = Schema(tuple(Column(column, "text") for column in columns), "target", classes)
    return Corpus(name, frame, schema)
