"""Fits on threads import nothing large: two that did could find it half imported."""

import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
import pandas as pd
from models import families
from models.families.ready import ready
from models.schema import Column, Schema
from models.training import evaluate_trial, prepare

rng = np.random.default_rng(0)
frame = pd.DataFrame({"x": rng.normal(size=200), "c": rng.choice(["a", "b"], 200)})
frame["t"] = [" ".join(rng.choice(["red", "green", "blue"], 4)) for _ in range(200)]
frame["y"] = rng.integers(0, 2, 200)
names = sys.argv[1].split(",")
kinds = {"x": "number", "c": "category"} | ({"t": "text"} if "textnet" in names else {})
schema = Schema(tuple(Column(*kind) for kind in kinds.items()), target="y", classes=(0, 1))
ready(names)
parts = frame[:140], frame[140:]
split = prepare(*parts, schema)
before = set(sys.modules)
for number, params in enumerate(families.defaults(names)):
    trial = evaluate_trial(*parts, schema, params, number=number, seed=0, objective="log_loss",
                           trainer=None, seconds=30, split=split)
    assert trial.status == "complete", trial.error
large = {"sklearn", "scipy", "torch", "skops", "onnxruntime"}
found = {m for m in set(sys.modules) - before if m.partition(".")[0] in large}
print(sorted(found - {"torch.profiler._cupti_monitor"}))  # which imports nothing itself
"""


@pytest.mark.parametrize("names", ["logistic,hgb,forest", "tfidf,textnet,mlp"])
def test_nothing_large_is_imported_by_a_fit(names):
    found = subprocess.run(
        [sys.executable, "-c", CODE, names], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr
