"""The stochastic units: densities, entropies, quantiles, and where the REINFORCE step leads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.search.policy_net import WIDE, Evidence, Layout, Policy, one_thread, reinforce
from models.space import Categorical, Float, Int, Ordinal, Space

SPACE = Space((Float("x", 0, 1), Categorical("c", ("a", "b", "d")), Int("n", 1, 4)))


def shaped(mean: float, sigma: float, logits: tuple[float, float, float] = (0, 0, 0)) -> Policy:
    policy = Policy.uniform(Layout(SPACE))
    policy.mean[:] = mean
    policy.log_sigma[:] = math.log(sigma)
    policy.logits[0] = torch.tensor(logits)
    return policy


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 1.0), (0.0, 0.1), (1.0, 0.04), (0.3, 0.3)])
def test_density_integrates_to_one_and_entropy_is_its_own(mean: float, sigma: float) -> None:
    policy = shaped(mean, sigma)
    y = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    log_g, _ = policy.log_likelihood(
        torch.stack([y, y], dim=1), torch.zeros((20_000, 1), dtype=torch.int64)
    )
    density = log_g[:, 0].exp()
    assert float(density.mean()) == pytest.approx(1.0, abs=1e-3)
    entropy, _ = policy.entropies()
    assert float(entropy[0]) == pytest.approx(float(-(density * log_g[:, 0]).mean()), abs=2e-3)


def test_entropy_is_zero_for_uniform_choices_and_negative_otherwise() -> None:
    assert float(shaped(0.5, 1.0).entropies()[1][0]) == pytest.approx(0.0, abs=1e-12)
    sure = float(shaped(0.5, 1.0, (9.0, 0.0, 0.0)).entropies()[1][0])
    assert sure == pytest.approx(-math.log(3), abs=0.02)
    assert -0.02 < float(shaped(0.5, WIDE).entropies()[0][0]) < 0


def test_quantiles_follow_the_distribution() -> None:
    policy = shaped(0.2, 0.1, (math.log(6), math.log(3), 0.0))
    rng = np.random.default_rng(0)
    unit = np.array([policy.emit(rng.random(3)) for _ in range(4000)])
    assert unit[:, 0].mean() == pytest.approx(0.2056, abs=0.005)  # of the truncated normal
    assert unit.min() >= 0
    assert unit.max() <= 1
    shares = np.bincount(np.floor(unit[:, 1] * 3).astype(int), minlength=3) / 4000
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    ends = [policy.emit(np.full(3, u)) for u in (1e-9, 1 - 1e-9)]
    assert np.all(np.isfinite(ends))
    assert np.all(ends[0] <= ends[1])


@pytest.mark.parametrize("seed", range(5))
def test_eligibilities_and_entropy_gradients_are_those_of_autograd(seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy = shaped(0.5, 0.3, tuple(rng.normal(size=3)))
    policy.mean[:] = torch.from_numpy(rng.random(2))
    policy.log_sigma[:] = torch.from_numpy(rng.uniform(math.log(0.05), 0, 2))
    y = torch.from_numpy(rng.random((7, 2)))
    codes = torch.from_numpy(rng.integers(0, 3, (7, 1)))
    offset = torch.from_numpy(rng.normal(size=(7, 3)))
    mean, log_sigma, (h_mean, h_log_sigma) = policy.number_gradients(y, offset[:, :2])
    logits = policy.choice_gradients(codes, offset[:, 2:])
    h_logits = policy.choice_entropy_gradient()

    weights = (policy.mean, policy.log_sigma, policy.logits)
    for w in weights:
        w.requires_grad_()
    gain = (offset * torch.cat(policy.log_likelihood(y, codes), dim=1)).sum()
    for found, wanted in zip(
        (mean, log_sigma, logits), torch.autograd.grad(gain, weights), strict=True
    ):
        torch.testing.assert_close(found.detach(), wanted)
    entropy = torch.cat(policy.entropies()).sum()
    for found, wanted in zip(
        (h_mean, h_log_sigma, h_logits), torch.autograd.grad(entropy, weights), strict=True
    ):
        torch.testing.assert_close(found.detach(), wanted)


def evidence(x: list[float], codes: list[int], reward: list[float]) -> Evidence:
    unit = np.column_stack([x, (np.array(codes) + 0.5) / 3, np.full(len(x), 0.5)])
    return Evidence(
        unit,
        np.ones(unit.shape, dtype=bool),
        np.repeat(np.array(reward)[:, None], 3, axis=1),
        np.ones(len(x)),
    )


def test_the_step_climbs_towards_reward() -> None:
    start = Policy.uniform(Layout(SPACE))
    seen = evidence([0.1, 0.3, 0.7, 0.9], [0, 1, 2, 0], [1.0, 0.5, -0.5, -1.0])
    after = reinforce(start, seen, steps=20, rate=0.3, beta=0.0)
    assert float(after.mean[0]) < 0.4
    probabilities = after.log_probabilities().exp()[0]
    assert int(probabilities.argmax()) == 1
    assert float(probabilities[2]) < 1 / 3
    assert float(start.mean[0]) == 0.5  # the policy given stays as it is


def test_equal_rewards_teach_nothing() -> None:
    start = shaped(0.5, 0.3)
    after = reinforce(
        start, evidence([0.1, 0.4, 0.9], [0, 1, 2], [0.3, 0.3, 0.3]), steps=20, rate=0.5, beta=0.0
    )
    assert after.mean.tolist() == pytest.approx(start.mean.tolist(), abs=1e-9)
    assert after.log_sigma.tolist() == pytest.approx(start.log_sigma.tolist(), abs=1e-9)
    assert after.logits.tolist()[0] == pytest.approx(start.logits.tolist()[0], abs=1e-9)


def test_the_entropy_bonus_widens() -> None:
    seen = evidence([0.2, 0.5, 0.8], [0, 1, 2], [-1.0, 1.0, -1.0])  # the mean stays at 0.5
    narrow, wide = (
        reinforce(shaped(0.5, 0.3), seen, steps=30, rate=0.3, beta=beta) for beta in (0.0, 0.5)
    )
    assert float(wide.entropies()[0][0]) > float(narrow.entropies()[0][0])
    assert float(wide.entropies()[1][0]) > float(narrow.entropies()[1][0])


def test_a_unit_that_never_spoke_stays() -> None:
    seen = evidence([0.2, 0.5, 0.8], [0, 1, 2], [1.0, 0.0, -1.0])
    seen.active[:, 2] = False
    after = reinforce(shaped(0.5, 0.3), seen, steps=10, rate=0.5, beta=0.3)
    assert float(after.mean[1]) == 0.5
    assert float(after.log_sigma[1]) == pytest.approx(math.log(0.3))


@pytest.mark.parametrize(
    "space",
    [
        Space(()),
        Space((Categorical("c", (1, 2)),)),
        Space((Ordinal("o", (1, 2)),)),
        Space((Float("x", 1, 1),)),
    ],
)
def test_spaces_with_one_kind_of_unit_or_none(space: Space) -> None:
    d = len(space)
    seen = Evidence(
        np.full((3, d), 0.3), np.ones((3, d), bool), np.tile([[1.0]], (3, d)), np.ones(3)
    )
    after = reinforce(Policy.uniform(Layout(space)), seen, steps=3, rate=0.5, beta=0.1)
    space.validate(space.decode(after.emit(np.full(d, 0.7))))


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
