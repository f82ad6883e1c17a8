"""Evidently's report: fixed tests, the schema check before it, and what it may never call quiet."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from monitoring.records import Kind, to_dict
from monitoring.reports import drift_report, kit, signal
from monitoring.reports.columns import prepare

NUMBERS, CATEGORIES = [f"n{i}" for i in range(6)], [f"c{i}" for i in range(4)]
COLUMNS = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(CATEGORIES, "category")


def frame(rows=1_000, seed=0, shift=0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(shift, 1, rows) for name in NUMBERS}
    columns |= {name: rng.choice(list("abcdef"), rows) for name in CATEGORIES}
    return pd.DataFrame({"id": np.arange(rows), **columns, "latency_ms": rng.normal(size=rows)})


@pytest.fixture(scope="module")
def reference():
    return frame(2_000, seed=99)


def report(reference, current, columns=COLUMNS, **options):
    return drift_report(reference, current, columns, **options)


def test_nothing_moved_is_said_with_the_figures(reference):
    found = report(reference, frame())
    assert (found.name, found.kind, found.breached, found.value) == (
        "evidently", Kind.DRIFT, False, 0.0,
    )  # fmt: skip
    assert found.rows == 1_000
    assert found.threshold == "drifted share >= 0.3"
    assert found.detail["corrected"] == pytest.approx(0.01 / 10)
    assert set(found.detail["columns"]) == set(COLUMNS)
    for column in found.detail["columns"].values():
        assert 0.001 < column["p_value"] <= 1
    json.dumps(to_dict(found), allow_nan=False)


def test_the_share_of_drifted_columns_breaches(reference):
    current = frame()
    current["n0"] += 1
    current["n1"] *= 2
    found = report(reference, current)
    assert (found.breached, found.value) == (False, 0.2)
    current["c0"] = "a"
    found = report(reference, current)
    assert (found.breached, found.value) == (True, pytest.approx(0.3))
    assert found.detail["drifted"] == ["n0", "n1", "c0"]
    assert found.detail["columns"]["c0"]["why"] == "values"


def test_the_tests_are_fixed_whatever_the_size(reference):
    for before, after in ((2_000, 1_000), (600, 60), (60, 600)):
        found = report(reference.head(before), frame(after), minimum_rows=50)
        tests = {name: column["test"] for name, column in found.detail["columns"].items()}
        assert {tests[n] for n in NUMBERS} == {"ks"}
        assert {tests[c] for c in CATEGORIES} == {"chi-square"}


@pytest.mark.parametrize("rows", [60, 400])
def test_small_windows_that_did_not_move_are_quiet(reference, rows):
    counted = [
        report(reference, frame(rows, seed=seed), minimum_rows=50).value for seed in range(12)
    ]
    assert max(counted) <= 0.1  # at most one column of ten
    assert np.mean([value > 0 for value in counted]) <= 0.3


def test_html_is_drawn_on_alarm_only(reference, tmp_path):
    page = tmp_path / "reports" / "w1.html"
    quiet = report(reference, frame(), html=page)
    assert not page.exists()
    assert "html" not in quiet.detail
    loud = report(reference, frame(shift=1.0), html=page)
    assert loud.detail["html"] == str(page)
    assert "<html" in page.read_text(encoding="utf-8")[:2_000]
    assert [p.name for p in page.parent.iterdir()] == ["w1.html"]


def test_the_page_shows_the_figures_that_decided(reference, tmp_path, monkeypatch):
    drawn = []
    draw = kit.draw
    monkeypatch.setattr(kit, "draw", lambda *args: drawn.append(draw(*args)) or drawn[0])
    current = frame(shift=0.15)
    current.loc[::7, "n0"] = None
    found = report(reference, current, share=0.01, html=tmp_path / "w1.html", always_html=True)
    metrics = drawn[0].dict()["metrics"]
    shown = {m["config"]["column"]: m["value"] for m in metrics if "column" in m["config"]}
    decided = {name: column["p_value"] for name, column in found.detail["columns"].items()}
    assert shown == pytest.approx(decided)
    moved = [name for name, p_value in decided.items() if p_value <= 0.01 / 11]  # 11 tests
    assert metrics[0]["value"]["count"] == len(moved) > 0


def test_a_page_that_cannot_be_drawn_silences_no_alarm(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(kit, "draw", lambda *_, **__: 1 / 0)
    found = report(reference, frame(shift=1.0), html=tmp_path / "w1.html")
    assert found.breached is True
    assert found.detail["html_fault"] == "ZeroDivisionError: division by zero"
    assert not list(tmp_path.iterdir())


def test_html_is_drawn_when_asked_for(reference, tmp_path):
    report(reference, frame(), html=tmp_path / "w1.html", always_html=True)
    assert (tmp_path / "w1.html").stat().st_size > 10_000


def test_a_report_that_cannot_be_written_silences_no_alarm(reference, tmp_path, caplog):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    found = report(reference, frame(shift=1.0), html=tmp_path / "blocked" / "w1.html")
    assert found.breached is True
    assert "html" not in found.detail
    assert found.detail["html_fault"]
    assert "was not written" in caplog.text


@pytest.mark.parametrize("rows", [0, 1, 199])
def test_too_few_rows_cannot_say(reference, rows):
    found = report(reference, frame(rows))
    assert found.breached is None
    assert found.reason == f"{rows} current rows; at least 200 are needed"
    assert report(frame(rows), frame()).breached is None


def test_a_missing_column_cannot_say(reference):
    found = report(reference, frame().drop(columns="n3"))
    assert found.breached is None
    assert "lack ['n3']" in found.reason
    assert report(reference.drop(columns="c1"), frame()).breached is None


def test_a_doubled_column_cannot_say(reference):
    current = frame()
    doubled = pd.concat([current, current[["n3"]]], axis=1)
    assert "more than once" in report(reference, doubled).reason


def test_a_column_that_became_empty_is_drift_of_its_own(reference):
    current = frame()
    current["n2"], current["c2"] = None, np.nan
    found = report(reference, current, share=0.2)
    assert found.breached is True
    assert found.detail["drifted"] == ["n2", "c2"]
    assert found.detail["columns"]["n2"]["why"] == "missing values"
    assert found.detail["columns"]["n2"]["test"] is None
    assert report(current, frame()).detail["drifted"] == ["n2", "c2"]


def test_a_column_empty_on_both_sides_is_passed_over(reference):
    before, after = reference.assign(n2=None), frame().assign(n2=np.nan)
    found = report(before, after)
    assert (found.breached, found.value) == (False, 0.0)
    assert found.detail["columns"]["n2"]["test"] is None


def test_nothing_but_empty_columns_cannot_say(reference):
    found = report(reference.assign(n2=None), frame().assign(n2=None), {"n2": "number"})
    assert found.breached is None
    assert found.reason.startswith("no column has a value")


def test_new_gaps_are_drift_though_the_values_did_not_move(reference):
    current = frame()
    current.loc[current.index % 5 < 3, ["n0", "c0"]] = None
    found = report(reference, current)
    assert found.detail["drifted"] == ["n0", "c0"]
    assert found.detail["columns"]["n0"]["missing_now"] == pytest.approx(0.6)


def test_infinities_count_as_missing(reference):
    current = frame()
    current.loc[current.index % 2 == 0, "n0"] = np.inf
    assert report(reference, current).detail["columns"]["n0"]["why"] == "missing values"


def test_text_in_a_number_column_counts_as_missing(reference):
    current = frame()
    current["n0"] = ["oops", *current["n0"].tolist()[1:]]
    found = report(reference, current)
    assert found.breached is False
    assert found.detail["columns"]["n0"]["missing_now"] == pytest.approx(0.001)


def test_new_categories_are_drift(reference):
    current = frame()
    current["c0"] = current["c0"].replace("a", "brand new")
    assert report(reference, current).detail["drifted"] == ["c0"]


def test_many_rare_categories_hold_the_level(reference):
    rng = np.random.default_rng(0)
    before = pd.DataFrame({"c": [f"v{int(v)}" for v in rng.exponential(60, 3_000)]})
    alarms = 0
    for _ in range(40):
        after = pd.DataFrame({"c": [f"v{int(v)}" for v in rng.exponential(60, 400)]})
        alarms += report(before, after, {"c": "category"}, level=0.05).breached
    assert alarms <= 7  # 2 expected


def test_columns_of_whole_numbers_flags_and_constants(reference):
    columns = {"count": "number", "flag": "category", "code": "category", "same": "category"}

    def mixed(rows, seed):
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "count": rng.integers(0, 9, rows),
                "flag": rng.random(rows) < 0.5,
                "code": rng.integers(0, 3, rows),
                "same": 1,
            }
        )

    found = report(mixed(2_000, 0), mixed(1_000, 1), columns)
    assert (found.breached, found.value) == (False, 0.0)
    with_gaps = mixed(1_000, 1).astype(object)
    with_gaps.loc[0] = None
    assert report(mixed(2_000, 0), with_gaps, columns).value == 0.0


def test_an_exception_inside_evidently_is_unknown_and_logged(reference, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("An empty column 'n0' was provided")

    monkeypatch.setattr(kit, "p_values", fail)
    found = report(reference, frame())
    assert found.breached is None
    assert found.reason == "Evidently failed: ValueError: An empty column 'n0' was provided"
    assert "An empty column" in caplog.text


def test_a_column_without_a_p_value_is_unknown(reference, monkeypatch):
    monkeypatch.setattr(kit, "p_values", lambda *_: {"n0": float("nan")})
    found = report(reference, frame())
    assert found.breached is None
    assert found.detail["unknown"] == list(COLUMNS)


def test_a_wrong_kind_and_no_columns_cannot_say(reference):
    assert "'text'" in report(reference, frame(), {"n0": "text"}).reason
    assert report(reference, frame(), {}).breached is None


def test_the_rows_are_left_as_they_were(reference):
    before, current = reference.copy(), frame()
    kept = current.copy()
    report(reference, current)
    pd.testing.assert_frame_equal(reference, before)
    pd.testing.assert_frame_equal(current, kept)


def test_of_many_rows_a_bounded_sample_is_looked_at(reference):
    current = frame(3_000, shift=0.2)
    found = report(reference, current, rows=1_000)
    assert found.rows == 3_000
    assert found.detail["sampled"] == {"reference": 1_000, "current": 1_000, "seed": 0}
    assert "sampled" not in report(reference, current, rows=3_000).detail
    assert report(reference, current, rows=1_000) == found
    other = report(reference, current, rows=1_000, seed=1)
    assert other.detail["columns"]["n0"]["p_value"] != found.detail["columns"]["n0"]["p_value"]


def test_the_sample_is_the_same_rows_in_every_column_and_of_the_whole_window():
    rows = 5_000
    current = pd.DataFrame({"a": np.arange(rows, dtype=float)})
    current["b"] = current["a"]
    columns = dict.fromkeys(["a", "b"], "number")
    _, after, _ = prepare(current, current, columns, rows=500, seed=3)
    assert (after["a"] == after["b"]).all()
    assert after["a"].is_unique
    assert after["a"].is_monotonic_increasing
    assert after["a"].mean() == pytest.approx(rows / 2, rel=0.1)


def test_a_sampled_window_that_did_not_move_is_quiet(reference):
    columns = dict.fromkeys(NUMBERS, "number")
    alarms = 0
    for seed in range(60):
        found = report(reference, frame(1_500, seed), columns, rows=500, seed=seed, level=0.05)
        alarms += bool(found.detail["drifted"])
    assert alarms <= 9  # 3 expected


@pytest.mark.parametrize("kind", ["number", "category"])
def test_the_time_does_not_grow_with_the_rows(kind):
    rows = 300_000
    rng = np.random.default_rng(0)
    made = rng.normal(size=rows) if kind == "number" else rng.choice(list("abcdefgh"), rows)
    wide = pd.DataFrame({f"c{i}": made for i in range(20)})
    report(wide.head(300), wide.head(300), {"c0": kind})  # imports
    start = time.process_time()
    report(wide, wide, dict.fromkeys(wide, kind))
    assert time.process_time() - start < 1.0  # 0.07 s, 0.4 s


def test_a_wide_table_draws_the_columns_that_moved_most(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "DRAWN", 2)
    drawn = []
    monkeypatch.setattr(kit, "draw", lambda *args, **_: drawn.append(args[2]) or 1 / 0)
    current = frame()
    current["n1"] += 3
    current["c0"] = "a"
    report(reference, current, html=tmp_path / "w1.html", always_html=True)
    assert [c.name for c in drawn[0]] == ["n1", "c0"]
