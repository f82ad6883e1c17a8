"""Schema signals: silent where nothing changed, whatever the sample sizes; loud where it did."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from monitoring.bursts import design_effect, worth
from monitoring.errors import WindowFault
from monitoring.exact import beyond, difference, holm, more, unseen
from monitoring.records import Kind, to_dict
from monitoring.schema import NAMES, schema_signals

COLUMNS = {"visib": "number", "temp": "number", "wind": "number", "carrier": "category"}


def rows(n: int, seed: int = 0, **more_columns) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "visib": rng.uniform(0, 10, n),
            "temp": rng.normal(50, 10, n),
            "wind": rng.exponential(8, n),
            "carrier": pd.Series(rng.choice(["UA", "B6", "AA"], n), dtype=object),
        }
    )
    return frame.assign(**more_columns)


def signals(reference, current, columns=COLUMNS, **options):
    found = {s.name: s for s in schema_signals(reference, current, columns, **options)}
    assert tuple(found) == NAMES
    for signal in found.values():
        assert signal.kind is Kind.SCHEMA
        json.dumps(to_dict(signal))
    return found


def breached(found) -> set[str]:
    return {name for name, signal in found.items() if signal.breached}


# -- the exact tests ----------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(0, 50, 7, 60), (5, 200, 11, 90), (3, 10, 0, 10)])
def test_a_share_that_grew_has_fishers_p_value(counts):
    k1, n1, k2, n2 = counts
    expected = fisher_exact([[k2, n2 - k2], [k1, n1 - k1]], alternative="greater")[1]
    assert more(k1, n1, k2, n2) == pytest.approx(expected)


def test_values_beyond_all_of_the_reference_have_the_chance_of_the_draw():
    rng = np.random.default_rng(1)
    pooled = np.arange(30)
    drawn = np.array([rng.permutation(pooled)[:20].max() for _ in range(20_000)])
    for count in (1, 2, 3):
        assert beyond(count, 20, 10) == pytest.approx((drawn < 30 - count).mean(), abs=0.015)
    assert beyond(11, 20, 10) == 0.0


@pytest.mark.parametrize("values", [3, 60, 5_000])
@pytest.mark.parametrize(("n1", "n2"), [(200, 100), (60, 300)])
def test_the_p_value_of_unseen_values_holds_its_level(values, n1, n2):
    rng = np.random.default_rng(values + n1)
    found = []
    for _ in range(1_000):
        column = rng.zipf(1.4, n1 + n2) % values
        old, new = (np.bincount(v, minlength=values) for v in (column[:n1], column[n1:]))
        there = old + new > 0
        found.append(unseen(old[there], new[there]))
    found = np.array(found)
    for level in (0.05, 0.2, 0.5):
        assert (found <= level).mean() <= level + 2 * math.sqrt(level / 1_000)
    # a value that came anew in 30 rows is seen, however many rare ones there are
    old, new = np.append(old[there], 0), np.append(new[there], 30)
    assert unseen(old, new) < (1e-9 if n1 > n2 else 0.1)


def test_holm_lies_between_the_raw_p_value_and_bonferroni():
    p = np.random.default_rng(0).uniform(0, 0.2, 12)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, 12 * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert adjusted.min() == pytest.approx(12 * p.min())
    assert holm([]).size == 0


def test_the_interval_of_a_difference_covers_it():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(1_000):
        found = difference(rng.binomial(300, 0.02), 300, rng.binomial(80, 0.1), 80)
        covered += found.low <= 0.08 <= found.high
    assert 0.93 <= covered / 1_000 <= 0.99


# -- nothing changed ----------------------------------------------------------------------------


def test_the_level_holds_over_all_columns_and_kinds():
    """Gaps, heavy tails and rare values throughout: at level 0.05 at most 5 % of windows alarm."""
    rng, alarms, repetitions = np.random.default_rng(11), 0, 120
    columns = {f"n{i}": "number" for i in range(4)} | {f"c{i}": "category" for i in range(4)}

    def draw(n):
        data = {}
        for i in range(4):
            number = rng.standard_t(2, n)
            number[rng.random(n) < 0.05 * i] = np.nan
            data[f"n{i}"] = number
            text = np.array([f"v{v}" for v in rng.zipf(1.2 + 0.2 * i, n) % 10_000], dtype=object)
            text[rng.random(n) < 0.02] = None
            data[f"c{i}"] = text
        return pd.DataFrame(data)

    for _ in range(repetitions):
        reference, current = draw(300), draw(int(rng.choice([40, 150, 600])))
        found = signals(reference, current, columns, level=0.05, floor=0.0)
        alarms += bool(breached(found))
    # binomial: 5 % of 120 is 6, and this 2.5 deviations more
    assert alarms <= 12


@pytest.mark.parametrize(("reference_rows", "window"), [(500, 100), (500, 2_000), (2_000, 500)])
def test_a_column_of_many_rare_values_stays_silent(reference_rows, window):
    """Tail numbers of aircraft: a tenth to a half of a window's values are new, which is normal."""
    rng = np.random.default_rng(reference_rows + window)
    weights = rng.gamma(0.6, size=3_000)
    weights /= weights.sum()

    def draw(n):
        return pd.DataFrame({"tail": [f"N{v}" for v in rng.choice(3_000, n, p=weights)]})

    shares, alarms = [], 0
    for _ in range(60):
        reference, current = draw(reference_rows), draw(window)
        signal = signals(reference, current, {"tail": "category"}, level=0.05)["new_categories"]
        alarms += signal.breached
        shares.append(signal.detail["columns"]["tail"])
    # unseen values abound, and the reference said beforehand how many
    assert np.mean([s["now"] for s in shares]) > 0.1
    gap = np.mean([s["now"] - s["before"] for s in shares])
    assert abs(gap) < 0.03
    assert alarms <= 4


