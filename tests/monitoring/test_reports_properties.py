"""What a report on columns may never depend on, and input at its edges."""

import numpy as np
import pandas as pd
import pytest

from monitoring.reports import drift_report

COLUMNS = {"a": "number", "b": "number", "c": "category"}


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = pd.DataFrame({"a": rng.normal(shift, 1, rows), "b": rng.integers(0, 4, rows) * 1.0})
    made["c"] = rng.choice(list("xyz"), rows)
    made.loc[::9, "a"] = np.nan
    return made


def report(reference, current, columns=COLUMNS, **options):
    return drift_report(reference, current, columns, **{"minimum_rows": 2, **options})


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_order_of_rows_and_columns_and_their_index_do_not_matter(shift):
    reference, current = frame(900, 0), frame(300, 1, shift)
    found = report(reference, current)
    shuffled = current.sample(frac=1, random_state=0)[["c", "b", "a"]]
    assert report(reference.sample(frac=1, random_state=1), shuffled) == found


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_sides_may_be_exchanged(shift):
    here, there = frame(900, 0), frame(300, 1, shift)
    one, other = (report(*sides).detail["columns"] for sides in ((here, there), (there, here)))
    for name in COLUMNS:
        assert one[name]["p_value"] == pytest.approx(other[name]["p_value"])
        assert one[name]["missing_now"] == other[name]["missing_before"]


def test_identical_samples_are_never_drift():
    same = frame(500, 0)
    found = report(same, same.copy(), level=0.5)
    assert found.value == 0
    assert {c["p_value"] for c in found.detail["columns"].values()} == {1.0}


def test_constants_are_compared_as_values():
    columns = {"k": "number", "s": "category"}
    same = pd.DataFrame({"k": np.full(300, 7.0), "s": ["only"] * 300})
    assert report(same, same.head(80), columns).value == 0
    moved = same.head(80).assign(k=8.0, s="other")
    assert report(same, moved, columns).detail["drifted"] == ["k", "s"]


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("minimum", [0, 1])
def test_no_row_or_one_cannot_say(rows, minimum):
    for sides in ((frame(300, 0), frame(rows, 1)), (frame(rows, 1), frame(300, 0))):
        found = report(*sides, minimum_rows=minimum)
        assert found.breached is None
        assert found.reason


@pytest.mark.timeout(180)
def test_of_two_thousand_columns_only_the_moved_one_is_named():
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(2_000)]
    sides = [pd.DataFrame(rng.normal(size=(60, len(names))), columns=names) for _ in range(2)]
    sides[1]["c77"] += 5
    assert report(*sides, dict.fromkeys(names, "number")).detail["drifted"] == ["c77"]
