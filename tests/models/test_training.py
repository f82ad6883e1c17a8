from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models import families, metrics
from models.bundle import Predictor
from models.data import digest, to_labels
from models.errors import DataFault, SpaceFault
from models.schema import Column, Schema
from models.training import evaluate_trial, example, fit_bundle, prepare

SCHEMA = Schema(
    (Column("x", "number"), Column("carrier", "category")), "late", ("no", "yes"), "when"
)
LOGISTIC = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}


def table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.1, np.nan, x),
            "carrier": rng.choice(["UA", "B6", "AA"], n),
            "late": np.where(x + rng.normal(size=n) * 0.5 > 0, "yes", "no"),
            "when": pd.date_range("2013-01-01", periods=n, freq="h", tz="UTC"),
        }
    )


def trial(params: dict, **options: object):
    options = {"number": 3, "seed": 5, "objective": "log_loss", **options}
    train = options.pop("train", table())
    valid = options.pop("valid", table(seed=1))
    return evaluate_trial(train, valid, SCHEMA, params, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["log_loss", "error", "one_minus_auc"])
def test_a_trial_reports_its_loss_and_all_metrics(objective: str) -> None:
    done = trial(LOGISTIC, objective=objective)
    assert (done.status, done.number, done.seed, done.error) == ("complete", 3, 5, "")
    assert done.params == LOGISTIC
    assert set(done.metrics) >= {"log_loss", "error", "accuracy", "roc_auc"}
    taken = {"latency_ms", "latency_p95_ms", "throughput_rows_s", "predict_cpu_ms", "fit_cpu_s"}
    assert set(done.metrics) >= {*taken, "size_mb"}
    assert min(done.metrics[name] for name in taken) > 0
    wanted = {**done.metrics, "one_minus_auc": 1 - done.metrics["roc_auc"]}[objective]
    assert done.loss == pytest.approx(wanted)
    assert done.metrics["roc_auc"] > 0.8
    assert done.seconds > 0


@pytest.mark.parametrize("name", ["hgb", "forest", "mlp"])
def test_a_family_alone_means_its_defaults(name: str) -> None:
    assert trial({"family": name}).loss == trial(families.defaults([name])[0]).loss


@pytest.mark.parametrize(
    ("params", "options", "error"),
    [
        ({"family": "xgboost"}, {}, "SpaceFault: a family is one of"),
        ({}, {}, "SpaceFault: a configuration names its family"),
        ({"family": "hgb", "hgb.depth": 3}, {}, r"got \['depth'\]"),
        ({"family": "hgb", "hgb.learning_rate": -1.0}, {}, "InvalidParameterError"),
        (LOGISTIC, {"train": table().drop(columns="x")}, "got no x"),
        (LOGISTIC, {"valid": table().drop(columns="carrier")}, "got no carrier"),
        (LOGISTIC, {"train": table().drop(columns="late")}, "no target column 'late'"),
        (LOGISTIC, {"train": table().head(0)}, "needs labelled rows, got none of 0"),
        (LOGISTIC, {"train": table().assign(late="no")}, "two or more classes, got 1"),
        (LOGISTIC, {"train": table().assign(late="maybe")}, "got 'maybe' in row 0"),
        (LOGISTIC, {"valid": table().assign(x=np.inf)}, "'x' holds finite numbers"),
        (LOGISTIC, {"valid": table().assign(x="far")}, "'x' holds numbers"),
        (
            LOGISTIC,
            {"valid": table().assign(late="no"), "objective": "one_minus_auc"},
            "ROC AUC ranks",
        ),
        ({"family": "custom"}, {"trainer": "nowhere:nothing"}, "SpaceFault"),
    ],
)
def test_whatever_fails_is_a_failed_trial_that_says_why(
    params: dict, options: dict, error: str
) -> None:
    failed = trial(params, **options)
    assert (failed.status, failed.loss, failed.metrics) == ("failed", None, {})
    assert re.search(error, failed.error)


def test_an_unknown_objective_is_raised_since_every_trial_would_fail() -> None:
    with pytest.raises(DataFault, match="got 'rmse'"):
        trial(LOGISTIC, objective="rmse")


@pytest.mark.parametrize("name", ["logistic", "hgb", "forest", "mlp"])
def test_a_trial_that_outlasts_its_time_failed(name: str) -> None:
    failed = trial({"family": name}, seconds=1e-6)
    assert failed.status == "failed"
    assert "FitTimeout" in failed.error


def test_rows_without_a_label_are_left_out() -> None:
    gappy = table()
    gappy.loc[::3, "late"] = None
    known = gappy.dropna(subset="late")
    assert trial(LOGISTIC, train=gappy, valid=gappy).loss == pytest.approx(
        trial(LOGISTIC, train=known, valid=known).loss
    )


def test_an_encoded_split_gives_the_same_trial_again() -> None:
    split = prepare(table(), table(seed=1), SCHEMA)
    assert trial(LOGISTIC, split=split).loss == trial(LOGISTIC).loss


