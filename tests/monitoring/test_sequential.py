"""Bounds that hold at every moment: their level under continuous peeking, and their power."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring import sequential
from monitoring.errors import WindowFault


@pytest.mark.parametrize("p", [0.001, 0.05, 0.5])
def test_a_rate_looked_at_again_and_again_keeps_its_level(p):
    rng = np.random.default_rng(7)
    hits = (rng.random((400, 2_000)) < p).cumsum(axis=1)[:, ::10]
    trials = np.arange(1, 2_001)[::10]
    for alpha in (0.05, 0.2):
        limit = -math.log(alpha)
        above = sequential.against_rate(hits, trials, p).max(axis=1) >= limit
        below = sequential.against_rate(trials - hits, trials, 1 - p).max(axis=1) >= limit
        assert above.mean() <= alpha
        assert below.mean() <= alpha
    naive = abs(hits / trials - p)[:, 10:] > 1.96 * np.sqrt(p * (1 - p) / trials[10:])
    assert naive.any(axis=1).mean() > 0.15  # what a fixed interval of 5 % does


def test_a_mean_looked_at_after_every_value_keeps_its_level():
    """Skewed values, as differences of losses are: mostly none, now and then a large one."""
    rng = np.random.default_rng(3)
    alpha, wrong, runs = 0.1, 0, 200
    for _ in range(runs):
        large = rng.random(600) < 0.08
        values = np.where(large, rng.choice([0.1, 0.9], 600), 0.5)
        wrong += sequential.against_mean(values, 0.5).max() >= -math.log(alpha)
    assert wrong / runs <= alpha


def test_what_is_clearly_worse_is_found_soon():
    rng = np.random.default_rng(1)
    trials = np.arange(1, 3_001)
    needed = []
    for _ in range(100):
        hits = (rng.random(3_000) < 0.05).cumsum()
        gone = sequential.against_rate(hits, trials, 0.01) >= -math.log(0.01)
        assert gone.any()
        needed.append(int(gone.argmax()) + 1)
    assert np.median(needed) < 300
    assert max(needed) < 1_500


def test_bounds_are_where_the_capital_says_so():
    for hits, trials in ((0, 50), (3, 200), (50, 50), (700, 10_000)):
        found = sequential.rate(hits, trials, 0.05)
        assert found.low <= hits / trials <= found.high
        values = np.r_[np.ones(hits), np.zeros(trials - hits)]
        same = sequential.mean(values, 0.0, 1.0, 0.05)
        assert (found.low, found.high) == pytest.approx((same.low, same.high), abs=1e-6)
        if found.low > 0:
            for m, gone in ((found.low * 0.99, True), (found.low * 1.01, False)):
                assert (sequential.against_rate(hits, trials, m) >= -math.log(0.05)) == gone


def test_bounds_move_with_their_range_and_do_not_know_an_order():
    values = np.random.default_rng(0).normal(0.2, 0.3, 500).clip(-1, 1)
    found = sequential.mean(values, -1, 1, 0.05)
    turned = sequential.mean(-values[::-1], -1, 1, 0.05)
    wide = sequential.mean(10 * values, -10, 10, 0.05)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-6)
    assert (wide.low, wide.high) == pytest.approx((10 * found.low, 10 * found.high), abs=1e-5)
    assert 0.1 < found.low < 0.2 < found.high < 0.3


def test_nothing_is_known_of_nothing_and_bad_input_is_told():
    assert sequential.rate(0, 0, 0.05) == sequential.Bounds(None, 0.0, 1.0, 0)
    assert sequential.mean([], -2, 2, 0.05) == sequential.Bounds(None, -2, 2, 0)
    for bad in (lambda: sequential.rate(3, 2, 0.05), lambda: sequential.rate(1, 2, 0.0),
                lambda: sequential.mean([3.0], 0, 1, 0.05),
                lambda: sequential.mean([math.nan], 0, 1, 0.05)):  # fmt: skip
        with pytest.raises(WindowFault, match="got"):
            bad()
