"""The python_function flavour of a bundle: MLflow's own tools load and score it, without pickle.

`mlflow.pyfunc.load_model("models:/NAME@champion")` imports this module by name (`loader_module`),
so everfit must be installed where the model is loaded. This file itself does not import mlflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import Predictor

if TYPE_CHECKING:
    import pandas as pd


class Scorer:
    """A loaded bundle behind MLflow's `predict`."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Label and probabilities of each row of `data` (n rows, the schema's columns, any order).

        Returns n rows with the index of `data`: `label` (the most probable class, the first one
        on a tie) and `probability_<class>` for every class, in [0, 1] and summing to 1. Columns
        outside the schema are ignored. `params` is MLflow's; there are none. Raises DataFault for
        a missing column or a wrong type. MLflow itself checks the signature first, and it is
        stricter: a column of int64 has to be cast to float64.
        """
        import pandas as pd

        del params
        wanted = (column.name for column in self.predictor.schema.columns)
        columns = {name: _values(data[name]) for name in wanted if name in data}
        probabilities = self.predictor.predict_proba(columns)
        classes = self.predictor.classes
        answer: dict[str, Any] = {"label": [classes[code] for code in probabilities.argmax(axis=1)]}
        answer |= {f"probability_{c}": probabilities[:, i] for i, c in enumerate(classes)}
        return pd.DataFrame(answer, index=data.index)


def _values(column: pd.Series) -> list[Any]:
    """Plain Python values; pandas' several ways to say 'missing' become None."""
    return [None if gone else value for value, gone in zip(column, column.isna(), strict=True)]


def _load_pyfunc(path: str) -> Scorer:
    """Called by MLflow with the bundle's folder. Raises BundleFault when it was altered."""
    return Scorer(Predictor.load(Path(path)))
