"""How a text is cut into the tokens that the model reads; predict.py imports it."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

HOME = Path(__file__).resolve().parent
HOW = json.loads((HOME / "tokens.json").read_text("utf-8"))
TOKENIZER = Tokenizer.from_file(str(HOME / "tokenizer.json"))


def cut(rows):
    """Inputs of the model: ids (rows, L) of each text's tokens, short rows filled with 0."""
    ids = [found.ids for found in TOKENIZER.encode_batch([joined(row) for row in rows])]
    length = HOW["length"] or max(1, *map(len, ids), 1)
    tokens = np.array([row + [0] * (length - len(row)) for row in ids], np.int64)
    if not HOW["length"]:
        return {"tokens": tokens}
    return {"tokens": tokens.astype(np.int32), "places": places(tokens)}


def joined(row):
    values = [row[name] for name in HOW["texts"]]
    text = "\n".join("" if value is None or value != value else value for value in values)
    return text[: HOW["characters"]].encode("utf-8", "replace").decode("utf-8")


def places(tokens):
    """Rows of the table of weights, of each token and of each run of them, by its hash."""
    parts, hashed = [tokens], tokens
    for n in range(2, HOW["phrases"] + 1):
        last = tokens[:, n - 1 :]
        hashed = (hashed[:, : last.shape[1]] * HOW["prime"] + last) % HOW["buckets"]
        parts.append(np.where(last == 0, 0, hashed + HOW["vocabulary"]))
    return np.concatenate(parts, axis=1).astype(np.int32)
