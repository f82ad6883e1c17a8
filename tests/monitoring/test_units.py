"""Units: equal bins, caps that hold, and nothing left of the order of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.errors import WindowFault
from monitoring.units import of_blocks, of_rows

sizes = st.integers(2, 30_000)


@given(sizes, sizes, st.integers(16, 600), st.integers(2, 128), st.integers(8, 2_000))
@settings(deadline=None, max_examples=60)
def test_bins_are_equal_and_the_cap_holds(m, n, most, least, cap):
    units = of_rows(m, n, 0, most=most, least=least, cap=cap)
    ones = int(units.first.sum())
    assert units.count <= cap
    assert min(ones, units.count - ones) >= 2
    assert (units.sizes == units.size).all()
    assert len(np.unique(units.order)) == len(units.order) == units.count * units.size
    assert ((units.order < m) == (units.first[units.unit] == 1)).all()
    swapped = of_rows(n, m, 0, most=most, least=least, cap=cap)
    assert (swapped.count - int(swapped.first.sum()), swapped.size) == (ones, units.size)


def test_few_rows_are_their_own_units():
    units = of_rows(30, 50, 0)
    assert (units.size, units.note) == (1, "")
    assert np.array_equal(units.order, np.arange(80))


@pytest.mark.parametrize(
    ("m", "n", "bins"), [(2_000, 2_000, (250, 250)), (10**6, 10**6, (255, 255)), (300, 9_000, None)]
)
def test_many_rows_become_about_as_many_bins(m, n, bins):
    units = of_rows(m, n, 0)
    ones = int(units.first.sum())
    if bins:
        assert (ones, units.count - ones) == bins
        assert "random bins" in units.note
    assert ones >= 128


def test_rows_left_out_are_said():
    assert "5,096 of 90,000 rows of the larger side drawn" not in of_rows(100, 4_000, 0).note
    assert "4,096 of 90,000 rows of the larger side drawn" in of_rows(100, 90_000, 0).note


@pytest.mark.parametrize(("m", "n"), [(60, 60), (70, 45), (20, 300)])
def test_arranged_units_hold_the_same_whatever_the_order_of_rows(monkeypatch, m, n):
    monkeypatch.setattr("monitoring.units._LEAST_LARGER", 32)
    rng = np.random.default_rng(0)
    along = rng.normal(size=m + n)
    start = of_rows(m, n, 7, most=16, least=5)

    def contents(units, values):
        held = values[units.order].reshape(units.count, units.size)
        return np.sort(held, axis=1), units.first, units.key

    values, first, key = contents(start.arranged(along, m, 7), along)
    shuffled = np.r_[rng.permutation(along[:m]), rng.permutation(along[m:])]
    again, first_again, key_again = contents(start.arranged(shuffled, m, 7), shuffled)
    assert np.array_equal(values, again)
    assert np.array_equal(first, first_again)
    assert key == key_again
    swapped = np.r_[along[m:], along[:m]]
    other, first_other, key_other = contents(
        of_rows(n, m, 7, most=16, least=5).arranged(swapped, n, 7), swapped
    )
    assert np.array_equal(values, other)
    assert np.array_equal(first, 1 - first_other)
    assert key == key_other
    assert (np.diff(values.mean(axis=1)) >= 0).all()


def test_bins_and_keys_differ_from_one_set_of_rows_to_the_next():
    """With one seed the same ranks must not always share a bin."""
    rng, start = np.random.default_rng(0), of_rows(60, 60, 0, most=16, least=5)
    bins, keys = set(), set()
    for _ in range(20):
        along = rng.normal(size=120)
        units = start.arranged(along, 60, 0)
        rank = np.argsort(np.argsort(along[:60]))
        bins.add(tuple(sorted(rank[units.order[units.unit == units.first.argmax()]])))
        keys.add(units.key)
    assert len(keys) == 20
    assert len(bins) == 20


def test_means_are_over_each_unit():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 2))
    ids = rng.integers(0, 6, 50), rng.integers(0, 5, 40)
    for units in (of_rows(50, 40, 0, most=12, least=4), of_blocks(*ids), of_rows(50, 40, 0)):
        found = units.means(rows[units.order])
        for place in range(units.count):
            held = rows[units.order[units.unit == place]]
            assert found[place] == pytest.approx(held.mean(axis=0))


@pytest.mark.parametrize("rows", [1, 7, 30, 1_000])
def test_chunks_are_whole_units_of_one_side(rows):
    for units in (
        of_rows(90, 40, 0, most=20, least=4),
        of_blocks(np.arange(50) // 7, np.arange(33) // 4),
    ):
        parts = list(units.chunks(rows))
        assert np.array_equal(np.concatenate([p.order for p in parts]), units.order)
        assert np.array_equal(np.concatenate([p.first for p in parts]), units.first)
        assert np.array_equal(np.concatenate([p.sizes for p in parts]), units.sizes)
        for part in parts:
            assert len(set(part.first.tolist())) == 1
            assert len(part.order) <= rows or part.count == 1


def test_blocks_are_ids_of_either_side():
    units = of_blocks(["b", "a", "b"], [7, 7, 8, 9])
    assert units.first.tolist() == [1, 1, 0, 0, 0]
    assert units.order.tolist() == [1, 0, 2, 3, 4, 5, 6]
    assert units.sizes.tolist() == [1, 2, 2, 1, 1]
    assert units.size == 0
    with pytest.raises(WindowFault, match="y has 1"):
        of_blocks([1, 2], [3, 3])
    with pytest.raises(WindowFault, match="x has 0"):
        of_blocks([], [3, 4])
