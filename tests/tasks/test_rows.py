"""Which rows a retrain learns from, and which ones stay unseen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from models.errors import DataFault
from models.gate import GateRule
from monitoring.records import Label, Prediction
from tasks import places, rows
from tasks.config import load

NOW = datetime(2013, 1, 7, 6, tzinfo=UTC)


def answered(config, when: datetime, *, label_after: timedelta | None, name: str) -> None:
    features = {"carrier": "AA", "hour": 8, "wind": 3.0, "visibility": None}
    with places.telemetry(config) as store:
        store.record([Prediction(name, when, "1", features, (0.5, 0.5), 1.0)])
        if label_after is not None:
            store.label([Label(name, "late", when + label_after)])


def test_the_future_of_the_file_is_not_read(tiny_config):
    config = load(tiny_config)
    early = datetime(2013, 1, 2, tzinfo=UTC)
    frame = rows.labelled(config, early)
    assert 0 < len(frame) < 600
    assert frame[rows.TIME].max() <= pd.Timestamp(early)
    assert frame[rows.TIME].is_monotonic_increasing


def test_served_rows_follow_the_file_once_their_label_has_come(tiny_config):
    config = load(tiny_config)
    answered(config, NOW + timedelta(hours=1), label_after=timedelta(hours=2), name="in time")
    answered(config, NOW + timedelta(hours=2), label_after=timedelta(days=9), name="too late")
    answered(config, NOW + timedelta(hours=3), label_after=None, name="never")
    frame = rows.labelled(config, NOW + timedelta(days=1))
    assert len(frame) == 601
    assert frame.iloc[-1]["late"] == "late"
    assert frame.iloc[-1][rows.TIME] == pd.Timestamp(NOW + timedelta(hours=1))


def test_rows_of_the_file_that_were_also_served_count_once(tiny_config):
    config = load(tiny_config)
    inside = datetime(2013, 1, 3, tzinfo=UTC)  # the file reaches to 7 January
    answered(config, inside, label_after=timedelta(hours=1), name="in the file too")
    assert len(rows.labelled(config, NOW)) == 600


def test_a_column_the_file_lacks_is_named(tiny_config, small_frame):
    small_frame.drop(columns=["wind"]).to_csv(tiny_config.parent / "flights.csv", index=False)
    with pytest.raises(DataFault, match=r"missing: \['wind'\]"):
        rows.labelled(load(tiny_config), NOW)


def frame_of(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": np.arange(n, dtype=float),
            "y": np.arange(n) % 2,
            rows.TIME: pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC"),
        }
    )


def test_the_newest_rows_are_held_back_and_only_those_the_champion_has_not_seen():
    frame = frame_of(1_000)
    training, holdout = rows.hold_back(frame, GateRule(rows=100), timed=True, unseen_after=None)
    assert (len(training), len(holdout)) == (900, 100)
    assert training[rows.TIME].max() < holdout[rows.TIME].min()
    seen = frame[rows.TIME].iloc[949].to_pydatetime()
    training, holdout = rows.hold_back(frame, GateRule(rows=100), timed=True, unseen_after=seen)
    assert len(training) == 900
    assert holdout["a"].tolist() == list(range(950, 1_000))


def test_a_small_table_keeps_most_rows_for_training():
    training, holdout = rows.hold_back(frame_of(200), GateRule(), timed=True, unseen_after=None)
    assert (len(training), len(holdout)) == (160, 40)


def test_without_times_no_generation_learns_what_the_gate_asks():
    rule = GateRule(rows=10_000)
    first = frame_of(1_000)
    grown = pd.concat([frame_of(1_500).iloc[1_000:], first]).sample(frac=1.0, random_state=1)
    learnt, _ = rows.hold_back(first, rule, timed=False, unseen_after=None)
    _, asked = rows.hold_back(grown, rule, timed=False, unseen_after=None)
    assert not set(learnt["a"]) & set(asked["a"])
    assert 150 < len(rows.hold_back(first, rule, timed=False, unseen_after=None)[1]) < 250


def test_rows_of_a_data_fault_are_learnt_only_when_somebody_has_called_them_good(tiny_config):
    from dataclasses import replace

    from monitoring.policy_state import PolicyState

    config = load(tiny_config)
    hours = [1, 10, 30, 50]
    for hour in hours:
        answered(config, NOW + timedelta(hours=hour), label_after=timedelta(0), name=f"h{hour}")
    fault = (NOW + timedelta(hours=10), NOW + timedelta(hours=50))
    with places.telemetry(config) as store:
        store.save_state(config.name, PolicyState(faults=(fault,)).to_dict())
    now = NOW + timedelta(days=4)

    def learnt(**rules):
        policy = replace(config.policy, **rules)
        frame = rows.labelled(config.model_copy(update={"policy": policy}), now)
        since = frame[rows.TIME].iloc[600:] - pd.Timestamp(NOW)
        return (since / pd.Timedelta(hours=1)).tolist()

    assert learnt() == [1, 50]
    assert learnt(learn_faults=True) == hours
    tenth = (NOW + timedelta(hours=10)).date()
    assert learnt(good_days=(tenth,)) == [1, 10, 50]
