"""What every drift detector promises, run against each of them in `monitoring`.

A detector is any public function of the package that takes `reference`, `current` and `columns`
and answers with a Signal; new ones are found by themselves.
"""

import importlib
import inspect
import json
import pkgutil

import numpy as np
import pandas as pd
import pytest

import monitoring
from monitoring.records import Kind, Signal, to_dict
from monitoring.wording import say

COLUMNS = {"temp": "number", "wind": "number", "carrier": "category", "late": "category"}


def _found():
    for module in pkgutil.walk_packages(monitoring.__path__, "monitoring."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or not inspect.isfunction(value):
                continue
            signature = inspect.signature(value)
            takes = list(signature.parameters)[:3] == ["reference", "current", "columns"]
            if (
                value.__module__ == module.name
                and takes
                and signature.return_annotation == "Signal"
            ):
                yield pytest.param(value, id=name)


DETECTORS = list(_found())


def frame(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": rng.normal(50, 20, rows),
            "wind": rng.gamma(2, 5, rows),
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
            "late": rng.random(rows) < 0.3,
        }
    )


REFERENCE = frame(800, seed=1)


def moved(rows=500):
    return frame(rows).assign(temp=lambda f: f["temp"] + 25, carrier="ZZ", late=True)


@pytest.fixture(params=DETECTORS)
def detect(request):
    def run(current, reference=REFERENCE, **options) -> Signal:
        signal = request.param(reference, current, COLUMNS, **options)
        assert signal.kind is Kind.DRIFT
        assert signal.name
        assert signal.threshold
        assert (signal.breached is None) == bool(signal.reason)
        json.dumps(to_dict(signal), allow_nan=False)
        assert say(signal)
        return signal

    return run


def test_the_detectors_are_found():
    assert {p.id for p in DETECTORS} >= {"mmd_signal", "drift_report"}


def test_the_reference_against_itself_is_quiet(detect):
    assert detect(REFERENCE).breached is False


def test_a_window_of_the_same_world_is_quiet(detect):
    assert detect(frame()).breached is False


def test_a_window_of_another_world_is_not(detect):
    assert detect(moved()).breached is True


def test_the_same_rows_give_the_same_word(detect):
    assert detect(frame(seed=3)) == detect(frame(seed=3))


def test_row_labels_do_not_matter(detect):
    current = moved()
    assert detect(current.set_index(np.arange(500)[::-1])) == detect(current)
    assert detect(current.set_index(np.zeros(500))) == detect(current)


def test_other_columns_do_not_matter(detect):
    extra = moved().assign(id=range(500), proba=[[0.5, 0.5]] * 500, label=None)
    assert detect(extra) == detect(moved())


@pytest.mark.parametrize("rows", [0, 1, 2, 199])
def test_too_few_rows_are_unknown_on_either_side(detect, rows):
    assert detect(moved().head(rows)).breached is None
    assert detect(moved(), REFERENCE.head(rows)).breached is None


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_unknown_on_either_side(detect, column):
    assert detect(moved().drop(columns=column)).breached is None
    assert detect(moved(), REFERENCE.drop(columns=column)).breached is None


@pytest.mark.parametrize("column", COLUMNS)
def test_an_empty_column_never_hides_what_the_others_show(detect, column):
    current = moved()
    current[column] = None
    assert detect(current).breached is True


def test_columns_empty_on_both_sides_are_no_drift(detect):
    reference, current = REFERENCE.copy(), frame()
    for rows in (reference, current):
        rows["wind"] = np.nan
        rows["carrier"] = None
    assert detect(current, reference).breached is False


def test_nan_and_infinity_in_a_few_cells_are_no_alarm(detect):
    current = frame()
    current.loc[3, "temp"] = np.nan
    current.loc[4, "wind"] = np.inf
    current.loc[5, "wind"] = -np.inf
    current.loc[6, "carrier"] = None
    assert detect(current).breached is False


def test_constant_columns_are_no_alarm(detect):
    constant = {"temp": 1.0, "carrier": "AA"}
    assert detect(frame().assign(**constant), REFERENCE.assign(**constant)).breached is False


def test_the_frames_are_left_as_they_were(detect):
    reference, current = REFERENCE.copy(), moved()
    detect(current, reference)
    pd.testing.assert_frame_equal(reference, REFERENCE)
    pd.testing.assert_frame_equal(current, moved())
