"""How texts become the vectors and terms that the model reads; predict.py imports it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HOME = Path(__file__).resolve().parent
HOW = json.loads((HOME / "vectors.json").read_text("utf-8"))
TOKENIZER = Tokenizer.from_file(str(HOME / "tokenizer.json"))
ENCODER = onnxruntime.InferenceSession(HOME / HOW["encoder"])
if HOW["terms"]:
    import cutting_terms


def cut(rows):
    """Inputs of the model: each text's vector (rows, width), and its terms if it reads them."""
    ids = [found.ids for found in TOKENIZER.encode_batch([joined(row) for row in rows])]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))  # one length together
    vectors, at = np.empty((len(ids), HOW["width"]), np.float32), 0
    while at < len(order):
        longest = max(1, len(ids[order[at]]))
        part = order[at : at + max(1, HOW["tokens"] // longest)]
        vectors[part] = encoded([ids[row] for row in part], longest)
        at += len(part)
    return {"vectors": vectors} | (cutting_terms.cut(rows) if HOW["terms"] else {})


def encoded(ids, longest):
    tokens, known = np.zeros((len(ids), longest), np.int64), np.zeros((len(ids), longest), "f4")
    for row, each in enumerate(ids):
        tokens[row, : len(each)], known[row, : len(each)] = each, 1
    return ENCODER.run(None, {"ids": tokens, "known": known})[0]


def joined(row):
    values = [row[name] for name in HOW["texts"]]
    text = "\n".join("" if value is None or value != value else value for value in values)
    return text[: HOW["characters"]].encode("utf-8", "replace").decode("utf-8")
