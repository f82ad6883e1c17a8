"""The recency test: silent where rows are exchangeable, loud where newer rows teach better."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.errors import WindowFault
from monitoring.recency import EXPECTED, NAME, recency_signals
from monitoring.records import Kind


def losses(gain: float, rows: int = 2_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    newer = rng.exponential(0.5, rows)
    return newer + gain + rng.normal(0, 0.3, rows), newer


def test_a_clear_gain_is_a_breach_of_performance_and_no_harm_is_fine() -> None:
    gain, expected = recency_signals(*losses(0.1))
    assert (gain.name, gain.kind, gain.breached) == (NAME, Kind.PERFORMANCE, True)
    assert gain.low is not None
    assert gain.low > 0
    assert (expected.name, expected.kind) == (EXPECTED, Kind.ESTIMATE)
    assert expected.breached is True
    assert expected.detail["fine"] is False
    gain, expected = recency_signals(*losses(0.0))
    assert gain.breached is False
    assert expected.breached is False
    assert expected.detail["fine"] is True


def test_exchanging_the_proxies_turns_the_sign_and_nothing_else() -> None:
    older, newer = losses(0.05)
    one, other = recency_signals(older, newer)[0], recency_signals(newer, older)[0]
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)
    assert other.breached is False  # older rows that teach better are no reason to retrain


def test_a_certain_gain_below_the_floor_is_no_breach() -> None:
    older, newer = losses(0.0, rows=500)
    assert recency_signals(newer + 0.004, newer)[0].breached is False
    assert recency_signals(newer + 0.006, newer)[0].breached is True
    del older


def test_false_alarms_stay_below_the_level() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(
        bool(
            recency_signals(
                rng.exponential(0.5, 300), rng.exponential(0.5, 300), floor=0.0, confidence=0.99
            )[0].breached
        )
        for _ in range(2_000)
    )
    assert alarms <= 22  # one-sided half of 1 % of 2,000 is 10, with 3.7 deviations of room


def test_too_few_rows_say_so_and_never_read_as_no_drift() -> None:
    for signal in recency_signals(np.ones(50), np.ones(50)):
        assert signal.breached is None
        assert "at least 200" in signal.reason
    for signal in recency_signals([], []):
        assert signal.breached is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 1.0]), ([[1.0]], [[1.0]])],
)
def test_losses_that_do_not_go_together_are_refused(older: list, newer: list) -> None:
    with pytest.raises(WindowFault, match="same labelled rows"):
        recency_signals(older, newer)


def test_nothing_wins_more_than_the_champion_loses() -> None:
    """A champion that is nearly perfect has nothing to win, whatever two small models say."""
    _, free = recency_signals(*losses(0.1))
    _, bounded = recency_signals(*losses(0.1), most=0.02)
    assert free.breached is True
    assert bounded.breached is False
    assert (bounded.value, bounded.high) == (0.02, 0.02)
    assert bounded.detail["fine"] is True
    _, loose = recency_signals(*losses(0.1), most=5.0)
    assert (loose.value, loose.low, loose.high) == (free.value, free.low, free.high)
