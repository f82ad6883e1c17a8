"""The shift test: what must not matter to it, what it says of what moved, and what it refuses."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

import monitoring
from monitoring.errors import WindowFault
from monitoring.mmd import mmd_test
from monitoring.shift import shift_test
from monitoring.units import of_rows


def sides(m=40, n=40, d=3, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.normal(size=(n, d)) + shift


def mixed(rows, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "delay": rng.normal(size=rows),
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
            "late": rng.random(rows) < 0.3,
        }
    )
    frame.loc[rng.random(rows) < 0.1, "delay"] = np.nan
    return frame


def same(one, other):
    assert one.p_value == other.p_value
    assert one.permutations == other.permutations
    assert one.statistic == pytest.approx(other.statistic, abs=1e-3)


@pytest.fixture
def binned(monkeypatch):
    monkeypatch.setattr(
        "monitoring.shift.of_rows", lambda *a, **_: of_rows(*a, most=40, least=8, cap=10_000)
    )


@pytest.mark.parametrize(("m", "n"), [(40, 40), (25, 60)])
def test_neither_the_order_of_rows_nor_that_of_the_sides_matters(m, n):
    x, y = sides(m, n, shift=0.3)
    found = shift_test(x, y)
    assert 0.001 < found.p_value < 0.9
    rng = np.random.default_rng(1)
    same(shift_test(rng.permutation(x), rng.permutation(y)), found)
    swapped = shift_test(y, x)
    same(swapped, found)
    assert [c.names for c in swapped.columns] == [c.names for c in found.columns]
    assert swapped.columns[0].z == pytest.approx(-found.columns[0].z, abs=1e-3)


@pytest.mark.usefixtures("binned")
@pytest.mark.parametrize(("m", "n"), [(90, 90), (70, 131)])
def test_nor_where_rows_are_binned(m, n):
    x, y = sides(m, n, shift=0.15)
    found = shift_test(x, y)
    assert "random bins" in found.note
    rng = np.random.default_rng(1)
    same(shift_test(rng.permutation(x), rng.permutation(y)), found)
    same(shift_test(y, x), found)


def test_a_mixed_frame_is_the_same_in_any_order():
    x, y = mixed(60, 1), mixed(60, 2)
    found = shift_test(x, y)
    same(shift_test(x.sample(frac=1, random_state=3), y[["late", "delay", "carrier"]]), found)
    same(shift_test(y, x), found)


def test_chunks_equal_the_whole():
    x, y = sides(130, 90, shift=0.2)
    small, large = shift_test(x, y, memory_mb=2), shift_test(x, y, memory_mb=2_000)
    same(small, large)
    assert [c.p_adjusted for c in small.columns] == [c.p_adjusted for c in large.columns]


def test_types_of_arrays_do_not_matter():
    x, y = (side.astype(np.float32) for side in sides(shift=0.25))
    found = shift_test(x, y)
    for kind in (np.float64, np.longdouble):
        same(shift_test(x.astype(kind), y.astype(kind)), found)
    same(shift_test(torch.from_numpy(x), torch.from_numpy(y)), found)
    same(shift_test(torch.from_numpy(x).requires_grad_(), y), found)
    same(shift_test(x.tolist(), y.tolist()), found)
    same(shift_test(pd.DataFrame(x), pd.DataFrame(y)), found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("route", ["kernel", "features"])
def test_cuda_equals_cpu(route):
    x, y = (torch.from_numpy(side) for side in sides(150, 150, shift=0.1))
    cpu, cuda = (shift_test(x.to(d), y.to(d), route=route) for d in ("cpu", "cuda"))
    assert cuda.statistic == pytest.approx(cpu.statistic, abs=1e-2)
    assert cuda.p_value == pytest.approx(cpu.p_value, abs=0.005)


def test_monotone_transformations_change_nothing():
    x, y = sides(shift=0.25)
    bent = [np.stack([s[:, 0] * 1e9, np.exp(s[:, 1]), s[:, 2] ** 3], 1) for s in (x, y)]
    same(shift_test(*bent), shift_test(x, y))


def test_constant_and_empty_columns_change_nothing():
    x, y = sides(shift=0.25)
    idle = np.stack([np.full(40, 7.0), np.full(40, np.nan), np.full(40, np.inf)], axis=1)
    same(shift_test(np.hstack([x, idle]), np.hstack([y, idle])), shift_test(x, y))


def test_nothing_that_varies_cannot_have_moved():
    for still in (np.ones((30, 2)), np.full((30, 1), np.nan)):
        found = shift_test(still, still[:20])
        assert (found.p_value, found.permutations, found.columns) == (1.0, 0, ())


def test_identical_samples_are_no_drift():
    x, _ = sides(60)
    assert shift_test(x, x).p_value > 0.9
    assert shift_test(mixed(60, 1), mixed(60, 1)).p_value > 0.9
    doubled = np.repeat(x[:5], 8, axis=0)
    assert shift_test(doubled, doubled).p_value > 0.9


def test_gaps_and_infinities_are_read():
    x, y = sides(60, 60)
    holes = y.copy()
    holes[:25, 1] = np.nan
    found = shift_test(x, holes)
    assert found.p_value == 0.001
    assert found.columns[0].what == "1 missing"
    one = y.copy()
    one[0, 0] = np.nan
    assert shift_test(x, one).p_value > 0.01
    y[:25, 2], x[3, 2] = np.inf, -np.inf
    assert shift_test(x, y).columns[0].names == ("2",)


def test_two_rows_a_side():
    x, y = sides(2, 2, shift=9.0)
    assert shift_test(x, y).p_value >= 0.28  # six labelings, alike in pairs


def test_ten_thousand_columns():
    x, y = sides(30, 30, d=10_000)
    started = time.process_time()
    assert shift_test(x, y, permutations=99).p_value > 0.01
    assert shift_test(x, y + 0.2, permutations=99).p_value == 0.01
    assert time.process_time() - started < 30


@pytest.mark.parametrize("kind", ["Int64", "Int32", "Float32", "boolean", "object", "bool"])
def test_types_of_frames_do_not_matter(kind):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, 40), rng.integers(0, 2, 40) | (rng.random(40) < 0.4)
    found = shift_test(x.astype(float), y.astype(float))
    frames = [pd.DataFrame({"a": side}) for side in (x, y)]
    same(shift_test(*(frame.astype(kind) for frame in frames)), found)
    same(shift_test(frames[0].astype(kind), frames[1].astype("float64")), found)


def test_whole_numbers_and_the_same_with_a_gap_are_alike():
    rng = np.random.default_rng(0)
    x, y = (pd.DataFrame({"a": rng.integers(0, 9, 80)}) for _ in range(2))
    gap = y["a"].astype(float).where(y.index != 3)
    for column in (gap, gap.astype("Int64"), gap.astype(object)):
        assert shift_test(x, y.assign(a=column)).p_value > 0.05


def test_a_level_on_one_side_only_is_seen_and_named():
    x, y = mixed(100, 1), mixed(100, 2)
    y.loc[y["carrier"] == "UA", "carrier"] = "ZZ"
    found = shift_test(x, y)
    assert found.p_value == 0.001
    named = {c.names: c for c in found.columns}["carrier",]
    assert named == found.columns[0]
    assert named.what in ("carrier = 'ZZ'", "carrier = 'UA'")
    assert named.p_adjusted <= 0.002


def test_columns_may_have_any_name():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(40, 3)), columns=["device", "days missing", 3])
    assert shift_test(x, x + 1).p_value == 0.001
    spread = x.assign(**{"days missing": x["days missing"] * 9})
    assert shift_test(x, spread).columns[0].what == "spread"


@given(
    hn.arrays(
        np.float64,
        st.tuples(st.integers(2, 9), st.just(2)),
        elements=st.one_of(st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]), st.floats()),
    ),
    st.integers(2, 9),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_any_rows_have_a_p_value(rows, n, seed):
    y = np.random.default_rng(seed).choice(rows, n)
    found = shift_test(rows, y, permutations=19, seed=seed)
    assert 0.05 <= found.p_value <= 1
    assert np.isfinite(found.statistic)
    assert shift_test(y, rows, permutations=19, seed=seed).p_value == found.p_value


def test_a_correlation_that_the_mmd_misses_is_seen():
    seen = missed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(200, 8)), rng.normal(size=(200, 8))
        y[:, 3] = 0.6 * y[:, 2] + 0.8 * y[:, 3]
        seen += shift_test(x, y, explain=False, permutations=199).p_value <= 0.05
        missed += mmd_test(x, y, permutations=199).p_value > 0.05
    assert seen >= 11
    assert missed >= 5


def test_the_routes_agree():
    """On mid-size data, with a faint shift: the evidence, and which statistics carry it."""
    x, y = sides(900, 900, d=4, shift=0.08)
    exact, linear = (shift_test(x, y, route=r) for r in ("kernel", "features"))
    assert (exact.route, linear.route) == ("kernel", "features")
    assert "random frequencies" in linear.note
    assert linear.statistic == pytest.approx(exact.statistic, rel=0.25)
    still = shift_test(*sides(900, 900, d=4), route="features")
    assert still.p_value > 0.05


@pytest.mark.parametrize("route", ["kernel", "features"])
def test_blocks_that_moved_are_seen_and_named(route):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(20), rng.integers(3, 9, 20))  # of unequal sizes
    days = rng.normal(size=(40, 3))
    x, y = days[ids] + rng.normal(size=(len(ids), 3)), days[20 + ids]
    y = y + rng.normal(size=y.shape) + [0, 2.5, 0]
    found = shift_test(x, y, blocks=(ids, ids), route=route)
    assert found.units == (20, 20)
    assert found.p_value <= 0.005
    assert found.columns[0].names == ("1",)
    assert found.columns[0].z > 3
    assert found.columns[0].p_adjusted <= 0.01 < found.columns[1].p_adjusted
    same(shift_test(y, x, blocks=(ids, ids), route="kernel"), shift_test(x, y, blocks=(ids, ids)))


def test_the_level_says_what_is_spent():
    x, y = sides()
    assert shift_test(x, y, level=1e-5).permutations < 1_000
    far = shift_test(x, y + 3, level=0.001)
    assert (far.p_value, far.permutations) == (1 / 5_000, 4_999)


def test_equal_seeds_give_equal_results():
    x, y = sides(shift=0.2)
    assert shift_test(x, y, seed=1) == shift_test(x, y, seed=1)
    assert len({shift_test(x, y, seed=seed).p_value for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("x", "y", "options", "rule"),
    [
        (np.zeros((0, 2)), np.zeros((5, 2)), {}, "x needs at least 2 rows, got 0"),
        (np.zeros((5, 2)), np.zeros((1, 2)), {}, "y needs at least 2 rows, got 1"),
        (np.zeros((5, 2)), np.zeros((5, 3)), {}, "same columns, got 2 and 3"),
        (np.zeros((5, 0)), np.zeros((5, 0)), {}, r"got shape \(5, 0\)"),
        (np.zeros((5, 2)), pd.DataFrame({"a": [1]}), {}, "one of each"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), {}, r"\['a', 'b'\] are on one side"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]),) * 2 + ({}, "more than once"),
        ([["a"], ["b"]], [[0.0], [1.0]], {}, "x must hold numbers"),
        (*sides(), {"permutations": 0}, "permutations must be at least 1"),
        (*sides(), {"level": 1.0}, "level must lie between 0 and 1"),
        (*sides(), {"blocks": (np.arange(3), np.arange(40))}, "blocks are one id a row"),
        (*sides(), {"blocks": (np.zeros(40), np.arange(40))}, "x has 1"),
        (mixed(9, 1), mixed(9, 2), {"kinds": {"delay": "numeric"}}, "'number' or a 'category'"),
    ],
)
def test_what_no_test_can_read_is_refused(x, y, options, rule):
    with pytest.raises(WindowFault, match=rule):
        shift_test(x, y, **options)


def test_it_is_importable_from_the_package():
    assert monitoring.shift_test is shift_test
