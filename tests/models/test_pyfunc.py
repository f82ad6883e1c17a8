"""MLflow's python_function flavour of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.bundle import Predictor
from models.errors import BundleFault, DataFault
from models.pyfunc import Scorer, _load_pyfunc
from models.schema import Schema
from models.training import fit_bundle
from tests import registry_parts as parts

pytestmark = pytest.mark.timeout(180)  # the first import of MLflow is slow on a busy machine


@pytest.fixture
def bundle() -> Path:
    return Path(parts.candidates()[1].bundle)


@pytest.fixture
def scorer(bundle: Path) -> Scorer:
    return _load_pyfunc(str(bundle))


def test_answers_are_those_of_the_predictor(scorer: Scorer, bundle: Path) -> None:
    frame = parts.rows().sample(frac=1, random_state=1)  # the index is no range
    answer = scorer.predict(frame)
    assert list(answer.columns) == ["label", "probability_on time", "probability_late"]
    assert answer.index.equals(frame.index)
    expected = Predictor.load(bundle).predict_proba(frame)
    np.testing.assert_array_equal(answer.iloc[:, 1:].to_numpy(), expected)
    late = answer["probability_late"] > 0.5
    assert answer["label"].tolist() == ["late" if is_late else "on time" for is_late in late]
    assert 0 < late.sum() < len(late)


@pytest.mark.parametrize(
    "carrier",
    [
        pd.Series(["EV", None, "new"], dtype="object"),
        pd.Series(["EV", None, "new"], dtype="string"),
        pd.Series(["EV", None, "new"], dtype="category"),
    ],
    ids=lambda series: str(series.dtype),
)
@pytest.mark.parametrize(
    "wind",
    [
        pd.Series([12, np.nan, 3.0]),
        pd.Series([12, None, 3], dtype="Int64"),
        pd.Series([12, None, 3], dtype="object"),
        pd.Series([12, np.nan, 3], dtype="float32"),
    ],
    ids=lambda series: str(series.dtype),
)
def test_every_way_of_pandas_to_miss_a_value_is_one(
    scorer: Scorer, carrier: pd.Series, wind: pd.Series
) -> None:
    answer = scorer.predict(
        pd.DataFrame({"carrier": carrier, "wind": wind, "unused": [object()] * 3})
    )
    expected = scorer.predictor.predict_proba(
        {"wind": [12.0, None, 3.0], "carrier": ["EV", None, "new"]}
    )
    np.testing.assert_allclose(answer.iloc[:, 1:].to_numpy(), expected, atol=1e-7)


def test_no_rows_give_no_rows(scorer: Scorer) -> None:
    answer = scorer.predict(parts.rows().iloc[:0])
    assert len(answer) == 0
    assert list(answer.columns) == ["label", "probability_on time", "probability_late"]


def test_a_missing_column_is_named(scorer: Scorer) -> None:
    with pytest.raises(DataFault, match="wind"):
        scorer.predict(parts.rows()[["carrier"]])


def test_infinity_is_named(scorer: Scorer) -> None:
    frame = parts.rows()
    frame.loc[5, "wind"] = np.inf
    with pytest.raises(DataFault, match="wind"):
        scorer.predict(frame)


def test_labels_keep_their_type(tmp_path: Path) -> None:
    frame = parts.rows().assign(late=lambda rows: rows["late"].eq("late"))
    schema = Schema(parts.SCHEMA.columns, "late", (False, True))
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    fit_bundle(frame, schema, params, folder=tmp_path / "b", seed=0)
    answer = _load_pyfunc(str(tmp_path / "b")).predict(frame)
    assert answer["label"].dtype == np.bool_
    assert "probability_True" in answer.columns


def test_an_altered_bundle_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    copied = tmp_path / "bundle"
    shutil.copytree(bundle, copied)
    (copied / "model.skops").write_bytes(b"something else")
    with pytest.raises(BundleFault, match=r"was altered .*model.skops"):
        _load_pyfunc(str(copied))


def test_mlflow_holds_callers_to_the_signature(tmp_path: Path) -> None:
    """Columns in any order are fine, a missing one and a wrong type are not."""
    store = parts.registry(tmp_path)
    release = store.version(parts.register(store, 1))
    import mlflow.pyfunc  # after the registry, which silences the warnings of its first import
    from mlflow.exceptions import MlflowException

    model = mlflow.pyfunc.load_model(
        str(tmp_path / "artifacts" / release.run_id / "artifacts" / "model")
    )
    frame = parts.rows()[["carrier", "wind"]]
    expected = Predictor.load(parts.candidates()[1].bundle).predict_proba(frame)
    np.testing.assert_array_equal(model.predict(frame).iloc[:, 1:].to_numpy(), expected)
    assert len(model.predict(model.input_example)) >= 2
    with pytest.raises(MlflowException, match="wind"):
        model.predict(frame[["carrier"]])
    with pytest.raises(MlflowException, match="wind"):
        model.predict(frame.assign(wind="strong"))
