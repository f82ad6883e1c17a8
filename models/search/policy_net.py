"""The stochastic policy over a search space, and the REINFORCE step that teaches it.

One stochastic unit per parameter, as in Williams, *Simple statistical gradient-following algorithms
for connectionist reinforcement learning*, Machine Learning 8 (1992). A unit i emits y_i with

    numbers, ordinal values   g_i(y) = N(y; mu_i, sigma_i^2) / Z_i   on [0, 1]           (1)
    choices                   g_i(k) = softmax(l_i)_k                                    (2)

and learns by reward increment = nonnegative factor x offset reinforcement x characteristic
eligibility (section 4 of the paper), summed over the trials t in which the parameter was active:

    delta w_i = alpha_i sum_t rho_it (r_it - b_it) d ln g_i(y_it) / d w_i                (3)

with alpha_i = alpha sigma_i^2 for mu_i, which section 6 of the paper proposes for Gaussian units
and which makes the step independent of their width. Trials are few and old ones are kept, so each
is weighted by how likely the unit would emit it now, against how often it was emitted,

    rho_it = a_t g_i(y_it) / q_i(y_it),  normalised to sum 1 over t                      (4)

(q_i: 1 for numbers, whose first trials fill the interval evenly; the share of trials, with one
imagined beside them, for choices; a_t: how much the trial counts, 1 for those of this search). The
baseline leaves the trial itself out, as in Kool, van Hoof, Welling (2019),

    b_it = sum_{s != t} rho_is r_is / sum_{s != t} rho_is                                (5)

and an entropy bonus keeps the units from closing on luck (Williams and Peng, 1991): the step climbs

    J_i + beta H_i,   H_i relative to the uniform unit, so 0 at most                     (6)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.space import Categorical, Space

WIDE = 1.0  # sigma of a unit that knows nothing: within 12 % of uniform on [0, 1]
NARROW = 0.04  # sigma is kept above this: a number is not worth knowing better in so few trials
_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


@contextmanager
def one_thread() -> Iterator[None]:
    """Units are tiny: a second thread costs more than it brings, and trials want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Layout:
    """Where each parameter of a space sits: m units over numbers, c over choices."""

    def __init__(self, space: Space) -> None:
        self.space = space
        listed = [isinstance(p, Categorical) for p in space.parameters]
        self.numbers = np.flatnonzero(~np.array(listed, dtype=bool))
        self.choices = np.flatnonzero(np.array(listed, dtype=bool))
        self.floor = torch.tensor(
            [max(NARROW, space.parameters[j].width() / 2) for j in self.numbers],
            dtype=torch.float64,
        )
        self.counts = np.array([int(space.parameters[j].size()) for j in self.choices], dtype=int)
        most = int(self.counts.max()) if len(self.counts) else 1
        self.conditional = any(p.when is not None for p in space.parameters)
        self.together = _together(space) if self.conditional else float(len(space))
        self.allowed = torch.arange(most)[None, :] < torch.from_numpy(self.counts)[:, None]

    def codes(self, unit: NDArray[np.float64]) -> NDArray[np.int64]:
        """Unit coordinates (n, d) to the choices' indices (n, c)."""
        index = np.floor(unit[:, self.choices] * self.counts).astype(np.int64)
        bounded: NDArray[np.int64] = np.clip(index, 0, np.maximum(self.counts - 1, 0))
        return bounded


def _together(space: Space, many: int = 512) -> float:
    """How many parameters count at the same time, in the mean of uniform draws."""
    draws = np.random.default_rng(0).random((many, len(space)))
    return float(space.canonical_many(draws)[1].sum(axis=1).mean())


