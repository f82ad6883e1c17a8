"""A user's own trainer: a search space and `fit`, named in the config as `module:attribute`.

A whole trainer, in `mine.py`, named as `trainer: mine:trainer` with `families: [custom]`:

>>> from sklearn.neighbors import KNeighborsClassifier
>>> from models.space import Int, Space
>>>
>>> class Nearest:
...     space = Space((Int("neighbours", 1, 50, log=True),))
...
...     def fit(self, X, y, params, seed):
...         return KNeighborsClassifier(n_neighbors=params["neighbours"]).fit(X, y)
>>>
>>> trainer = Nearest()

`X` is float64 (n, d): standardised numbers (missing: 0), an indicator for each number that is
ever missing, and one column per frequent category; `y` is int64 (n,), positions in the config's
classes. `fit` returns a scikit-learn classifier with `predict_proba`, or a pipeline that ends in
one; everything in it must come from scikit-learn, NumPy or SciPy, so that it can be saved and
loaded without pickle. An optional `default` (parameters) is tried first.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.errors import DataFault, SpaceFault
from models.families.base import TrainingData, Watch, dump_skops, load_skops, samples, spread
from models.families.design import Design
from models.records import Params
from models.space import Space
from models.threads import one_thread

LIMIT = 50  # one-hot columns per category column, since X is dense

_PACKAGES = ("sklearn.", "numpy.", "scipy.")


def resolve(trainer: str) -> Any:
    """The object that `module:attribute` names. Raises SpaceFault with the remedy.

    A module that is not installed is looked for in the working folder too.
    """
    module, colon, attribute = trainer.partition(":")
    if not (module and colon and attribute):
        raise SpaceFault(f"a trainer is named as module:attribute, got {trainer!r}: name both")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        value = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except ModuleNotFoundError as fault:
        raise SpaceFault(
            f"the trainer {trainer!r} must be importable, got: {fault}: install it, or run from "
            "the folder it lies in"
        ) from fault
    except AttributeError as fault:
        raise SpaceFault(f"the trainer {trainer!r} must exist, got: {fault}: correct it") from fault
    if not isinstance(getattr(value, "space", None), Space) or not callable(
        getattr(value, "fit", None)
    ):
        raise SpaceFault(
            f"a trainer has `space` (a models.space.Space) and `fit(X, y, params, seed)`, got "
            f"{type(value).__name__} with {[n for n in dir(value) if n[0] != '_'][:8]}: add them"
        )
    return value


class Custom:
    """The family `custom`, around a user's trainer; without one it can only load."""

    name = "custom"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category"})
    adapts: ClassVar[frozenset[str]] = frozenset({"self"})

    def __init__(self, trainer: str | None) -> None:
        self._trainer = None if trainer is None else resolve(trainer)

    @property
    def trainer(self) -> Any:
        if self._trainer is None:
            raise SpaceFault(
                "the family 'custom' needs a trainer, got none: name it as module:attribute"
            )
        return self._trainer

    @property
    def space(self) -> Space:
        space: Space = self.trainer.space
        return space

    @property
    def default(self) -> Params | None:
        default: Params | None = getattr(self.trainer, "default", None)
        return default

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedCustom:
        del seconds
        design = Design.fit(data, limit=LIMIT)
        X = design.dense(data.encoded)
        for part in samples(data, seed) if watch is not None else ():
            assert watch is not None
            model = self._fitted(X[part], data.y[part], params, seed)
            fitted = FittedCustom(model, design, data.k)
            watch.report(len(part) / len(data), fitted.predict_proba(watch.valid))
        return FittedCustom(self._fitted(X, data.y, params, seed), design, data.k)

    def _fitted(
        self, X: NDArray[np.float64], y: NDArray[np.int64], params: Params, seed: int
    ) -> Any:
        with one_thread():
            model = self.trainer.fit(X, y, dict(params), seed)
        if not callable(getattr(model, "predict_proba", None)) or not hasattr(model, "classes_"):
            raise DataFault(
                f"a trainer's fit returns a fitted classifier with predict_proba, got "
                f"{type(model).__name__}: return the fitted estimator"
            )
        if not type(model).__module__.startswith(_PACKAGES):
            raise DataFault(
                f"a trainer returns a scikit-learn estimator, got one of {type(model).__module__}: "
                "only those can be saved without pickle"
            )
        return model

    def load(self, folder: Path) -> FittedCustom:
        state = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        model = load_skops(folder / "model.skops", lambda name: name.startswith(_PACKAGES))
        return FittedCustom(model, Design.from_json(state["design"]), state["k"])


class FittedCustom:
    def __init__(self, model: Any, design: Design, k: int) -> None:
        self.model, self.design, self.k = model, design, k

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        with one_thread():
            proba = self.model.predict_proba(self.design.dense(encoded))
        return spread(proba, [int(c) for c in self.model.classes_], self.k)

    def save(self, folder: Path) -> None:
        """Write the model. Raises BundleFault if it holds types that could not be loaded again."""
        dump_skops(self.model, folder / "model.skops")
        state = {"k": self.k, "design": self.design.to_json()}
        (folder / "model.json").write_text(json.dumps(state), encoding="utf-8")
        load_skops(folder / "model.skops", lambda name: name.startswith(_PACKAGES))
