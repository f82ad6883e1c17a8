"""`train.adapt`: ways to adapt are searched, and what is chosen is fitted towards served rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from deployments.check import check
from models.bundle import Predictor
from monitoring.records import Label, Prediction
from tasks import places, prove, rows, searchers
from tasks.config import ConfigFault, load
from tasks.records import Tuned
from tasks.snapshot import discard, snapshot

NOW = datetime(2013, 1, 9, 6, tzinfo=UTC)


@pytest.fixture
def config(tiny_config):
    text = tiny_config.read_text()
    tiny_config.write_text(text.replace("train:\n", "train:\n  adapt: [weights, self]\n", 1))
    return load(tiny_config)


def served(config, count: int, *, labelled: int = 0) -> None:
    """Rows of a stormier world; of the first ones the label has come."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        values = {"carrier": "AA", "hour": int(rng.integers(6, 23)), "wind": 30.0 + float(i % 7)}
        when = NOW - timedelta(hours=20) + timedelta(minutes=i)
        made.append(Prediction(f"p{i}", when, "1", {**values, "visibility": 5.0}, (0.5, 0.5), 1.0))
    with places.telemetry(config) as store:
        store.record(made)
        store.label([Label(f"p{i}", "late", NOW - timedelta(hours=1)) for i in range(labelled)])


def test_the_search_has_the_ways_and_tries_each_family_s_default_with_each(config) -> None:
    searcher, first, warm = searchers.searcher(config, None)
    assert not warm
    assert searcher.space["logistic.adapt"].choices == ("none", "weights", "self")
    assert [params["logistic.adapt"] for params in first] == ["none", "weights", "self"]
    plain = load_plain(config)
    assert "logistic.adapt" not in searchers.searcher(plain, None)[0].space


def load_plain(config):
    return config.model_copy(update={"train": config.train.model_copy(update={"adapt": []})})


def test_rows_without_a_label_are_what_a_model_adapts_to(config) -> None:
    served(config, 80, labelled=20)
    found = rows.unlabelled(config, NOW)
    assert list(found.columns) == list(config.data.columns)
    assert len(found) == 60
    assert len(rows.unlabelled(config, NOW, most=10)) == 10
    assert len(rows.unlabelled(config, NOW - timedelta(hours=2))) == 80  # no label had come
    hidden = config.telemetry.model_copy(update={"never_store": ["wind"]})
    assert len(rows.unlabelled(config.model_copy(update={"telemetry": hidden}), NOW)) == 0


def test_the_final_fit_is_towards_the_served_rows_that_were_frozen_with_the_others(config) -> None:
    served(config, 80)
    frozen = snapshot.fn(config, "w1", NOW)
    assert len(pd.read_parquet(frozen.served)) == 80
    plain = snapshot.fn(load_plain(config), "w2", NOW)
    assert not plain.served.exists()

    def answer(folder):
        way = {"logistic.adapt": "weights", "logistic.adapt_strength": 1.0}
        params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none", **way}
        tuned = Tuned(params, 0.5, 1, 0, 1.0, "")
        made = prove.fit.fn(config, replace(frozen, folder=folder), tuned)
        return Predictor.load(made.bundle).predict_proba(
            {"carrier": ["AA"], "hour": [12], "wind": [31.0], "visibility": [5.0]}
        )[0, 1]

    adapted = answer(frozen.folder)
    newest = answer(plain.folder)  # nothing served: towards the newest that it learns
    assert abs(float(adapted - newest)) > 1e-6
    discard(config, "w1")
    assert not frozen.served.exists()


def test_too_few_served_rows_are_not_frozen(config) -> None:
    served(config, 20)
    assert not snapshot.fn(config, "w1", NOW).served.exists()


def test_a_way_that_no_family_has_is_a_fault(config, tiny_config) -> None:
    text = tiny_config.read_text()
    tiny_config.write_text(text.replace("[weights, self]", "[weights, mmd]"))
    fault = "train.adapt: logistic cannot adapt by mmd: take it out, or add a family that can"
    assert any(fault in line for line in check(tiny_config).faults)
    tiny_config.write_text(text.replace("[weights, self]", "[weights, weights]"))
    with pytest.raises(ConfigFault, match=r"train.adapt: a way to adapt stands once"):
        load(tiny_config)


def test_served_rows_are_a_domain_with_the_labels_that_have_come(config) -> None:
    from models.errors import DataFault
    from tasks.transfer_sides import codes, sides

    served(config, 80, labelled=30)
    file = str(config.data.source)
    ask = {"by": None, "now": NOW, "rows_each": 500, "seed": 0}
    source, target, by = sides(config, file, "served", **ask)
    assert by is None
    assert (source.name, target.name) == ("flights.csv", "served")
    assert len(source.frame) == 500
    assert (codes(config, target.frame) >= 0).sum() == 30
    assert list(target.frame) == [*config.data.columns, config.data.target]
    with pytest.raises(DataFault, match="the source has to have labels, got none in the 80 rows"):
        sides(config, "served", file, **{**ask, "now": NOW - timedelta(hours=2)})