def test_new_values_beyond_what_is_normal_are_seen_in_a_column_of_rare_ones():
    rng = np.random.default_rng(2)
    reference = pd.DataFrame({"tail": [f"N{v}" for v in rng.integers(0, 800, 500)]})
    same = [f"N{v}" for v in rng.integers(0, 800, 500)]
    assert not signals(reference, pd.DataFrame({"tail": same}), {"tail": "category"})[
        "new_categories"
    ].breached
    others = [f"M{v}" for v in rng.integers(0, 800, 300)]  # another fleet, each aircraft rare
    moved = signals(reference, pd.DataFrame({"tail": same[300:] + others}), {"tail": "category"})
    assert breached(moved) == {"new_categories"}
    one = signals(reference, pd.DataFrame({"tail": same[25:] + ["XX"] * 25}), {"tail": "category"})
    assert breached(one) == {"new_categories"}
    assert "'XX'" in one["new_categories"].reason


def test_one_gap_in_many_cells_is_silent():
    """1,500 cells, one NaN: enough to make an MMD without a word for gaps alarm."""
    columns = {f"x{i}": "number" for i in range(10)}
    rng = np.random.default_rng(0)
    reference = pd.DataFrame(rng.normal(size=(500, 10)), columns=list(columns))
    current = pd.DataFrame(rng.normal(size=(150, 10)), columns=list(columns))
    current.loc[3, "x4"] = np.nan
    found = signals(reference, current, columns)
    assert breached(found) == set()
    assert found["missing_values"].value == pytest.approx(1 / 150)


def test_one_wild_value_is_silent_and_a_stream_of_them_is_not():
    current = rows(300, seed=1)
    current.loc[7, "temp"] = 1e9
    assert breached(signals(rows(1_000), current)) == set()
    current.loc[:20, "temp"] = -9_999.0
    found = signals(rows(1_000), current)
    assert breached(found) == {"out_of_range"}
    assert "temp: below" in found["out_of_range"].reason
    assert "-9999" in found["out_of_range"].reason


def test_identical_samples_and_constant_and_empty_columns_are_silent():
    same = rows(200).assign(flat=3.0, never=np.nan)
    found = signals(same, same, {**COLUMNS, "flat": "number", "never": "number"})
    assert breached(found) == set()
    assert max(s.value for s in found.values()) <= 0


# -- something changed --------------------------------------------------------------------------


def test_gaps_in_two_of_many_columns_alarm():
    columns = {f"x{i}": "number" for i in range(40)}
    rng = np.random.default_rng(0)
    reference = pd.DataFrame(rng.normal(size=(500, 40)), columns=list(columns))
    current = pd.DataFrame(rng.normal(size=(100, 40)), columns=list(columns))
    for name in ("x3", "x17"):
        current.loc[rng.random(100) < 0.6, name] = np.nan
    found = signals(reference, current, columns, level=1e-5)
    assert breached(found) == {"missing_values"}
    signal = found["missing_values"]
    assert set(signal.detail["moved"]) == {"x3", "x17"}
    assert signal.low < 0.6 < signal.high
    assert "x3: missing 0 % -> " in signal.reason


def test_fewer_gaps_are_no_alarm():
    gaps = rows(500)
    gaps.loc[::2, "visib"] = np.nan
    assert breached(signals(gaps, rows(500, seed=1))) == set()


def test_a_new_category_alarms_in_proportion_to_what_the_reference_could_have_seen():
    current = rows(500, seed=1)
    current.loc[:11, "carrier"] = "ZZ"
    found = signals(rows(2_000), current)
    assert breached(found) == {"new_categories"}
    assert found["new_categories"].detail["columns"]["carrier"]["new"] == {"ZZ": 12}
    # the same 12 rows are no evidence where the reference is smaller than the window
    assert breached(signals(rows(50), current)) == set()


