"""scikit-learn's histogram gradient boosting, with its native categories."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
)
from models.records import Params
from models.space import Float, Int, Space
from models.threads import one_thread

LIMIT = 255  # the algorithm bins into bytes: 255 codes, the rarer ones count as unknown

_SHARES, _STAGE = (1 / 8, 1 / 4, 1 / 2), 16  # of the trees, and at least so many, for a report

_TRUSTED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        # the encoder of the categories is a FunctionTransformer of a partial of check_array
        "functools.partial",
        "sklearn.utils.validation.check_array",
    }
)


class _Told:
    """Tells a watch of the curve. It is a scorer, which scikit-learn calls after every tree, with
    training rows and then with those of the watch, and which lets no score end the fit.
    """

    def __init__(self, watch: Watch, stages: Sequence[int], trees: int, k: int) -> None:
        self.watch, self.stages, self.trees, self.k = watch, stages, trees, k
        self._called = -1

    def __call__(self, model: Any, X: NDArray[Any], y: NDArray[Any]) -> float:
        del y
        so_far, second = int(model.n_iter_), self._called == model.n_iter_
        self._called = so_far
        if second and so_far in self.stages:
            proba = spread(model.predict_proba(X), model.classes_, self.k)
            self.watch.report(so_far / self.trees, proba)
        return 0.0


class HGB:
    """Boosted trees on binned columns; missing numbers have a branch of their own."""

    name = "hgb"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "coral", "self"})
    space = Space(
        (
            Float("learning_rate", 0.01, 0.5, log=True),
            Int("max_iter", 20, 400, log=True),
            Int("max_leaf_nodes", 4, 128, log=True),
            Int("min_samples_leaf", 5, 200, log=True),
            Float("l2_regularization", 1e-6, 100.0, log=True),
        )
    )
    default: ClassVar[Params] = {
        "learning_rate": 0.1,
        "max_iter": 60,
        "max_leaf_nodes": 16,
        "min_samples_leaf": 50,
        "l2_regularization": 1.0,
    }

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedHGB:
        """Fit. The algorithm cannot be stopped half-way: `seconds` is for the caller to check."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        del seconds
        width = data.encoded.numbers.shape[1]
        model = HistGradientBoostingClassifier(
            **params,
            categorical_features=list(range(width, width + len(data.cardinality))) or None,
            early_stopping=False,
            random_state=seed,
        )
        rows = matrix(data.encoded, LIMIT, np.float64)
        rows[:, np.isnan(rows).all(axis=0)] = 0.0  # a column without a value cannot be binned
        valid: dict[str, Any] = {}
        if watch is not None and (stages := marks(model.max_iter, _SHARES, _STAGE)):
            told = _Told(watch, stages, model.max_iter, data.k)
            model.set_params(early_stopping=True, scoring=told, n_iter_no_change=model.max_iter + 1)
            shown = matrix(watch.valid, LIMIT, np.float64)
            valid = {"X_val": shown, "y_val": np.full(len(shown), data.y[0])}
        with one_thread():
            model.fit(rows, data.y, sample_weight=data.weights, **valid)
        return FittedHGB(model, data.k)

    def load(self, folder: Path) -> FittedHGB:
        state = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return FittedHGB(load_skops(folder / "model.skops", _TRUSTED.__contains__), state["k"])


class FittedHGB:
    def __init__(self, model: Any, k: int) -> None:
        self.model, self.k = model, k

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        with one_thread():
            proba = self.model.predict_proba(matrix(encoded, LIMIT, np.float64))
        return spread(proba, self.model.classes_, self.k)

    def save(self, folder: Path) -> None:
        dump_skops(self.model, folder / "model.skops")
        (folder / "model.json").write_text(json.dumps({"k": self.k}), encoding="utf-8")
