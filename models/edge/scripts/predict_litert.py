"""Answers of an exported model, by numpy and ai-edge-litert: python predict.py [rows.json]"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

HOME = Path(__file__).resolve().parent
for name, digest in json.loads((HOME / "digest.json").read_text("utf-8"))["files"].items():
    if hashlib.sha256((HOME / name).read_bytes()).hexdigest() != digest:
        sys.exit(f"{name} is not as it was exported: copy the folder again")
INFO = json.loads((HOME / "edge.json").read_text("utf-8"))
KNOWN = {column: {t: i for i, t in enumerate(v, 2)} for column, v in INFO["categories"].items()}
if INFO["texts"]:
    from cutting import cut
ANSWER = Interpreter(str(HOME / INFO["model"])).get_signature_runner()


def code(column, value):
    if value is None or value != value or value == "":
        return 1  # missing; 0 is what training did not show
    whole = isinstance(value, float) and value.is_integer()  # 3, 3.0 and "3" are one category
    return KNOWN[column].get(str(int(value) if whole else value), 0)


def predict(rows):
    """Probabilities (rows, classes) of rows as dicts, in the order of INFO["classes"]."""
    return np.concatenate([answer(row) for row in rows])


def answer(row):
    numbers = np.array([[row[column] for column in INFO["numbers"]]], np.float32)
    codes = np.array([[code(column, row[column]) for column in KNOWN]], np.int32)
    feed = {"numbers": numbers, "codes": codes} | (cut([row]) if INFO["texts"] else {})
    return next(iter(ANSWER(**{name: feed[name] for name in INFO["inputs"]}).values()))


if __name__ == "__main__":
    rows = json.loads(Path(sys.argv[1]).read_text("utf-8")) if sys.argv[1:] else INFO["example"]
    print(json.dumps(predict(rows).tolist()))