@pytest.mark.parametrize(
    ("values", "words"),
    [([15.0] * 40, "above"), ([-1.0] * 40, "below"), ([np.inf] * 40, "infinite")],
)
def test_numbers_out_of_the_reference_alarm(values, words):
    current = rows(400, seed=1)
    current.loc[: len(values) - 1, "visib"] = values
    found = signals(rows(1_000), current)
    assert breached(found) == {"out_of_range"}
    assert f"visib: {words}" in found["out_of_range"].reason


def test_a_range_is_widened_but_not_across_zero():
    reference = rows(1_000)
    beyond_a_little = rows(400, seed=1)
    beyond_a_little.loc[:40, "visib"] = 10.5
    assert breached(signals(reference, beyond_a_little)) == set()
    assert breached(signals(reference, beyond_a_little, widen=0.0)) == {"out_of_range"}


def test_text_where_numbers_were_is_a_change_of_type_and_not_a_gap():
    current = rows(200, seed=1)
    current["temp"] = current["temp"].astype(object)
    current.loc[:30, "temp"] = "mild"
    found = signals(rows(1_000), current)
    assert breached(found) == {"type_changes"}
    assert "'mild'" in found["type_changes"].reason


def test_a_column_that_is_gone_is_absent_unless_it_was_empty_before():
    current = rows(200, seed=1).drop(columns=["wind"])
    found = signals(rows(1_000), current)
    assert breached(found) == {"absent_columns"}
    assert found["absent_columns"].reason == "wind: is not in the rows; missing 0 % -> 100.0 %"
    assert breached(signals(rows(1_000, wind=np.nan), current)) == set()
    rare = rows(1_000, wind=np.where(np.arange(1_000) < 5, 1.0, np.nan))
    assert breached(signals(rare, current)) == set()


def test_an_increase_below_the_floor_is_no_alarm_however_sure():
    n = 20_000
    gaps = np.where(np.arange(n) < 0.004 * n, np.nan, 1.0)
    found = signals(rows(n), rows(n, seed=1, temp=gaps))
    assert found["missing_values"].p_value < 1e-6
    assert found["missing_values"].breached is False
    assert breached(signals(rows(n), rows(n, seed=1, temp=gaps), floor=0.001)) == {"missing_values"}


# -- rows that come in bursts -------------------------------------------------------------------


def shared(spans: int, each: int, seed: int, share: float = 0.15) -> pd.DataFrame:
    """Rows that share their span's weather: whole spans lack `temp`, or have it."""
    rng = np.random.default_rng(seed)
    frame = rows(spans * each, seed)
    span = np.repeat(np.arange(spans), each)
    frame["time"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(span, unit="h")
    frame.loc[(rng.random(spans) < share)[span], "temp"] = np.nan
    return frame


def test_gaps_that_come_in_bursts_are_worth_their_bursts():
    reference = shared(600, 1, 0).drop(columns=["time"])
    aware = naive = 0
    for seed in range(1, 101):
        window = shared(24, 40, seed)
        aware += signals(reference, window, level=0.01)["missing_values"].breached
        naive += signals(reference, window.drop(columns=["time"]), level=0.01)[
            "missing_values"
        ].breached
    assert naive >= 20  # 960 rows taken as independent
    assert aware <= 4
    # what more than bursts explain is seen all the same
    assert signals(reference, shared(24, 40, 1, share=0.9))["missing_values"].breached is True


def test_a_calm_day_is_none_where_the_reference_has_calm_days():
    """Whole days lack `temp`: within one day nothing tells, the reference's other days do."""
    start = pd.Timestamp("2024-01-01", tz="UTC")

    def days(number, each, seed, share):
        frame = shared(number, each, seed, share)
        hours = np.random.default_rng(seed).uniform(0, 24, len(frame))
        frame["time"] = start + (frame["time"] - start) * 24 + pd.to_timedelta(hours, unit="h")
        return frame

    reference = days(30, 60, 0, 0.3)
    calm = rows(500, seed=1, temp=np.nan).assign(time=days(1, 500, 1, 0.0)["time"])
    assert breached(signals(reference, calm)) == set()
    assert breached(signals(reference.drop(columns=["time"]), calm)) == {"missing_values"}
    # a column that never lacked anything is not excused by one that did
    both = calm.assign(visib=calm["visib"].where(np.arange(500) % 5 < 2))
    found = signals(reference, both, level=1e-5)["missing_values"]
    assert found.detail["moved"] == ["visib"]


def test_gaps_all_over_the_window_are_worth_all_its_rows():
    window = rows(100, seed=1).assign(time=pd.date_range("2024-01-01", periods=100, freq="min"))
    window.loc[np.random.default_rng(2).random(100) < 0.6, "temp"] = np.nan
    found = signals(rows(500), window, level=1e-5)
    assert breached(found) == {"missing_values"}


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [("carrier", "ZZ", "new_categories"), ("visib", 50.0, "out_of_range")],
)
def test_one_burst_of_news_is_one_event(column, value, name):
    window = rows(480, seed=1)
    window["time"] = pd.date_range("2024-01-01", periods=480, freq="min")
    burst, spread = window.copy(), window.copy()
    burst.loc[100:118, column] = value
    spread.loc[::25, column] = value
    assert breached(signals(rows(1_000), burst)) == set()
    assert breached(signals(rows(1_000), burst.drop(columns=["time"]))) == {name}
    assert breached(signals(rows(1_000), spread)) == {name}