@dataclass
class Policy:
    """mean and log_sigma (m,), logits (c, k), all float64; impossible choices are masked."""

    layout: Layout
    mean: Tensor
    log_sigma: Tensor
    logits: Tensor

    @classmethod
    def uniform(cls, layout: Layout) -> Policy:
        m = len(layout.numbers)
        return cls(
            layout,
            torch.full((m,), 0.5, dtype=torch.float64),
            torch.full((m,), math.log(WIDE), dtype=torch.float64),
            torch.zeros(layout.allowed.shape, dtype=torch.float64),
        )

    def log_probabilities(self) -> Tensor:
        """Equation (2), (c, k); -inf where there is no such choice."""
        return self.logits.masked_fill(~self.layout.allowed, -math.inf).log_softmax(dim=1)

    def _truncation(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """sigma, the standardised ends a < b of the unit interval, and Z of equation (1)."""
        sigma = self.log_sigma.exp()
        a, b = -self.mean / sigma, (1 - self.mean) / sigma
        return sigma, a, b, torch.special.ndtr(b) - torch.special.ndtr(a)

    def log_likelihood(self, y: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """ln g of numbers y (n, m) and of choices codes (n, c)."""
        sigma, _, _, z = self._truncation()
        number = -0.5 * ((y - self.mean) / sigma) ** 2 - _LOG_ROOT_2_PI - (sigma * z).log()
        return number, self.log_probabilities().T.gather(0, codes)

    def entropies(self) -> tuple[Tensor, Tensor]:
        """H relative to the uniform unit, (m,) and (c,), at most 0."""
        sigma, a, b, z = self._truncation()
        phi_a, phi_b = (torch.exp(-0.5 * x**2 - _LOG_ROOT_2_PI) for x in (a, b))
        number = (sigma * z).log() + _LOG_ROOT_2_PI + 0.5 + (a * phi_a - b * phi_b) / (2 * z)
        log_p = self.log_probabilities().masked_fill(~self.layout.allowed, 0.0)
        p = log_p.exp() * self.layout.allowed
        size = torch.from_numpy(self.layout.counts).to(torch.float64)
        return number, -(p * log_p).sum(dim=1) - size.log()

    def number_gradients(
        self, y: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """sum_t offset_t d ln g(y_t) for mu and ln sigma, (m,) each; then d H for the same two.

        Section 6 of the paper: (y - mu) / sigma^2 and ((y - mu)^2 - sigma^2) / sigma^3 (times sigma
        here, the unit learns ln sigma), each with what the truncation adds through Z.
        """
        sigma, a, b, z = self._truncation()
        phi_a, phi_b = (torch.exp(-0.5 * x**2 - _LOG_ROOT_2_PI) for x in (a, b))
        slope, ends = (
            (phi_b - phi_a) / z,
            (a * phi_a - b * phi_b) / z,
        )  # -sigma Z_mu/Z, Z_ln sigma/Z
        t = (y - self.mean) / sigma
        d_mean = (offset * (t + slope)).sum(dim=0) / sigma
        d_log_sigma = (offset * (t**2 - 1 - ends)).sum(dim=0)
        inner_a, inner_b = phi_a * (1 - a**2) / z, phi_b * (1 - b**2) / z
        h_mean = (-slope + (inner_b - inner_a + ends * slope) / 2) / sigma
        h_log_sigma = 1 + ends + (b * inner_b - a * inner_a - ends**2) / 2
        return d_mean, d_log_sigma, (h_mean, h_log_sigma)

    def choice_gradients(self, codes: Tensor, offset: Tensor) -> Tensor:
        """sum_t offset_t d ln g(k_t) / d l, (c, k): one at the choice made, less the softmax."""
        made = torch.zeros_like(self.logits).scatter_add_(1, codes.T, offset.T)
        return made - self.log_probabilities().exp() * offset.sum(dim=0)[:, None]

    def choice_entropy_gradient(self) -> Tensor:
        """d H / d l, (c, k)."""
        log_p = self.log_probabilities().masked_fill(~self.layout.allowed, 0.0)
        p = log_p.exp() * self.layout.allowed
        return -p * (log_p - (p * log_p).sum(dim=1, keepdim=True))

    def emit(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The units' quantiles: uniform u (d,) in (0, 1) to unit coordinates (d,)."""
        unit: NDArray[np.float64] = self.emit_many(u[None])[0]
        return unit

    def emit_many(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same for many: uniform u (n, d) to unit coordinates (n, d)."""
        out = np.full(u.shape, 0.5)
        u = np.clip(u, 1e-9, 1 - 1e-9)
        with torch.no_grad():
            if len(self.layout.numbers):
                sigma, a, _, z = self._truncation()
                level = torch.special.ndtr(a) + torch.from_numpy(u[:, self.layout.numbers]) * z
                y = self.mean + sigma * torch.special.ndtri(level)
                out[:, self.layout.numbers] = y.clamp(0, 1).numpy()
            if len(self.layout.choices):
                cumulative = self.log_probabilities().exp().cumsum(dim=1).numpy()
                index = (cumulative[None] < u[:, self.layout.choices][:, :, None]).sum(axis=2)
                index = np.minimum(index, self.layout.counts - 1)
                out[:, self.layout.choices] = (index + 0.5) / self.layout.counts
        return out


@dataclass(frozen=True, slots=True)
class Evidence:
    """Trials as the units see them.

    unit (n, d) coordinates; active (n, d); reward (n, d), ranked per parameter among the trials
    in which it was active (a baseline of its own per unit); weight (n,), a_t of equation (4).
    """

    unit: NDArray[np.float64]
    active: NDArray[np.bool_]
    reward: NDArray[np.float64]
    weight: NDArray[np.float64]


@torch.no_grad()
def reinforce(
    policy: Policy, evidence: Evidence, *, steps: int, rate: float, beta: float
) -> Policy:
    """`steps` steps of equation (3) on `evidence`, from `policy`, which stays as it is."""
    layout = policy.layout
    if not len(evidence.unit) or not len(layout.space):
        return policy
    numbers, choices = layout.numbers, layout.choices
    code = layout.codes(evidence.unit)
    counts = evidence.active * evidence.weight[:, None]  # a_t, 0 where inactive
    scale = _over_frequency(counts, code, layout)
    y, codes = torch.from_numpy(evidence.unit[:, numbers]), torch.from_numpy(code)
    scale_y, scale_c = torch.from_numpy(scale[:, numbers]), torch.from_numpy(scale[:, choices])
    reward_y = torch.from_numpy(evidence.reward[:, numbers])
    reward_c = torch.from_numpy(evidence.reward[:, choices])
    # A unit that never spoke learns nothing, and has no bonus either.
    bonus = beta * torch.from_numpy((counts.sum(axis=0) > 0).astype(np.float64))
    bonus_y, bonus_c = bonus[numbers], bonus[choices, None]
    low, high = layout.floor.log(), torch.full_like(layout.floor, math.log(WIDE))

    now = Policy(layout, policy.mean.clone(), policy.log_sigma.clone(), policy.logits.clone())
    for _ in range(steps):
        ln_y, ln_c = now.log_likelihood(y, codes)
        offset_y, offset_c = _offset(ln_y, scale_y, reward_y), _offset(ln_c, scale_c, reward_c)
        d_mean, d_log_sigma, d_entropy = now.number_gradients(y, offset_y)
        sigma = now.log_sigma.exp()
        d_logits = now.choice_gradients(codes, offset_c) + bonus_c * now.choice_entropy_gradient()
        now.mean += rate * sigma**2 * (d_mean + bonus_y * d_entropy[0])
        now.log_sigma += rate * (d_log_sigma + bonus_y * d_entropy[1])
        now.logits += rate * d_logits
        now.mean.clamp_(0.0, 1.0)
        now.log_sigma = torch.maximum(torch.minimum(now.log_sigma, high), low)
    return now


def _offset(log_g: Tensor, scale: Tensor, reward: Tensor) -> Tensor:
    """rho_it (r_it - b_it) of equations (3) to (5), (n, units)."""
    rho = scale * (log_g - log_g.amax(dim=0)).exp()
    rho = rho / rho.sum(dim=0).clamp_min(1e-12)  # (4)
    rest = 1 - rho
    baseline = ((rho * reward).sum(dim=0) - rho * reward) / rest.clamp_min(1e-3)  # (5)
    # A trial that is alone has nothing to be compared with.
    return torch.where(rest > 1e-3, rho * (reward - baseline), 0.0)


def _over_frequency(
    counts: NDArray[np.float64], codes: NDArray[np.int64], layout: Layout
) -> NDArray[np.float64]:
    """a_t / q_i of equation (4), (n, d)."""
    scale = counts.astype(np.float64)
    for column, j in enumerate(layout.choices):
        seen = np.bincount(codes[:, column], weights=counts[:, j], minlength=layout.counts[column])
        scale[:, j] /= 1.0 + seen[codes[:, column]]
    return scale
