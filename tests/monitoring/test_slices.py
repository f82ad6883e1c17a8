"""Performance by slice: the same rows under the same name, and intervals that hold together."""

import json

import numpy as np
import pandas as pd
import pytest

from monitoring.errors import WindowFault
from monitoring.performance import performance_signals
from monitoring.records import Kind, to_dict
from monitoring.slices import SliceThreshold, slice_signals

COLUMNS = {"origin": "category", "distance": "number", "dest": "category"}


def flights(n=2_000, seed=0, wrong=()) -> pd.DataFrame:
    """Answers that are honest everywhere but from the origins in `wrong`, where they are noise."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.95, n)
    origin = rng.choice(["EWR", "JFK", "LGA"], n)
    label = (rng.random(n) < truth).astype(int)
    said = np.where(np.isin(origin, wrong), 1 - truth, truth)
    return pd.DataFrame(
        {
            "origin": pd.Series(origin, dtype=object),
            "distance": rng.uniform(100, 2_500, n),
            "dest": pd.Series([f"D{v}" for v in rng.zipf(1.5, n) % 30], dtype=object),
            "label": pd.Series(label, dtype=object),
            "proba": [[1 - p, p] for p in said],
        }
    )


def sliced(matured, slices, thresholds=(), reference=None, **options):
    reference = flights(seed=99) if reference is None else reference
    found = slice_signals(
        matured, reference, COLUMNS, slices, (0, 1), thresholds, **{"resamples": 300, **options}
    )
    for signal in found:
        assert signal.kind is Kind.PERFORMANCE
        json.dumps(to_dict(signal))
    return {s.name: s for s in found}


def test_slices_are_values_and_quarters_and_cover_every_row():
    matured = flights()
    found = sliced(matured, ["origin"])
    assert set(found) == {f"log_loss[origin={o}]" for o in ("EWR", "JFK", "LGA")}
    assert sum(s.rows for s in found.values()) == len(matured)
    found = sliced(matured, ["distance"])
    names = list(found)
    assert len(names) == 4
    assert names[0].startswith("log_loss[distance<")
    assert "<=distance<" in names[1]
    assert names[3].startswith("log_loss[distance>=")
    assert sum(s.rows for s in found.values()) == len(matured)
    assert all(abs(s.rows - 500) < 100 for s in found.values())
    found = sliced(matured, ["dest"], values=3)
    assert len(found) == 4
    assert "log_loss[other dest]" in found
    assert sum(s.rows for s in found.values()) == len(matured)


def test_a_slice_has_the_figure_of_its_rows():
    matured = flights()
    jfk = matured[matured["origin"] == "JFK"]
    (alone,) = performance_signals(jfk, (0, 1), (), {})
    found = sliced(matured, ["origin"])["log_loss[origin=JFK]"]
    assert found.value == pytest.approx(alone.value)
    assert found.low < alone.low < alone.high < found.high  # corrected for three slices


def test_missing_and_new_values_are_slices_too():
    matured = flights()
    matured.loc[:299, "distance"] = np.nan
    matured.loc[:299, "origin"] = None
    matured.loc[300:599, "origin"] = "HPN"
    found = sliced(matured, ["origin", "distance"])
    assert found["log_loss[origin missing]"].rows == 300
    assert found["log_loss[distance missing]"].rows == 300
    assert found["log_loss[other origin]"].rows == 300
    assert sum(s.rows for n, s in found.items() if "origin" in n) == len(matured)


def test_a_slice_that_fails_stands_out_and_breaches_only_where_a_threshold_names_it():
    matured = flights(wrong=("JFK",))
    found = sliced(matured, ["origin"])
    assert found["log_loss[origin=JFK]"].detail["stands_out"] is True
    assert found["log_loss[origin=EWR]"].detail["stands_out"] is False
    assert {s.breached for s in found.values()} == {False}
    found = sliced(matured, [], (SliceThreshold(metric="log_loss", above=0.8, slice="origin"),))
    assert {n for n, s in found.items() if s.breached} == {"log_loss[origin=JFK]"}
    assert found["log_loss[origin=JFK]"].threshold == "log_loss > 0.8 in a slice of origin"


def test_worse_by_compares_with_the_same_slice_of_the_reference():
    limit = (SliceThreshold(metric="error", worse_by=0.1, slice="origin"),)
    always = flights(wrong=("JFK",), seed=99)  # a hard slice, and as hard as ever
    found = sliced(flights(wrong=("JFK",)), ["origin"], limit, reference=always)
    assert {s.breached for s in found.values()} == {False}
    found = sliced(flights(wrong=("JFK",)), ["origin"], limit)
    assert {n for n, s in found.items() if s.breached} == {"error[origin=JFK]"}
    blind = flights(seed=99).drop(columns=["proba"])
    found = sliced(flights(), ["origin"], limit, reference=blind)
    assert found["error[origin=JFK]"].breached is None
    assert "no figure for error" in found["error[origin=JFK]"].reason


def test_of_many_slices_that_are_all_alike_few_windows_have_one_that_stands_out():
    """22 slices at 95 % each would put more than half of the windows in the wrong."""
    windows, alarms = 30, 0
    limit = tuple(SliceThreshold(metric="error", above=0.275, slice=c) for c in COLUMNS)
    for seed in range(windows):  # the error of an honest answer is 0.275 in all of them
        found = sliced(flights(700, seed), list(COLUMNS), limit, metrics=(), values=15)
        alarms += any(s.breached for s in found.values())
    assert alarms <= 5


def test_small_slices_and_single_classes_say_so():
    found = sliced(flights(200), ["dest"], values=20)
    few = [s for s in found.values() if s.rows < 50]
    assert few
    assert {s.breached for s in few} == {None}
    matured = flights()
    matured.loc[matured["origin"] == "JFK", "label"] = 1
    found = sliced(matured, ["origin"], metrics=("roc_auc",))
    assert found["roc_auc[origin=JFK]"].breached is None
    assert "all of one class" in found["roc_auc[origin=JFK]"].reason
    none = sliced(flights().iloc[:0], ["origin"])
    assert {s.breached for s in none.values()} == {None}
    assert sliced(flights(), []) == {}


def test_slices_that_cannot_be_are_refused():
    with pytest.raises(WindowFault, match="number or category columns"):
        sliced(flights(), ["carrier"])
    with pytest.raises(WindowFault, match=r"matured rows lack \['dest'\]"):
        sliced(flights().drop(columns=["dest"]), ["dest"])
    with pytest.raises(WindowFault, match="correct the metric"):
        sliced(flights(), ["origin"], metrics=("latency_p95_ms",))


def test_constant_and_short_numbers_have_fewer_quarters():
    reference = flights(seed=99).assign(distance=500.0)
    found = sliced(flights(), ["distance"], reference=reference)
    assert list(found) == ["log_loss[distance]"]
    reference = flights(seed=99).assign(distance=[0.0, 0.0, 0.0, 1.0] * 500)
    assert len(sliced(flights(), ["distance"], reference=reference)) in (1, 2)


def test_a_slice_threshold_is_configured_as_any_other():
    from pydantic import TypeAdapter, ValidationError

    read = TypeAdapter(list[SliceThreshold]).validate_python
    (found,) = read([{"metric": "log_loss", "slice": "origin", "worse_by": 0.1}])
    assert found == SliceThreshold(metric="log_loss", slice="origin", worse_by=0.1)
    with pytest.raises(ValidationError):
        read([{"metric": "log_loss", "worse_by": 0.1}])
    with pytest.raises(ValidationError):
        read([{"metric": "log_loss", "slice": "origin"}])


def test_worse_by_holds_the_difference_between_two_uncertain_slices():
    limit = (SliceThreshold(metric="error", worse_by=0.0, slice="origin"),)
    few, many = flights(700, seed=99), flights(20_000, seed=99)
    unsure = sliced(flights(), ["origin"], limit, reference=few)["error[origin=JFK]"].detail
    sure = sliced(flights(), ["origin"], limit, reference=many)["error[origin=JFK]"].detail
    assert unsure["change_low"] < unsure["change"] < unsure["change_high"]
    wide, narrow = (d["change_high"] - d["change_low"] for d in (unsure, sure))
    assert wide > 1.3 * narrow