def test_the_design_effect_is_one_for_independent_rows_and_a_block_for_equal_ones():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(24), 40)
    loose = np.mean([design_effect(rng.random(960) < 0.2, blocks) for _ in range(50)])
    assert 1 <= loose < 1.3
    assert design_effect(np.repeat(rng.random(24) < 0.4, 40), blocks) == pytest.approx(40)
    assert design_effect(np.zeros(960, dtype=bool), blocks) == 1
    assert design_effect(rng.random(960) < 0.2, np.zeros(960, dtype=np.int64)) == 1
    assert worth(9, 960, 40, up=False) == (0, 24)
    assert worth(9, 960, 40, up=True) == (1, 24)


# -- what cannot be said ------------------------------------------------------------------------


def test_too_few_rows_are_an_answer_of_their_own():
    for reference, current in ((rows(500), rows(5)), (rows(3), rows(500)), (rows(500), rows(0))):
        found = signals(reference, current)
        assert {s.breached for s in found.values()} == {None}
        assert "needed" in found["missing_values"].reason
    assert signals(rows(50), rows(1), minimum_rows=1)["missing_values"].breached is False


def test_columns_that_cannot_be_compared_are_named():
    found = signals(rows(100), rows(100, seed=1), {**COLUMNS, "gate": "category"})
    assert found["missing_values"].detail["unknown"] == ["gate"]
    found = signals(rows(100), rows(100, seed=1), {"gate": "category"})
    assert found["missing_values"].breached is None
    with pytest.raises(WindowFault, match="a 'number', a 'category' or a 'text'"):
        schema_signals(rows(100), rows(100), {"temp": "date"})


def test_the_order_of_rows_and_columns_changes_nothing():
    reference, current = rows(500), rows(200, seed=1)
    current.loc[:90, "carrier"] = [f"Z{i % 7}" for i in range(91)]
    mixed = current.sample(frac=1.0, random_state=1)
    turned = dict(reversed(COLUMNS.items()))
    a = signals(reference, current)
    b = signals(reference.sample(frac=1.0, random_state=2), mixed, turned)
    for name in NAMES:
        assert a[name].p_value == pytest.approx(b[name].p_value)
        assert a[name].reason == b[name].reason


def test_a_wide_frame_is_read_in_time():
    n = 2_000
    columns = {f"x{i}": "number" for i in range(n)}
    rng = np.random.default_rng(0)
    reference = pd.DataFrame(rng.normal(size=(50, n)), columns=list(columns))
    current = pd.DataFrame(rng.normal(size=(50, n)), columns=list(columns))
    current["x7"] = np.nan
    found = signals(reference, current, columns)
    assert found["missing_values"].detail["moved"] == ["x7"]
    assert math.isclose(found["missing_values"].value, 1.0)


# -- texts --------------------------------------------------------------------------------------


def test_a_text_is_asked_whether_it_is_there_and_never_shown():
    mail = {"body": "text", "wind": "number"}

    def mails(n: int, gap: object, every: int, seed: int) -> pd.DataFrame:
        texts = [f"secret words {i}" if i % every else gap for i in range(n)]
        return rows(n, seed, body=texts)

    reference = mails(1_000, None, 100, 1)
    for gap in (None, "", " \n", math.nan):  # a blank text says as little as none
        found = signals(reference, mails(400, gap, 4, 2), mail)
        assert breached(found) == {"missing_values"}
        assert found["missing_values"].reason.startswith("body: missing 1.0 % -> 25.0 %")
        quiet = signals(reference, mails(400, gap, 100, 2), mail)
        assert breached(quiet) == set()
    gone = signals(reference, rows(400, 2), mail)
    assert breached(gone) == {"absent_columns"}
    assert "secret" not in str([gone, found])
