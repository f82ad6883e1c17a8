"""Which of the gate's rows came together, and what of a run that died is taken as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from models import registry_files, training
from models.bundle import Predictor
from models.gate import GateRule
from tasks import lineage, prove, snapshot
from tasks.config import Telemetry, load
from tasks.prove import _groups, _slices
from tasks.records import Tuned
from tasks.rows import TIME


def test_the_gates_groups_are_stretches_of_its_block():
    times = pd.to_datetime(
        ["2024-01-01 09:00", "2024-01-02 08:59", "2024-01-02 09:00", None], utc=True
    )
    holdout = pd.DataFrame({TIME: times})
    config = SimpleNamespace(gate=GateRule(block=timedelta(days=1)))
    assert _groups(config, holdout).tolist() == [0, 0, 1, -1]
    assert _groups(SimpleNamespace(gate=GateRule()), holdout) is None


def test_what_is_never_stored_is_in_no_file_of_a_version(tiny_config, tmp_path):
    config = load(tiny_config, telemetry__never_store=["carrier", "wind"])
    rows = snapshot.everything.fn(config, tmp_path / "retrain", datetime(2013, 2, 1, tzinfo=UTC))
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    tuned = Tuned(params, loss=0.5, trials=1, failed=0, seconds=1.0, stopped="")
    made = prove.fit.fn(config, rows, tuned)
    held = pd.read_parquet(rows.training)
    prove._keep_proof(config, rows, held, np.full((len(held), 2), 0.5))
    for name in (lineage.REFERENCE, lineage.PROOF):
        kept = set(pd.read_parquet(rows.folder / name).columns)
        assert {"hour", "visibility"} <= kept
        assert not {"carrier", "wind"} & kept
    predictor = Predictor.load(made.bundle)
    predictor.self_check()
    assert predictor.example["carrier"] == predictor.example["wind"] == [None] * 3
    assert None not in predictor.example["hour"]
    shown = registry_files.example(predictor)
    assert shown["wind"].isna().all()
    everything = config.model_copy(update={"telemetry": Telemetry()})
    again = prove.fit.fn(everything, rows, tuned)  # what a run that died has left is not taken
    assert None not in Predictor.load(again.bundle).example["wind"]


def test_the_gate_looks_into_the_slices_that_the_config_asks_about(tiny_config, small_frame):
    config = load(tiny_config)
    assert _slices(config, small_frame) == {}
    tolerant = replace(config.gate, slice_tolerance=0.05)
    monitored = config.monitor.model_copy(update={"slices": ["hour"]})
    for update, names in (
        ({"gate": tolerant}, ["carrier"]),  # every category
        ({"approval": "required"}, ["carrier"]),
        ({"monitor": monitored}, ["hour"]),
        ({"monitor": monitored, "gate": tolerant}, ["hour", "carrier"]),
    ):
        found = _slices(config.model_copy(update=update), small_frame)
        assert list(found) == names
        assert all(len(values) == len(small_frame) for values in found.values())


def test_a_fitted_model_is_taken_as_it_is_unless_its_recipe_changed(
    tiny_config, tmp_path, monkeypatch
):
    config = load(tiny_config)
    rows = snapshot.everything.fn(config, tmp_path / "retrain", datetime(2013, 2, 1, tzinfo=UTC))
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    tuned = Tuned(params, loss=0.5, trials=1, failed=0, seconds=1.0, stopped="")
    first = prove.fit.fn(config, rows, tuned)

    def fitted_again(*_args, **_options):
        raise AssertionError("it was fitted again")

    monkeypatch.setattr(training, "fit_bundle", fitted_again)
    assert prove.fit.fn(config, rows, tuned) == first
    other = config.train.model_copy(update={"seed": 7})
    for changed in (
        (config, rows, replace(tuned, params={**params, "logistic.C": 2.0})),
        (config, replace(rows, digest="of other rows"), tuned),
        (config.model_copy(update={"train": other}), rows, tuned),
    ):
        with pytest.raises(AssertionError, match="fitted again"):
            prove.fit.fn(*changed)
    next(Path(first.bundle).glob("*.json")).write_text("damaged", encoding="utf-8")
    with pytest.raises(AssertionError, match="fitted again"):
        prove.fit.fn(config, rows, tuned)
