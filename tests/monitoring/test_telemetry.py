"""The telemetry store: nothing lost, nothing twice, and a replay that sees no later label."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.errors import RecordFault, WindowFault
from monitoring.records import (
    Action,
    Decision,
    Kind,
    Label,
    LabelResult,
    Prediction,
    Signal,
    Signals,
    Window,
    to_dict,
)
from monitoring.telemetry import TelemetryStore

ACCEPTED, DUPLICATE = LabelResult.ACCEPTED, LabelResult.DUPLICATE
CONTRADICTED, UNKNOWN = LabelResult.CONTRADICTED, LabelResult.UNKNOWN
START = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(store_url: str) -> Iterator[TelemetryStore]:
    with TelemetryStore(store_url) as opened:
        yield opened


def prediction(number: int, version: str = "1", **features: object) -> Prediction:
    """Prediction p<number>, made `number` hours after START."""
    return Prediction(
        id=f"p{number}",
        time=START + number * HOUR,
        version=version,
        features={"carrier": "UA", "wind": 1.5 * number, **features},
        probabilities=(0.25, 0.75),
        latency_ms=2.5,
    )


def label(number: int, value: object = "late", hours_later: float = 3) -> Label:
    return Label(f"p{number}", value, START + (number + hours_later) * HOUR)


# -- predictions --------------------------------------------------------------------------------


def test_a_prediction_comes_back_as_it_went_in(store: TelemetryStore) -> None:
    features = {"carrier": "Zoë — 'x'; --", "n": 7, "wind": 0.1, "wet": True, "gust": None}
    store.record([replace(prediction(0), features=features)])

    row = store.rows(None, None).iloc[0]

    assert row["id"] == "p0"
    assert row["version"] == "1"
    assert row["time"] == pd.Timestamp(START)
    assert {name: row[name] for name in ("carrier", "n", "wind", "wet")} == {
        "carrier": "Zoë — 'x'; --",
        "n": 7,
        "wind": 0.1,
        "wet": True,
    }
    assert np.isnan(row["gust"])
    assert row["proba"] == [0.25, 0.75]
    assert row["latency_ms"] == 2.5
    assert row["label"] is None
    assert row["label_arrived"] is pd.NaT


def test_the_same_prediction_again_is_ignored_and_counted(store: TelemetryStore) -> None:
    assert store.record([prediction(0), prediction(1)]) == (2, 0)
    other = replace(prediction(1), version="9")
    assert store.record([other, prediction(2), prediction(2)]) == (1, 2)
    assert store.record([]) == (0, 0)
    assert list(store.rows(None, None)["version"]) == ["1", "1", "1"]


def test_missing_and_odd_numbers_are_kept_as_far_as_json_can(store: TelemetryStore) -> None:
    odd = prediction(0, nan=float("nan"), inf=float("inf"), big=10**30, np=np.float64(0.5))
    store.record([odd, prediction(1, nan=1.0, np=np.int64(2))])

    frame = store.rows(None, None)

    assert frame["nan"].isna().tolist() == [True, False]
    assert frame["inf"].isna().all()
    assert float(frame["big"][0]) == 1e30
    assert frame["np"].tolist() == [0.5, 2.0]


def test_a_time_in_another_zone_is_the_same_moment(store: TelemetryStore) -> None:
    new_york = timezone(timedelta(hours=-5))
    store.record([replace(prediction(0), time=datetime(2012, 12, 31, 19, 0, 0, 123456, new_york))])
    assert store.rows(None, None)["time"][0] == pd.Timestamp("2013-01-01T00:00:00.123456Z")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"time": datetime(2013, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"time": datetime(9999, 1, 1, tzinfo=UTC)}, "must lie in"),
        ({"id": ""}, "an id is text"),
        ({"id": "x" * 201}, "an id is text"),
        ({"id": 7}, "an id is text"),
        ({"id": "a\0b"}, "without NUL"),
        ({"id": "\ud800"}, "without NUL"),
        ({"features": {"x": {1, object()}}}, "plain JSON"),
        ({"features": {"x": "\ud800"}}, "plain JSON"),
    ],
)
def test_a_bad_record_is_named_and_its_batch_left_out_whole(
    store: TelemetryStore, bad: dict[str, object], message: str
) -> None:
    with pytest.raises(RecordFault, match=message):
        store.record([prediction(0), replace(prediction(1), **bad)])
    assert store.counts()["predictions"] == 0


# -- labels -------------------------------------------------------------------------------------


def test_each_label_is_answered(store: TelemetryStore) -> None:
    store.record([prediction(0), prediction(1)])

    assert store.label([label(0, "late"), label(7, "late")]) == [ACCEPTED, UNKNOWN]
    assert store.label([label(0, "late", 9)]) == [DUPLICATE]
    assert store.label([label(0, "on time", 9)], source="file") == [CONTRADICTED]
    assert store.label([]) == []

    row = store.rows(None, None).iloc[0]
    assert row["label"] == "late"
    assert row["label_arrived"] == pd.Timestamp(START + 3 * HOUR)
    assert store.conflicts() == [
        {
            "id": "p0",
            "kept": "late",
            "value": "on time",
            "arrived": START + 9 * HOUR,
            "source": "file",
        }
    ]


def test_a_contradiction_sent_again_is_kept_once(store: TelemetryStore) -> None:
    store.record([prediction(0)])
    store.label([label(0, "late")])
    for _ in range(2):
        assert store.label([label(0, "on time")] * 2) == [CONTRADICTED] * 2
    assert store.counts()["conflicts"] == 1


def test_a_label_that_came_first_joins_when_its_prediction_comes(store: TelemetryStore) -> None:
    assert store.label([label(0, 1)]) == [UNKNOWN]
    assert store.label([label(0, 1)]) == [DUPLICATE]
    assert store.label([label(0, 0)]) == [CONTRADICTED]
    assert store.counts() == {
        "predictions": 0,
        "labels": 1,
        "labelled": 0,
        "unknown": 1,
        "conflicts": 1,
        "decisions": 0,
    }
    store.record([prediction(0)])
    assert store.rows(None, None)["label"].tolist() == [1]
    assert store.counts()["unknown"] == 0


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        (1, 1.0, DUPLICATE),
        (1, True, DUPLICATE),
        (0, False, DUPLICATE),
        (0.1, np.float64(0.1), DUPLICATE),
        (1, "1", CONTRADICTED),
        (True, "true", CONTRADICTED),
        ("late", "Late", CONTRADICTED),
        (1, 1.0000001, CONTRADICTED),
        (2**53, 2**53 + 1, CONTRADICTED),
        ("é", "e\u0301", CONTRADICTED),  # text by its characters, without normalisation
    ],
)
def test_values_are_equal_by_number_or_by_text(
    store: TelemetryStore, first: object, second: object, answer: LabelResult
) -> None:
    store.record([prediction(0)])
    assert store.label([label(0, first)]) == [ACCEPTED]
    assert store.label([label(0, second)]) == [answer]
    assert store.label([label(0, first)]) == [DUPLICATE]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_label_without_a_value_is_refused_with_its_batch(
    store: TelemetryStore, value: object
) -> None:
    store.record([prediction(0), prediction(1)])
    with pytest.raises(RecordFault, match="a label needs a value"):
        store.label([label(1), label(0, value)])
    assert store.counts()["labels"] == 0


def test_a_batch_answers_as_if_its_labels_were_sent_one_by_one(tmp_path: Path) -> None:
    rng = random.Random(0)
    sent = [
        replace(label(rng.randrange(12), rng.choice(["a", "b", 1, 1.0])), arrived=START + n * HOUR)
        for n in range(120)
    ]
    with (
        TelemetryStore(f"sqlite:///{tmp_path / 'batch.db'}") as whole,
        TelemetryStore(f"sqlite:///{tmp_path / 'single.db'}") as single,
    ):
        for store in (whole, single):
            store.record([prediction(n) for n in range(8)])  # p8..p11 are unknown
        together = [r for at in (0, 40, 80) for r in whole.label(sent[at : at + 40])]
        apart = [result for item in sent for result in single.label([item])]
        assert together == apart
        assert set(together) == set(LabelResult) - {LabelResult.UNSAMPLED}  # the server says that
        pd.testing.assert_frame_equal(whole.rows(None, None), single.rows(None, None))
        assert whole.conflicts() == single.conflicts()


def test_threads_that_label_at_once_agree_on_one_value(store: TelemetryStore) -> None:
    store.record([prediction(n) for n in range(20)])
    answers: dict[int, list[LabelResult]] = {}

    def send(value: int) -> None:
        answers[value] = store.label([label(n, value) for n in range(20)])

    threads = [threading.Thread(target=send, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for n in range(20):
        row = sorted(answers[value][n] for value in range(4))
        assert row == [ACCEPTED, CONTRADICTED, CONTRADICTED, CONTRADICTED]
    assert store.counts()["conflicts"] == 60


# -- windows ------------------------------------------------------------------------------------


@pytest.fixture
def ten(store: TelemetryStore) -> TelemetryStore:
    """p0..p9 an hour apart, version 2 from p5 on, the even ones labelled three hours later."""
    store.record([prediction(n, "1" if n < 5 else "2") for n in range(10)])
    store.label([label(n) for n in range(0, 10, 2)])
    return store


def ids(frame: pd.DataFrame) -> list[int]:
    return [int(name[1:]) for name in frame["id"]]


def test_rows_are_half_open_in_time_and_in_order(ten: TelemetryStore) -> None:
    assert ids(ten.rows(START + 2 * HOUR, START + 6 * HOUR)) == [2, 3, 4, 5]
    assert ids(ten.rows(START + 2 * HOUR, START + 6 * HOUR, version="2")) == [5]
    assert ids(ten.rows(None, START + 5 * HOUR, labelled_only=True)) == [0, 2, 4]
    assert ids(ten.rows(None, None, limit=3)) == [7, 8, 9]
    assert ids(ten.rows(None, None, labelled_only=True, limit=2)) == [6, 8]
    assert ids(ten.rows(None, None, limit=0)) == []
    with pytest.raises(WindowFault, match="got -1"):
        ten.rows(None, None, limit=-1)


def test_as_of_hides_labels_that_had_not_arrived(ten: TelemetryStore) -> None:
    now = START + 7 * HOUR  # p4's label arrives at this very moment, p6's later
    frame = ten.rows(None, None, as_of=now)
    assert len(frame) == 10
    assert ids(frame[frame["label"].notna()]) == [0, 2, 4]
    assert frame["label_arrived"].notna().tolist() == frame["label"].notna().tolist()
    assert ids(ten.rows(None, None, labelled_only=True, as_of=now)) == [0, 2, 4]
    assert ids(ten.labelled_as_of(START + 3 * HOUR, now)) == [0, 2]
    assert ten.last_label_arrival(as_of=now) == now
    assert ten.last_label_arrival() == START + 11 * HOUR
    assert ten.last_label_arrival(as_of=START) is None


def test_labelled_is_strict_on_both_sides(ten: TelemetryStore) -> None:
    now = START + 100 * HOUR
    assert ids(ten.labelled(START + 2 * HOUR, START + 8 * HOUR, now)) == [4, 6]
    assert ids(ten.labelled(None, None, now, limit_newest=2)) == [6, 8]
    assert ids(ten.labelled(None, None, now, version="2")) == [6, 8]
    assert ids(ten.labelled(None, None, None)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("after", [None, START, START + 2 * HOUR, START + 50 * HOUR])
@pytest.mark.parametrize("as_of", [None, START, START + 7 * HOUR])
def test_new_labels_counts_what_labelled_returns(
    ten: TelemetryStore, after: datetime | None, as_of: datetime | None
) -> None:
    assert ten.new_labels(after, as_of) == len(ten.labelled(after, None, as_of))


def test_a_window_knows_its_rows_its_labels_and_its_name(ten: TelemetryStore) -> None:
    window = ten.window("flights", "1", START, START + 24 * HOUR)
    assert window.id == "flights-v1-20130101T000000Z-20130102T000000Z"
    assert (window.rows, window.labelled, window.coverage) == (5, 3, 0.6)
    early = ten.window("flights", "1", START, START + 24 * HOUR, as_of=START + 5 * HOUR)
    assert (early.id, early.rows, early.labelled) == (window.id, 5, 2)
    everyone = ten.window("flights", None, START, START + 24 * HOUR)
    assert (everyone.version, everyone.rows) == ("all", 10)
    new_york = timezone(timedelta(hours=-5))
    moved = ten.window("flights", "1", START.astimezone(new_york), START + 24 * HOUR)
    assert moved.id == window.id
    assert ten.coverage(START, START + 4 * HOUR) == 0.5
    assert ten.coverage(START, START + 4 * HOUR, version="2") == 0.0
    with pytest.raises(WindowFault, match="ends after it starts"):
        ten.window("flights", "1", START, START)


def test_an_empty_window_has_the_columns_and_types_of_a_full_one(ten: TelemetryStore) -> None:
    full = ten.rows(None, None)
    for empty in (
        ten.rows(START + 50 * HOUR, START + 60 * HOUR),
        ten.rows(None, None, version="none"),
        ten.labelled(START + 50 * HOUR, None, START),
        ten.rows(None, None, limit=0),
    ):
        assert len(empty) == 0
        assert list(empty.columns) == list(full.columns)
        assert (empty.dtypes == full.dtypes).all()


def test_an_empty_store_answers_everything(store: TelemetryStore) -> None:
    frame = store.rows(None, None)
    assert list(frame.columns) == [
        "id",
        "time",
        "version",
        "proba",
        "latency_ms",
        "label",
        "label_arrived",
    ]
    assert str(frame["time"].dtype) == str(frame["label_arrived"].dtype) == "datetime64[ns, UTC]"
    assert len(frame) == 0
    assert store.window("flights", None, START, START + HOUR).coverage == 0.0
    assert store.last_label_arrival() is None
    assert store.new_labels(None, START) == 0
    assert store.decisions() == store.conflicts() == []
    assert store.state("flights") is None


def test_features_may_change_between_rows(store: TelemetryStore) -> None:
    store.record([prediction(0), replace(prediction(1), features={"wind": 3.0, "snow": 2.0})])
    frame = store.rows(None, None)
    assert list(frame.columns)[3:6] == ["carrier", "wind", "snow"]
    assert frame["snow"].isna().tolist() == [True, False]
    assert frame["carrier"].isna().tolist() == [False, True]


def test_a_feature_named_like_a_column_of_the_store_is_refused_by_name(
    store: TelemetryStore,
) -> None:
    store.record([prediction(0, label="x")])
    with pytest.raises(WindowFault, match="may not be called 'label'"):
        store.rows(None, None)


# -- decisions and policy state -------------------------------------------------------------------


def decision(hour: int, action: Action = Action.KEEP) -> Decision:
    window = Window(f"w{hour}", "flights", "1", START, START + hour * HOUR, 5, 3)
    signal = Signal("mmd", Kind.DRIFT, False, value=float("nan"), detail={"n": np.int64(3)})
    return Decision(
        window.id, START + hour * HOUR, action, "rule", ("why",), Signals(window, (signal,))
    )


def test_a_window_is_decided_once(store: TelemetryStore) -> None:
    assert store.save_decision(decision(1, Action.RETRAIN)) is True
    assert store.save_decision(decision(3)) is True
    assert store.save_decision(decision(2)) is True
    assert store.save_decision(decision(1, Action.KEEP)) is False

    found = store.decisions(limit=2)

    assert [d["window_id"] for d in found] == ["w3", "w2"]
    assert store.decision("w1")["action"] == "retrain"
    assert store.decision("w9") is None
    expected = to_dict(decision(3))
    expected["signals"]["items"][0]["value"] = None  # JSON has no NaN
    assert found[0] == expected


def test_the_policy_state_is_replaced_and_kept_per_model(store: TelemetryStore) -> None:
    store.save_state("a", {"breaches": [1, 2], "since": None})
    store.save_state("b", {"x": 1})
    store.save_state("a", {"breaches": []})
    assert store.state("a") == {"breaches": []}
    assert store.state("b") == {"x": 1}
