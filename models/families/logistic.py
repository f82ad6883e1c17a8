"""Logistic regression on standardised numbers and one-hot categories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.families.base import TrainingData, Watch, dump_skops, load_skops, samples, spread
from models.families.design import Design
from models.records import Params
from models.space import Categorical, Float, Space
from models.threads import one_thread

LIMIT = 1_000  # codes per category column; the rarer ones count as unknown


class Logistic:
    """L2-penalised maximum likelihood by L-BFGS; `C` is the inverse penalty."""

    name = "logistic"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "coral", "self"})
    space = Space(
        (
            Float("C", 1e-4, 1e2, log=True),
            Categorical("class_weight", ("none", "balanced")),
        )
    )
    default: ClassVar[Params] = {"C": 1.0, "class_weight": "none"}

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedLogistic:
        """Fit; it is deterministic, so the seed changes nothing, and short, so no time is cut."""
        from sklearn.linear_model import LogisticRegression

        del seconds
        design = Design.fit(data, limit=LIMIT)
        weight = params["class_weight"]
        model = LogisticRegression(
            C=float(params["C"]),
            class_weight=None if weight == "none" else weight,
            max_iter=2_000,
            random_state=seed,
            warm_start=watch is not None,  # the fit on fewer rows is where the next one starts
        )
        fitted = FittedLogistic(model, design, data.k)
        weights = data.weights
        with one_thread():
            X = design.sparse(data.encoded)
            for part in samples(data, seed) if watch is not None else ():
                model.fit(X[part], data.y[part], None if weights is None else weights[part])
                assert watch is not None
                watch.report(len(part) / len(data), fitted.predict_proba(watch.valid))
            model.fit(X, data.y, weights)
        return fitted

    def load(self, folder: Path) -> FittedLogistic:
        state = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        model = load_skops(folder / "model.skops", lambda _: False)  # skops knows all its types
        return FittedLogistic(model, Design.from_json(state["design"]), state["k"])


class FittedLogistic:
    """The coefficients, applied in NumPy: one row costs microseconds."""

    def __init__(self, model: Any, design: Design, k: int) -> None:
        self.model, self.design, self.k = model, design, k

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        scores = self.design.scores(encoded, self.model.coef_, self.model.intercept_)
        if scores.shape[1] == 1:  # two classes have one row of coefficients
            scores = np.hstack([np.zeros_like(scores), scores])
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return spread(powers / powers.sum(1, keepdims=True), self.model.classes_, self.k)

    def save(self, folder: Path) -> None:
        dump_skops(self.model, folder / "model.skops")
        state = {"k": self.k, "design": self.design.to_json()}
        (folder / "model.json").write_text(json.dumps(state), encoding="utf-8")
