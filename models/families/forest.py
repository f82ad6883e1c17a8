"""Random forest on numbers and frequency-ranked category codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.families.base import (
    TrainingData,
    Watch,
    dump_skops,
    load_skops,
    marks,
    matrix,
    spread,
    stopwatch,
)
from models.records import Params
from models.space import Float, Int, Space
from models.threads import one_thread

LIMIT = 1_000
_STEP = 10  # trees between two looks at the clock
_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the trees, at which a watched fit reports


class Forest:
    """Breiman's forest; its probabilities count the base rate as one more tree.

    Without that, rows on which all trees agree would be answered with 0 and 1.
    """

    name = "forest"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "coral", "self"})
    space = Space(
        (
            Int("n_estimators", 20, 200, log=True),
            Float("max_features", 0.1, 1.0),
            Int("min_samples_leaf", 1, 200, log=True),
            Int("max_depth", 3, 30, log=True),
        )
    )
    default: ClassVar[Params] = {
        "n_estimators": 50,
        "max_features": 0.25,
        "min_samples_leaf": 10,
        "max_depth": 14,
    }

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedForest:
        from sklearn.ensemble import RandomForestClassifier

        check = stopwatch(seconds)
        trees = int(params["n_estimators"])
        stages = marks(trees, _SHARES, _STEP) if watch is not None else []
        model = RandomForestClassifier(
            **{**params, "n_estimators": 0}, n_jobs=1, random_state=seed, warm_start=True
        )
        X = matrix(data.encoded, LIMIT, np.float32)
        counts = np.bincount(data.y, data.weights, minlength=data.k)[np.unique(data.y)]
        fitted = FittedForest(model, counts / counts.sum(), data.k)
        with one_thread():
            for count in sorted({*range(_STEP, trees, _STEP), trees, *stages}):
                model.set_params(n_estimators=count).fit(X, data.y, data.weights)
                check()
                if watch is not None and count in stages:
                    watch.report(count / trees, fitted.predict_proba(watch.valid))
        return fitted

    def load(self, folder: Path) -> FittedForest:
        state = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        model = load_skops(folder / "model.skops", {"sklearn.tree._tree.Tree"}.__contains__)
        return FittedForest(model, np.asarray(state["base"]), state["k"])


class FittedForest:
    """`base` holds the rates of the classes that training showed."""

    def __init__(self, model: Any, base: NDArray[np.float64], k: int) -> None:
        self.model, self.base, self.k = model, base, k

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        with one_thread():
            proba = self.model.predict_proba(matrix(encoded, LIMIT, np.float32))
        trees = len(self.model.estimators_)
        return spread((proba * trees + self.base) / (trees + 1), self.model.classes_, self.k)

    def save(self, folder: Path) -> None:
        dump_skops(self.model, folder / "model.skops")
        state = {"k": self.k, "base": self.base.tolist()}
        (folder / "model.json").write_text(json.dumps(state), encoding="utf-8")
