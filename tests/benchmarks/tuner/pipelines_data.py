"""The pipelines' data: which rows train and which judge, and inputs after preprocessing.

Choices are coded one-hot and missing numbers filled with the median, both as the training rows say;
scaling is of the numbers only, since an indicator has no scale to correct.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from models.records import Params

Array = NDArray[np.float64]

TRAIN = 800
ROWS = {  # that judge: the standard error of a log loss of 0.3 is then about 0.01
    "phoneme": 2_000,
    "satimage": 2_000,
    "splice": 2_000,
    "spambase": 2_000,
}


@dataclass(frozen=True)
class Table:
    """Inputs (n, d) and labels (n,), numbers from 0; the first `numbers` columns are numbers."""

    train: Array
    y: NDArray[np.int64]
    judge: Array
    truth: NDArray[np.int64]
    numbers: int


def table(name: str) -> Table:
    """A data set's rows. Raises SystemExit when its file is not there."""
    path = folder() / f"{name}.csv.gz"
    if not path.exists():
        raise SystemExit(
            f"the pipelines are fitted on files of the data, got nothing at {path}: set "
            "EVERFIT_DATA to the folder of the data"
        )
    frame = pd.read_csv(path)
    labels = frame.pop("target")
    y = np.asarray(pd.factorize(labels, sort=True)[0], dtype=np.int64)
    rows = np.arange(len(y))
    train, judge = train_test_split(
        rows, train_size=TRAIN, test_size=ROWS[name], stratify=y, random_state=0
    )
    listed = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    numbers = frame.drop(columns=listed).astype(float)
    numbers = numbers.fillna(numbers.iloc[train].median())
    known = {c: sorted(set(frame[c].iloc[train].dropna().astype(str))) for c in listed}
    marks = [(frame[c].astype(str) == value).to_numpy(float) for c in listed for value in known[c]]
    inputs = np.column_stack([numbers.to_numpy(float), *marks])
    varied = np.ptp(inputs[train], axis=0) > 0
    count = int(varied[: numbers.shape[1]].sum())
    inputs = np.ascontiguousarray(inputs[:, varied])
    return Table(inputs[train], y[train], inputs[judge], y[judge], count)


def folder() -> Path:
    return Path(os.environ.get("EVERFIT_DATA") or "../shared/data") / "cc18"


def prepared(table: Table, params: Params) -> tuple[Array, Array]:
    """Training and judging inputs after a configuration's scaling and selection."""
    train, judge = _scaled(table, str(params.get("scale", "none")))
    select = params.get("select", "none")
    if select == "none":
        return train, judge
    if select == "pca":
        step = PCA(float(params["pca_share"]), svd_solver="full")
    else:
        step = SelectKBest(f_classif, k=int(np.ceil(params["kbest_share"] * train.shape[1])))
    return step.fit_transform(train, table.y), step.transform(judge)


def _scaled(table: Table, scale: str) -> tuple[Array, Array]:
    if scale == "none" or not table.numbers:
        return table.train, table.judge
    makers = {
        "standard": StandardScaler,
        "robust": RobustScaler,
        "quantile": functools.partial(
            QuantileTransformer, n_quantiles=200, output_distribution="normal", random_state=0
        ),
    }
    step, n = makers[scale](), table.numbers
    return (
        np.hstack([step.fit_transform(table.train[:, :n]), table.train[:, n:]]),
        np.hstack([step.transform(table.judge[:, :n]), table.judge[:, n:]]),
    )
