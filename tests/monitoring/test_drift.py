"""The MMD test as a signal on mixed frames."""

import json

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import _of_each, mmd_signal
from monitoring.records import Kind, to_dict

COLUMNS = {"temp": "number", "wind": "number", "carrier": "category"}


def frame(rows=600, seed=0, shift=0.0):
    return pd.DataFrame(drawn(rows, seed, shift))


def drawn(rows, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {
        "id": np.arange(rows),  # not watched
        "temp": rng.normal(50 + 20 * shift, 20, rows),
        "wind": rng.gamma(2, 5, rows),
        "carrier": rng.choice(["AA", "B6", "UA"], rows),
    }


def signal(current, reference=None, **options):
    reference = frame(1_000, seed=99) if reference is None else reference
    return mmd_signal(reference, current, COLUMNS, **{"rows": 300, **options})


def test_no_drift_is_said_with_its_figures():
    found = signal(frame())
    assert (found.name, found.kind, found.breached) == ("mmd", Kind.DRIFT, False)
    assert found.p_value > 0.001
    assert found.rows == 300
    assert found.detail["reference_rows"] == 300
    assert found.threshold == "p <= 0.001"
    json.dumps(to_dict(found))


def _gaps(current):
    current.loc[::3, "wind"] = None
    return current


CHANGES = {
    "shift": lambda f: f.assign(temp=f["temp"] + 15),
    "new category": lambda f: f.assign(carrier=f["carrier"].replace("AA", "ZZ")),
    "new gaps": _gaps,
    "all missing": lambda f: f.assign(wind=None),
    "mix of categories": lambda f: f.assign(carrier=np.where(f["temp"] > 45, "AA", f["carrier"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_drift_of_every_kind_is_seen(change):
    found = signal(CHANGES[change](frame()))
    assert found.breached is True
    assert found.p_value == 1 / 5_000  # as many permutations as the level needs, and none as far


def test_one_missing_cell_is_no_alarm():
    current = frame()
    current.loc[5, "wind"] = None
    assert signal(current).breached is False


@pytest.mark.parametrize("rows", [0, 1, 199])
def test_too_few_rows_cannot_say(rows):
    found = signal(frame(rows))
    assert found.breached is None
    assert found.reason == f"{rows} current rows; at least 200 are needed"
    assert signal(frame(), reference=frame(rows)).reason.startswith(f"{rows} reference rows")


def test_a_missing_column_cannot_say():
    found = signal(frame().drop(columns="wind"))
    assert found.breached is None
    assert "'wind'" in found.reason


def test_equal_seeds_give_equal_signals():
    assert signal(frame(shift=0.1), seed=4) == signal(frame(shift=0.1), seed=4)
    assert signal(frame(shift=0.1), seed=4).p_value != signal(frame(shift=0.1), seed=5).p_value


def test_a_level_below_the_permutations_gets_more_of_them():
    found = signal(frame(shift=2.0), p_value=0.0004, permutations=99)
    assert found.detail["permutations"] == 4_999
    assert found.breached is True


def test_false_alarms_keep_to_the_level():
    alarms = sum(
        signal(
            frame(120, seed=seed),
            reference=frame(400, seed=seed + 1_000),
            rows=100,
            p_value=0.05,
            permutations=99,
            seed=seed,
            minimum_rows=50,
        ).breached
        for seed in range(150)
    )
    assert 1 <= alarms <= 18  # 7.5 expected


def days(count, first=0, rows=40, seed=0, shift=0.0):
    """Rows whose temperature is their day's weather, with a time."""
    rng = np.random.default_rng(seed)
    parts = []
    for day in range(first, first + count):
        weather = rng.normal(50 + shift, 20)
        part = drawn(rows, seed=int(rng.integers(1e9)))
        minutes = day * 24 * 60 + np.arange(rows)
        parts.append({**part, "temp": rng.normal(weather, 2, rows), "minutes": minutes})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    minutes = pd.to_timedelta(joined.pop("minutes"), "min")
    return pd.DataFrame(joined).assign(time=pd.Timestamp("2026-01-01", tz="UTC") + minutes)


def test_blocks_of_days_take_weather_for_what_it_is():
    reference, window = days(30, seed=1), days(10, first=30, seed=2)
    options = {"rows": 1_200, "p_value": 0.001}
    assert signal(window, reference, **options).breached is True
    found = signal(window, reference, block=pd.Timedelta(days=1), **options)
    assert found.breached is False
    assert found.detail["units"] == [30, 10]
    moved = days(10, first=30, seed=2, shift=60)
    assert signal(moved, reference, block=pd.Timedelta(days=1), **options).breached is True


def test_blocks_enter_with_as_many_rows_on_both_sides():
    """A day of more rows varies less: days would not be alike if one side's had more of them."""
    blocks = np.r_[np.repeat([5, 3], 40), np.repeat(9, 7)]
    picked = _of_each(blocks, 10, np.random.default_rng(0))
    assert np.unique(blocks[picked], return_counts=True)[1].tolist() == [10, 10, 7]
    assert len(set(picked.tolist())) == len(picked) == 27
    found = signal(days(10, first=30), days(30), block=pd.Timedelta(days=1), rows=300)
    assert (found.detail["reference_rows"], found.rows) == (300, 100)


def test_false_alarms_of_days_keep_to_the_level():
    """Days with weather of their own, and more rows a day on one side."""
    options = {"rows": 240, "p_value": 0.05, "minimum_rows": 50, "block": pd.Timedelta(days=1)}
    alarms = sum(
        signal(
            days(8, first=30, rows=60, seed=seed),
            days(30, rows=20, seed=seed + 1_000),
            **options,
        ).breached
        for seed in range(60)
    )
    assert alarms <= 10  # 3 expected


def test_what_moved_is_named():
    found = signal(frame(shift=1.0))
    first = found.detail["moved"][0]
    assert (first["column"], first["what"]) == ("temp", "location")
    assert first["effect"] == pytest.approx(1.0, abs=0.3)
    assert first["p_value"] == 0.001
    assert [each["column"] for each in found.detail["moved"]] == ["temp"]


def test_types_that_changed_on_the_way_are_no_drift():
    """Whole numbers come back as floats, text as categories, where the store kept them."""
    current = frame()
    current["temp"] = current["temp"].round()
    kept = current.assign(
        temp=current["temp"].astype(object), carrier=current["carrier"].astype("category")
    )
    reference = frame(1_000, seed=99).assign(temp=lambda f: f["temp"].round().astype("Int64"))
    found = signal(kept, reference)
    assert found.breached is False
    assert found.p_value == signal(current, reference).p_value


def test_blocks_without_times_or_in_too_few_ways_cannot_say():
    reference, window, day = days(30), days(2, first=30, rows=120), pd.Timedelta(days=1)
    assert "no times" in signal(window.drop(columns="time"), reference, block=day).reason
    found = signal(window, reference, block=day, p_value=0.001)
    assert found.breached is None
    assert "too few ways" in found.reason
    assert "at least 2" in signal(days(1, rows=300), reference, block=day).reason
