"""How far ONNX forms answer from their models, over random fits of every family.

    everfit bench parity
    everfit bench parity --set fits=1000 --set seed=1

Each fit draws its parameters from the family's whole space and its table at random: 60 to 1,500
rows, up to 7 numbers and 3 categories of up to 1,000 values, 2 to 5 classes, with and without
gaps, numbers between 1e-30 and 1e30, at times whole ones, so that many lie on thresholds' edges.
The form is then compared as it is at bundling: on recorded rows and on rows beside them (missing,
huge, next to another row's value, unknown categories), in batches of 1, 2, 33 and more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = ("logistic", "hgb", "forest", "mlp")
_EPOCHS = 6  # at most: a network's form does not depend on how well it has learnt


def run(json_path: Path | None = None, *, fits: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """One line for each family: fits, those without a form, and the differences found."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {family: [] for family in FAMILIES}
    reasons: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for number in range(fits):
        family = FAMILIES[number % len(FAMILIES)]
        apart, reason = _compared(family, rng)
        if reason:
            reasons[family].append(reason)
        else:
            found[family].append(apart)
    lines = [
        {
            "model": family,
            "fits": len(found[family]) + len(reasons[family]),
            "served natively": len(reasons[family]),
            "median difference": f"{np.median(found[family]):.1e}" if found[family] else "",
            "largest": f"{max(found[family]):.1e}" if found[family] else "",
            "why native": "; ".join(sorted(set(reasons[family]))),
        }
        for family in FAMILIES
    ]
    if json_path is not None:
        json_path.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
    return lines


def _compared(family: str, rng: np.random.Generator) -> tuple[float, str]:
    """(largest difference of a probability, why it has no form) of one random fit."""
    from models import families
    from models.encoding import Encoder
    from models.onnx.export import export

    made = families.get(family)
    params = dict(made.space.decode(rng.random(len(made.space))))
    if "epochs" in params:
        params["epochs"] = min(int(params["epochs"]), _EPOCHS)
    data = _table(rng)
    encoder = Encoder(
        [f"x{i}" for i in range(data.encoded.numbers.shape[1])],
        {f"c{j}": [str(i) for i in range(card - 2)] for j, card in enumerate(data.cardinality)},
    )
    fitted = made.fit(data, params, seed=0)
    exported = export(fitted, family, encoder, data.k, data.encoded)
    return exported.difference, exported.reason


def _table(rng: np.random.Generator) -> Any:
    from models.encoding import Encoded
    from models.families import TrainingData

    n, k = int(rng.choice([60, 300, 1_500])), int(rng.choice([2, 2, 3, 5]))
    width = int(rng.integers(0, 8))
    drawn = rng.choice([3, 5, 9, 30, 120, 300, 1_002], rng.integers(0 if width else 1, 4))
    cards = tuple(int(card) for card in drawn)
    x = rng.normal(size=(n, width)).astype(np.float32)
    if rng.random() < 0.5:
        x[rng.random((n, width)) < 0.1] = np.nan
    ranks = [np.minimum(rng.geometric(min(0.9, 8 / card), n) + 1, card - 1) for card in cards]
    codes = np.array(ranks, dtype=np.int64).reshape(len(cards), n).T.copy()
    score = np.nan_to_num(x).sum(axis=1) + np.sin(codes * 1.7).sum(axis=1)
    cuts = np.quantile(score, np.arange(1, k) / k)
    y = np.digitize(score + rng.normal(size=n) * 0.5, cuts).astype(np.int64)
    y[:2] = 0, 1  # a fit needs two classes
    x *= np.float32(rng.choice([1e-30, 1e-3, 1, 1e6, 1e30]))
    return TrainingData(Encoded(np.round(x) if rng.random() < 0.3 else x, codes), y, k, cards)
