"""Which columns moved: known effects, a family-wise level that holds, and words that are true."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monitoring import phrasing
from monitoring.errors import WindowFault
from monitoring.exact import holm
from monitoring.movement import movements

COLUMNS = {"temp": "number", "wind": "number", "flag": "number", "carrier": "category"}


def frame(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": rng.normal(50, 20, rows),
            "wind": rng.gamma(2, 5, rows).round(),
            "flag": rng.random(rows) < 0.2,
            "carrier": rng.choice(["AA", "B6", "UA"], rows, p=[0.55, 0.25, 0.2]),
        }
    )


def only(found):
    assert len(found) == 1, [f.sentence for f in found]
    return found[0]


def test_nothing_is_named_where_nothing_moved():
    """At most 5 % of comparisons name any column; 0.999 quantile of that binomial."""
    named = [bool(movements(frame(150, 2 * r), frame(120, 2 * r + 1), COLUMNS)) for r in range(200)]
    assert sum(named) <= stats.binom.ppf(0.999, 200, 0.05)


def test_identical_samples_have_no_effect():
    found = movements(frame(), frame(), COLUMNS, level=1.0)
    assert len(found) == 4
    assert all(f.effect == pytest.approx(0) and f.distance == 0 for f in found)
    assert all(f.p_adjusted == 1.0 for f in found)


@pytest.mark.parametrize("ties", [False, True])
def test_figures_are_those_of_scipy(ties):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=300), rng.normal(0.4, 1, size=200)
    if ties:
        x, y = x.round(), y.round()
    found = only(movements(pd.DataFrame({"a": x}), pd.DataFrame({"a": y}), {"a": "number"}))
    u = stats.mannwhitneyu(y, x, use_continuity=False, method="asymptotic")
    assert found.effect == pytest.approx(2 * u.statistic / (300 * 200) - 1)
    assert found.distance == pytest.approx(stats.ks_2samp(x, y, method="asymp").statistic)
    assert found.p_value <= 2 * u.pvalue * (1 + 1e-9)
    assert (found.before, found.after) == (np.median(x), np.median(y))


def test_direction_and_rank():
    current = frame(seed=1)
    current["temp"] -= 15
    current["wind"] += 30
    found = movements(frame(), current, COLUMNS)
    assert [f.column for f in found] == ["wind", "temp"]
    assert found[0].effect > 0.9
    assert -0.6 < found[1].effect < -0.3
    assert found[0].measure == "Cliff's delta"
    turned = movements(current, frame(), COLUMNS)
    assert [f.effect for f in turned] == pytest.approx([-f.effect for f in found])


def test_the_sentence_of_a_number_can_be_checked():
    rng = np.random.default_rng(3)
    before = np.where(rng.random(1000) < 0.9, 10.0, rng.uniform(0, 10, 1000))
    after = np.where(rng.random(1000) < 0.45, 10.0, rng.uniform(0, 10, 1000))
    found = only(
        movements(
            pd.DataFrame({"visib": before}), pd.DataFrame({"visib": after}), {"visib": "number"}
        )
    )
    low, high = (before < 10).mean(), (after < 10).mean()
    assert found.sentence == (
        f"visib: median 10 -> {np.median(after):.3g}, {100 * (high - low):.0f} % more below 10 "
        f"({100 * low:.0f} % -> {100 * high:.0f} %)"
    )


def test_a_wider_spread_is_told_by_the_middle_half():
    current = frame(seed=1)
    current["temp"] = 50 + 2.5 * (current["temp"] - 50)
    found = only(movements(frame(), current, COLUMNS))
    assert "middle half" in found.sentence
    assert abs(found.effect) < 0.15 < found.distance


def test_bools_are_told_as_shares():
    current = frame(seed=1)
    current["flag"] = np.arange(500) % 2 == 0
    found = only(movements(frame(), current, COLUMNS))
    share = 100 * frame()["flag"].mean()
    assert found.sentence == f"flag: 1 in {share:.0f} % -> 50 % of the rows"


def test_categories():
    current = frame(seed=1)
    current["carrier"] = np.repeat(["AA", "B6", "UA"], [275, 25, 200])
    found = only(movements(frame(), current, COLUMNS))
    shares = frame()["carrier"].value_counts(normalize=True)
    assert found.sentence == (
        f"carrier: B6 {100 * shares['B6']:.0f} % -> 5 %, UA {100 * shares['UA']:.0f} % -> 40 %"
    ) or found.sentence.startswith(f"carrier: UA {100 * shares['UA']:.0f} % -> 40 %, B6")
    assert found.measure == "total variation"
    expected = 0.5 * sum(abs(shares[v] - found.after[v]) for v in ("AA", "B6", "UA"))
    assert found.effect == pytest.approx(expected)


def test_new_values_and_missing_ones_are_movements_of_their_own():
    current = frame(seed=1)
    current.loc[:59, "carrier"] = "ZZ"
    current.loc[100:399, "wind"] = None
    found = {(f.column, f.kind): f for f in movements(frame(), current, COLUMNS)}
    assert set(found) == {("carrier", "new values"), ("wind", "missing")}
    assert found["carrier", "new values"].sentence == (
        'carrier: 12 % of rows hold values never seen: "ZZ"'
    )
    assert found["wind", "missing"].sentence == "wind: missing 0 % -> 60 %"
    assert found["wind", "missing"].effect == pytest.approx(0.6)


def test_one_missing_cell_and_one_new_value_are_no_alarm():
    current = frame(seed=1)
    current.loc[5, "wind"] = None
    current.loc[6, "carrier"] = "ZZ"
    assert movements(frame(), current, COLUMNS) == ()


def test_identifiers_that_are_new_every_time_are_no_alarm():
    x = pd.DataFrame({"id": [f"a{i}" for i in range(300)]})
    y = pd.DataFrame({"id": [f"b{i}" for i in range(300)]})
    assert movements(x, y, {"id": "category"}) == ()


def test_odd_columns():
    x = pd.DataFrame(
        {
            "text": ["1", "2.5", "n/a"] * 20,
            "constant": [3.0] * 60,
            "empty": [None] * 60,
            "wild": [np.inf, -np.inf, 0.0] * 20,
            "codes": [1, 2, 3] * 20,
        }
    )
    y = x.assign(constant=4.0, codes=[1.0, 2.0, 3.0] * 20)
    kinds = dict.fromkeys(x, "number") | {"codes": "category"}
    found = only(movements(x, y, kinds))
    assert (found.column, found.effect) == ("constant", 1.0)
    everything = movements(x, y, kinds, level=1.0)
    assert ("empty", "missing") in {(f.column, f.kind) for f in everything}
    assert all(np.isfinite([f.effect, f.distance, f.p_value]).all() for f in everything)


def test_one_row_says_nothing_and_no_rows_are_refused():
    assert movements(frame(1), frame(1, 1), COLUMNS) == ()
    for x, y in ((frame(0), frame()), (frame(), frame(0)), (frame(), frame()[["temp"]])):
        with pytest.raises(WindowFault):
            movements(x, y, COLUMNS)
    with pytest.raises(WindowFault, match="colour"):
        movements(frame(), frame(), {"temp": "colour"})


def test_the_order_of_rows_does_not_matter():
    x, y = frame(), frame(seed=1).assign(temp=lambda f: f["temp"] + 9)
    again = movements(x.sample(frac=1, random_state=1), y.sample(frac=1, random_state=2), COLUMNS)
    assert again == movements(x, y, COLUMNS)


def test_ten_thousand_columns_take_seconds():
    rng = np.random.default_rng(0)
    names = [f"c{j}" for j in range(10_000)]
    x = pd.DataFrame(rng.normal(size=(200, 10_000)), columns=names)
    y = pd.DataFrame(rng.normal(size=(200, 10_000)), columns=names)
    y["c7"] += 2
    started = time.process_time()
    found = only(movements(x, y, dict.fromkeys(names, "number")))
    assert found.column == "c7"
    assert time.process_time() - started < 10


def test_holm_is_what_its_definition_says():
    p = np.random.default_rng(0).random(20) ** 3
    ordered = np.sort(p)
    by_hand = np.maximum.accumulate(np.minimum(1, ordered * np.arange(20, 0, -1)))
    assert np.sort(holm(list(p))) == pytest.approx(by_hand)
    assert holm([]).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_a_rounded_split_keeps_nearly_the_whole_difference(seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.normal(rng.uniform(-5, 5), 1, 200) * 10.0 ** rng.integers(-2, 5))
    y = np.sort(x + rng.normal(0.7, 0.2) * x.std() * rng.choice([-1, 1]))
    limit, below, before, after = phrasing.split(x, y)
    assert after > before
    assert after - before >= 0.94 * stats.ks_2samp(x, y, method="asymp").statistic
    assert before == pytest.approx(((x < limit) if below else (x > limit)).mean())
    assert len(phrasing.figure_exact(abs(limit)).replace(",", "").replace(".", "").strip("0")) <= 3
