"""The flights as a model meets them; made rows, so that the data package is not needed."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from deployments.demo import flights as fl
from deployments.demo.world import labelled
from models.errors import DataFault

NEW_YORK = ZoneInfo("America/New_York")


def flight(
    local="2013-01-05 10:30", arrives=1200, *, delay=0.0, dest="BOS", origin="JFK", number=1
):
    due = datetime.fromisoformat(local).replace(tzinfo=NEW_YORK)
    hour = due.replace(minute=0).astimezone(fl.UTC)
    return {
        "sched_dep_time": due.hour * 100 + due.minute,
        "sched_arr_time": arrives,
        "arr_delay": delay,
        "carrier": "AA",
        "flight": number,
        "origin": origin,
        "dest": dest,
        "distance": 187,
        "minute": due.minute,
        "time_hour": hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def prepared(*rows, weather=()):
    columns = ["origin", "time_hour", *fl.WEATHER]
    airports = pd.DataFrame(
        {
            "faa": ["BOS", "LAX", "HNL"],
            "tzone": ["America/New_York", "America/Los_Angeles", "Pacific/Honolulu"],
        }
    )
    measured = pd.DataFrame([dict.fromkeys(columns, 1.0) | w for w in weather], columns=columns)
    measured["time_hour"] = measured["time_hour"].astype("str")
    measured["origin"] = measured["origin"].astype("str")
    return fl.prepare(pd.DataFrame(list(rows)), measured, airports)


def test_event_time_is_the_due_departure_in_utc_in_winter_and_summer():
    rows = prepared(flight("2013-01-05 10:30"), flight("2013-07-05 10:30", number=2))
    assert [str(t) for t in rows["time"]] == [
        "2013-01-05 15:30:00+00:00",
        "2013-07-05 14:30:00+00:00",
    ]
    assert list(rows["departure_minute"]) == [630, 630]


@pytest.mark.parametrize(
    ("local", "arrives", "dest", "minutes"),
    [
        ("2013-01-05 10:30", 1200, "BOS", 90),  # same zone
        ("2013-01-05 10:30", 1330, "LAX", 360),  # three zones west
        ("2013-01-05 23:30", 45, "BOS", 75),  # past midnight
        ("2013-01-05 20:00", 130, "LAX", 510),  # past midnight there only
        ("2013-07-05 10:00", 1500, "HNL", 660),  # six zones west: Hawaii keeps no summer time
        ("2013-07-05 08:00", 1145, "SJU", 225),  # not among the airports; no summer time either
    ],
)
def test_label_exists_at_the_scheduled_arrival_plus_the_delay(local, arrives, dest, minutes):
    rows = prepared(flight(local, arrives, delay=20.0, dest=dest))
    assert rows["arrived"][0] - rows["time"][0] == timedelta(minutes=minutes + 20)


def test_late_is_more_than_fifteen_minutes_and_a_cancelled_flight_is_never_labelled():
    rows = prepared(*(flight(delay=d, number=i) for i, d in enumerate([15.0, 16.0, -9.0, np.nan])))
    assert list(rows["late"][:3]) == [0, 1, 0]
    assert np.isnan(rows["late"][3])
    assert pd.isna(rows["arrived"][3])
    assert len(labelled(rows, fl.YEAR_STARTS + timedelta(days=365))) == 3


def test_weather_is_that_of_the_origin_in_the_hour_of_departure():
    at = "2013-01-05T15:00:00Z"
    rows = prepared(
        flight(),
        flight(origin="LGA", number=2),
        weather=[
            {"origin": "JFK", "time_hour": at, "temp": 30.0},
            {"origin": "LGA", "time_hour": "2013-01-05T16:00:00Z", "temp": 99.0},
        ],
    )
    by_origin = rows.set_index(rows["origin"].astype(str))["temp"]
    assert by_origin["JFK"] == 30.0
    assert np.isnan(by_origin["LGA"])  # its hour was not measured


def test_departures_are_counted_by_origin_and_hour():
    rows = prepared(flight(), flight(number=2), flight(origin="LGA", number=3))
    assert sorted(rows["departures_in_hour"]) == [1, 2, 2]


def test_no_input_numbers_the_day_of_the_year():
    one = prepared(flight("2013-01-05 10:30"))
    another = prepared(flight("2013-12-07 10:30"))  # also a Saturday
    pd.testing.assert_frame_equal(
        one[list(fl.INPUTS)], another[list(fl.INPUTS)], check_categorical=False
    )


def test_the_first_table_holds_only_what_was_known():
    now = fl.YEAR_STARTS + 10 * fl.DAY  # 3 o'clock at night of the 11th
    rows = prepared(
        flight("2013-01-05 10:30"),
        flight("2013-01-10 23:59", arrives=700, dest="LAX", number=2),  # still in the air
        flight("2013-01-11 10:30", number=3),  # not yet due
        flight("2013-01-05 10:30", delay=np.nan, number=4),  # cancelled
    )
    table = fl.WORLD.table(rows, now)
    assert len(table) == 1
    assert list(table.columns) == ["time", *fl.INPUTS, "late"]
    assert table["late"].dtype == np.int64


def test_an_absent_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(fl.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataFault, match=r"not installed.*pip install.*flights"):
        fl.load()


def test_a_package_without_its_files_is_named_too(monkeypatch, tmp_path):
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})()
    monkeypatch.setattr(fl.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataFault, match=r"data/flights\.csv\.zip"):
        fl.load()
