"""Rewards, budgets, the best trial, and the randomness of a trial."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SpaceFault
from models.records import Trial
from models.search import Budget, best, key
from models.search.base import generator, trial_seed
from models.search.reward import loss_of, losses_of, ranked


def trial(number: int, loss: float | None, status: str = "complete", error: str = "") -> Trial:
    return Trial(number, {"x": number}, status, loss, 0.0, 0, error=error)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_failure(loss: float | None) -> None:
    assert loss_of(trial(0, loss)) is None
    assert np.isnan(losses_of([trial(0, loss)]))[0]
    assert loss_of(trial(0, 0.5, "failed")) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_rewards_are_ranks_and_larger_is_better(losses: list[float]) -> None:
    values = np.array(losses)
    reward = ranked(values)
    assert reward.sum() == pytest.approx(0.0, abs=1e-9)
    assert np.abs(reward).max() <= 1
    better = values[:, None] < values[None, :]
    assert np.all((reward[:, None] > reward[None, :]) == better)
    monotone = ranked(np.arctan(values / 1e6) * 3 - 7)
    if len(set((np.arctan(values / 1e6) * 3 - 7).tolist())) == len(set(losses)):
        assert monotone.tolist() == reward.tolist()


def test_failures_get_the_worst_reward() -> None:
    reward = ranked(np.array([math.nan, 5.0, 1.0, math.nan]))
    assert reward[0] == reward[3] == -1.0
    assert reward[2] == 1.0
    assert -1 < reward[1] < 1
    assert ranked(np.array([math.nan])).tolist() == [-1.0]
    assert ranked(np.array([3.0])).tolist() == [0.0]


def test_best_is_the_earliest_of_the_smallest() -> None:
    trials = [trial(2, 0.1), trial(0, 0.3), trial(1, 0.1), trial(3, math.nan), trial(4, None)]
    assert best(trials).number == 1


def test_best_without_a_complete_trial_gives_the_last_error() -> None:
    with pytest.raises(SpaceFault, match=r"got 2 of which none did \(last error: out of memory\)"):
        best([trial(0, None, "failed", "diverged"), trial(1, None, "failed", "out of memory")])
    with pytest.raises(SpaceFault, match="got 0 of which none did: "):
        best([])


def test_a_budget_says_why_it_is_spent() -> None:
    budget = Budget(trials=3, seconds=10)
    assert budget.spent(2, 9.9) is None
    assert budget.spent(3, 0) == "the budget of 3 trials is spent"
    assert budget.spent(0, 10) == "the budget of 10 s is spent"
    for trials, seconds in ((0, 1), (1, 0), (1, math.nan)):
        with pytest.raises(SpaceFault, match="at least one trial"):
            Budget(trials=trials, seconds=seconds)


def test_randomness_derives_from_seed_and_number() -> None:
    assert generator(1, 2).random() == generator(1, 2).random()
    draws = {generator(s, n, k).random() for s in (-1, 0, 1) for n in range(3) for k in range(3)}
    assert len(draws) == 27
    seeds = [trial_seed(0, n) for n in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= s < 2**31 for s in seeds)


def test_keys_ignore_the_order_and_the_last_digits() -> None:
    assert key({"a": 0.1, "b": 1}) == key({"b": 1, "a": 0.1 + 1e-15})
    assert key({"a": 0.1}) != key({"a": 0.1001})