def test_the_encoder_of_a_trial_has_not_seen_the_validation_rows() -> None:
    valid = table(seed=1).assign(carrier="new")
    split = prepare(table(), valid, SCHEMA)
    assert (split.valid.codes == 0).all()


def test_equal_seeds_give_equal_trials_and_bundles(tmp_path: Path) -> None:
    params = {"family": "mlp", "mlp.epochs": 3}
    assert trial(params).loss == trial(params).loss
    assert trial(params).loss != trial(params, seed=6).loss
    answers = []
    for name in ("a", "b"):
        made = fit_bundle(table(), SCHEMA, params, folder=tmp_path / name, seed=2)
        answers.append(Predictor.load(made.bundle).info["answers"])
    assert answers[0] == answers[1]


def test_a_candidate_states_its_lineage(tmp_path: Path) -> None:
    frame = table()
    frame.loc[299, "late"] = None
    made = fit_bundle(
        frame,
        SCHEMA,
        LOGISTIC,
        folder=tmp_path / "bundle",
        seed=0,
        times=frame["when"],
        metrics={"search_loss": 0.4},
    )
    assert made.rows == 299
    assert made.trained_from == pd.Timestamp("2013-01-01T00:00Z")
    assert made.trained_through == frame["when"][298]  # the last row has no label
    assert made.trained_through is not None
    assert made.trained_through.tzinfo is not None
    assert made.data_digest == digest(frame.loc[:298, ["x", "carrier", "late"]])
    assert (made.family, made.params, made.metrics) == ("logistic", LOGISTIC, {"search_loss": 0.4})
    assert made.bundle == str(tmp_path / "bundle")
    assert made.seconds > 0
    predictor = Predictor.load(made.bundle, digest=made.digest)
    y = to_labels(frame["late"][:299], SCHEMA.classes)
    np.testing.assert_allclose(predictor.base_rates, np.bincount(y) / 299)
    assert metrics.roc_auc(y, predictor.predict_proba(frame[:299])) > 0.8


def test_without_times_there_is_no_span(tmp_path: Path) -> None:
    made = fit_bundle(table(), SCHEMA, LOGISTIC, folder=tmp_path / "b", seed=0)
    assert (made.trained_from, made.trained_through) == (None, None)
    nat = pd.Series(pd.NaT, index=range(300), dtype="datetime64[ns, UTC]")
    made = fit_bundle(table(), SCHEMA, LOGISTIC, folder=tmp_path / "b", seed=0, times=nat)
    assert made.trained_through is None


@pytest.mark.parametrize(
    ("frame", "params", "fault"),
    [
        (table().drop(columns="x"), LOGISTIC, DataFault),
        (table().drop(columns="late"), LOGISTIC, DataFault),
        (table().assign(late=None), LOGISTIC, DataFault),
        (table(), {"family": "none"}, SpaceFault),
        (table(), {"family": "mlp", "mlp.height": 1}, SpaceFault),
    ],
)
def test_a_table_that_cannot_be_fitted_leaves_nothing_behind(
    frame: pd.DataFrame, params: dict, fault: type, tmp_path: Path
) -> None:
    with pytest.raises(fault):
        fit_bundle(frame, SCHEMA, params, folder=tmp_path / "bundle", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_the_example_is_plain_json_with_gaps_as_none() -> None:
    frame = table().assign(x=[None] * 299 + [1.5], carrier=["UA"] * 299 + [None])
    assert example(frame, SCHEMA) == {"x": [None, None, 1.5], "carrier": ["UA", "UA", None]}


def test_categories_that_are_whole_numbers_survive_their_detour_through_floats(
    tmp_path: Path,
) -> None:
    frame = table().assign(carrier=np.r_[np.nan, np.arange(299) % 3])
    made = fit_bundle(frame, SCHEMA, LOGISTIC, folder=tmp_path / "b", seed=0)
    predictor = Predictor.load(made.bundle)
    asked = [{"x": [0.0], "carrier": [value]} for value in (1, 1.0, "1")]
    first, *others = (predictor.predict_proba(columns) for columns in asked)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_trial_of_20_000_rows_is_quick() -> None:
    train = table(20_000)
    began = time.process_time()
    assert trial(LOGISTIC, train=train).status == "complete"
    assert time.process_time() - began < 5  # 0.2 s alone; generous for a busy machine


def test_a_fit_that_never_looks_at_the_clock_is_interrupted(tmp_path, monkeypatch) -> None:
    (tmp_path / "stubborn.py").write_text(
        """\
from models.space import Int, Space

class Trainer:
    space = Space((Int("n", 1, 2),))

    def fit(self, X, y, params, seed):
        while True:
            try:
                sum(range(1_000))
            except Exception:
                pass

trainer = Trainer()
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    began = time.monotonic()
    options = {"trainer": "stubborn:trainer", "seconds": 0.3}
    done = trial({"family": "custom", "custom.n": 1}, **options)
    assert (done.status, done.loss) == ("failed", None)
    assert "FitTimeout" in done.error
    assert time.monotonic() - began < 3
