"""How a text is cut into the terms that the model was taught; predict.py imports it."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

HOW = json.loads((Path(__file__).resolve().parent / "terms.json").read_text("utf-8"))
PLACES = {term: place for place, term in enumerate(HOW["terms"])}
PATTERN = re.compile(HOW["pattern"])


def cut(rows):
    """Inputs (rows, L) of the model: places of each text's terms, and how often each occurs."""
    bags = [bag(row) for row in rows]
    shape = len(bags), max(1, *map(len, bags))
    terms, counts = np.full(shape, len(PLACES), np.int64), np.ones(shape, np.float32)
    for row, found in enumerate(bags):
        terms[row, : len(found)], counts[row, : len(found)] = list(found), list(found.values())
    return {"terms": terms, "counts": counts}


def bag(row):
    values = [row[name] for name in HOW["texts"]]
    texts = ["" if value is None or value != value else value for value in values]
    text = "\n".join(texts)[: HOW["characters"]]
    found = PATTERN.findall(text.lower() if HOW["lower"] else text)
    words = [word[: HOW["longest"]] for word in found]
    terms = [g for n in range(1, HOW["words"] + 1) for g in map(" ".join, runs(words, n))]
    for n in range(2, HOW["letters"] + 1):
        terms += [f"\t{letters}" for word in words for letters in runs(f" {word} ", n)]
    return Counter(PLACES[term] for term in terms if term in PLACES)


def runs(parts, n):
    return [parts[at : at + n] for at in range(len(parts) - n + 1)]
