"""The MMD test: its arithmetic, its level, its power, and what must not matter."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

import monitoring
from monitoring.errors import WindowFault
from monitoring.mmd import mmd_test
from monitoring.units import of_rows


def sides(m=40, n=40, d=3, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.normal(size=(n, d)) + shift


def by_hand(x, y, bandwidth):
    """The definition: means over pairs of different rows."""
    pooled, m, n = np.concatenate([x, y]), len(x), len(y)
    squared = ((pooled[:, None] - pooled[None]) ** 2).sum(axis=-1)
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0.0)
    within = kernel[:m, :m].sum() / (m * (m - 1)) + kernel[m:, m:].sum() / (n * (n - 1))
    return within - 2 * kernel[:m, m:].mean()


@pytest.mark.parametrize(("m", "n"), [(40, 40), (23, 90), (90, 23), (2, 30), (2, 2)])
def test_the_statistic_is_the_definition(m, n):
    x, y = sides(m, n, shift=0.3)
    found = mmd_test(x * 1e4 + 1e6, y * 1e4 + 1e6, permutations=19)
    for value, bandwidth in zip(found.statistics, found.bandwidths, strict=True):
        assert value == pytest.approx(by_hand(x, y, bandwidth / 1e4), abs=2e-6)
    place = found.bandwidths.index(found.bandwidth)
    assert found.statistic == found.statistics[place]
    assert found.rows == (m, n)


def test_permuted_statistics_are_the_definition_too():
    """The p-value agrees with a loop that permutes rows and starts again each time."""
    x, y = sides(30, 20, shift=0.45)
    found = mmd_test(x, y, permutations=999, scales=(1.0,))
    rng, pooled = np.random.default_rng(5), np.concatenate([x, y])
    observed, exceed = by_hand(x, y, found.bandwidth), 0
    for _ in range(999):
        mixed = rng.permutation(pooled)
        exceed += by_hand(mixed[:30], mixed[30:], found.bandwidth) >= observed
    assert 0.002 < found.p_value < 0.3
    assert found.p_value == pytest.approx((1 + exceed) / 1_000, abs=0.03)


def test_the_bandwidth_is_the_median_distance():
    x, y = sides()
    pooled = np.concatenate([x, y])
    distances = np.sqrt(((pooled[:, None] - pooled[None]) ** 2).sum(axis=-1))
    median = np.median(distances[np.tril_indices(80, -1)])
    assert mmd_test(x, y, permutations=9).bandwidths == pytest.approx(
        [median / 2, median, median * 2], rel=1e-5
    )


@pytest.mark.parametrize(("m", "n"), [(20, 20), (12, 30)])
def test_p_values_are_uniform_under_no_drift(m, n):
    p_values = np.array(
        [
            mmd_test(*sides(m, n, d=2, seed=seed), permutations=99, seed=seed).p_value
            for seed in range(600)
        ]
    )
    assert kstest(p_values - 0.005, "uniform").pvalue > 0.001
    for level in (0.05, 0.1, 0.25):  # 4 standard errors
        assert (p_values <= level).mean() <= level + 4 * np.sqrt(level * (1 - level) / 600)
        assert (p_values <= level).mean() >= level - 4 * np.sqrt(level * (1 - level) / 600)


def test_the_level_holds_on_rows_with_many_ties():
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 2, (25, 2)), rng.integers(0, 2, (25, 2))
        p_values.append(mmd_test(x, y, permutations=99, seed=seed).p_value)
    rejected = (np.array(p_values) <= 0.05).mean()
    assert 0.005 <= rejected <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def _correlated(rng, rows):
    x = rng.normal(size=(rows, 2))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    return x


CHANGES = {
    "mean": lambda rng, rows: rng.normal([0.5, 0.0], size=(rows, 2)),
    "scale": lambda rng, rows: rng.normal(size=(rows, 2)) * 1.6,
    "correlation": _correlated,
    "mixture": lambda rng, rows: rng.normal(rng.choice([-1, 1], (rows, 2)), 0.3),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_power(change):
    caught = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(150, 2)), CHANGES[change](rng, 150)
        caught += mmd_test(x, y, permutations=199, seed=seed).p_value <= 0.05
    assert caught >= 24


def test_the_smallest_p_is_one_in_all_permutations():
    x, y = sides(shift=5.0)
    assert mmd_test(x, y, permutations=99).p_value == 0.01
    assert mmd_test(x, y).p_value == 0.001
    assert mmd_test(x, y).permutations == 999


@pytest.mark.parametrize(("m", "n"), [(40, 40), (30, 55)])
def test_neither_the_order_of_rows_nor_that_of_the_sides_matters(m, n):
    x, y = sides(m, n, shift=0.3)
    found = mmd_test(x, y)
    assert 0.001 < found.p_value < 0.9
    rng = np.random.default_rng(1)
    for other in (mmd_test(rng.permutation(x), rng.permutation(y)), mmd_test(y, x)):
        assert other.p_value == found.p_value
        assert other.statistic == pytest.approx(found.statistic, abs=1e-6)


def test_units_do_not_matter():
    x, y = sides(shift=0.25)
    found, scaled = mmd_test(x, y), mmd_test(x * 1e-20, y * 1e-20)
    assert scaled.p_value == found.p_value
    assert scaled.bandwidth == pytest.approx(found.bandwidth * 1e-20)
    moved = mmd_test(x + 1e7, y + 1e7)
    assert moved.statistics == pytest.approx(found.statistics, abs=1e-5)


def test_equal_seeds_give_equal_results():
    x, y = sides(shift=0.2)
    assert mmd_test(x, y, seed=1) == mmd_test(x, y, seed=1)
    assert len({mmd_test(x, y, seed=seed).p_value for seed in range(5)}) > 1
    assert len({mmd_test(x, y, seed=seed).statistics for seed in range(5)}) == 1


def test_blocks_equal_the_whole():
    x, y = sides(130, 90, shift=0.2)
    whole, blocks = mmd_test(x, y), mmd_test(x, y, memory_mb=0.01)
    assert blocks.p_value == whole.p_value
    assert blocks.statistics == pytest.approx(whole.statistics, abs=1e-6)


def test_tensors_arrays_and_vectors_are_alike():
    x, y = sides(d=1, shift=0.5)
    found = mmd_test(x, y)
    assert mmd_test(torch.from_numpy(x), torch.from_numpy(y)) == found
    assert mmd_test(x[:, 0], y[:, 0].tolist()) == found
    assert mmd_test(torch.from_numpy(x).requires_grad_(), y).p_value == found.p_value


def test_frames_are_compared_column_by_column():
    x, y = (pd.DataFrame(side, columns=["device", "b", "c"]) for side in sides(shift=0.3))
    found = mmd_test(x, y)
    assert mmd_test(x, y[["c", "device", "b"]]) == found
    assert mmd_test(x.to_numpy(), y.to_numpy()) == found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("route", ["kernel", "features"])
def test_cuda_equals_cpu(route):
    x, y = (torch.from_numpy(side) for side in sides(200, 150, shift=0.15))
    cpu, cuda = (mmd_test(x.to(d), y.to(d), route=route) for d in ("cpu", "cuda"))
    assert cuda.statistics == pytest.approx(cpu.statistics, abs=1e-4)
    assert cuda.p_value == pytest.approx(cpu.p_value, abs=0.01)


@pytest.mark.parametrize("route", ["kernel", "features"])
@pytest.mark.parametrize(("m", "n"), [(60, 60), (50, 90)])
def test_the_level_of_bins_holds_with_one_seed(monkeypatch, route, m, n):
    monkeypatch.setattr(
        "monitoring.mmd.of_rows", lambda *a, **_: of_rows(*a, most=24, least=8, cap=10_000)
    )
    p_values = np.array(
        [
            mmd_test(*sides(m, n, d=1, seed=seed), permutations=99, route=route).p_value
            for seed in range(400)
        ]
    )
    for level in (0.05, 0.25):
        error = 4 * np.sqrt(level * (1 - level) / 400)
        assert level - error <= (p_values <= level).mean() <= level + error


def test_the_routes_agree():
    x, y = sides(1_500, 1_500, shift=0.08)
    exact, linear = (mmd_test(x, y, route=route) for route in ("kernel", "features"))
    assert (exact.route, linear.route) == ("kernel", "features")
    assert "random frequencies" in linear.note
    assert linear.bandwidths == pytest.approx(exact.bandwidths, rel=0.15)
    assert linear.statistics == pytest.approx(exact.statistics, rel=0.5, abs=5e-4)
    assert max(linear.p_value, exact.p_value) <= 0.01


def test_identical_samples_are_no_drift():
    x, _ = sides()
    assert mmd_test(x, x).p_value > 0.9
    assert mmd_test(np.ones((30, 2)), np.ones((40, 2))).p_value == 1.0
    assert mmd_test(np.zeros((2, 1)), np.zeros((2, 1))).statistic == pytest.approx(0, abs=1e-6)


def test_constant_columns_change_nothing():
    x, y = sides(shift=0.25)
    constant = np.full((40, 2), 7.0)
    with_them = mmd_test(np.hstack([x, constant]), np.hstack([y, constant]))
    assert with_them.statistic == pytest.approx(mmd_test(x, y).statistic, abs=1e-6)


def test_two_constants_that_differ_are_drift():
    assert mmd_test(np.zeros((30, 1)), np.ones((30, 1))).p_value == 0.001


def test_mostly_copies_still_have_a_bandwidth():
    x = np.zeros((60, 1))
    y = np.r_[np.zeros(45), np.ones(15)][:, None]
    assert mmd_test(x, y).p_value <= 0.01


def test_wild_values_do_not_blind_it():
    x, y = sides(100, 100, shift=1.0)
    x[0], y[0] = 1e300, -1e300
    assert mmd_test(x, y).p_value <= 0.01


@pytest.mark.parametrize("d", [1_000, 10_000])
def test_many_columns(d):
    x, y = sides(60, 60, d=d)
    assert mmd_test(x, y, permutations=199).p_value > 0.01
    assert mmd_test(x, y + 0.15, permutations=199).p_value <= 0.01


@pytest.mark.parametrize(
    ("x", "y", "rule"),
    [
        (np.zeros((0, 2)), np.zeros((5, 2)), "x needs at least 2 rows, got 0"),
        (np.zeros((5, 2)), np.zeros((1, 2)), "y needs at least 2 rows, got 1"),
        (np.zeros((5, 2)), np.zeros((5, 3)), "same columns, got 2 and 3"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"got shape \(5, 0\)"),
        (np.zeros((5, 2, 2)), np.zeros((5, 2)), r"got shape \(5, 2, 2\)"),
        ([[0.0], [float("nan")]], [[0.0], [1.0]], "x has NaN or inf in column 0"),
        ([[0.0], [1.0]], [[0.0], [float("inf")]], "y has NaN or inf in column 0"),
        ([["a"], ["b"]], [[0.0], [1.0]], "x must hold numbers only"),
    ],
)
def test_rows_that_no_test_can_read_are_refused(x, y, rule):
    with pytest.raises(WindowFault, match=rule):
        mmd_test(x, y)


def test_senseless_options_are_refused():
    with pytest.raises(WindowFault, match="permutations must be at least 1"):
        mmd_test(*sides(), permutations=0)
    with pytest.raises(WindowFault, match="scales must be positive"):
        mmd_test(*sides(), scales=(1.0, -1.0))


def test_it_is_importable_from_the_package():
    assert monitoring.mmd_test is mmd_test
    with pytest.raises(AttributeError, match="no attribute 'mmd_tset'"):
        monitoring.mmd_tset  # noqa: B018
