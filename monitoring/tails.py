"""How far out a statistic lies under permutation, in closed form.

These p-values put statistics of different kinds on one scale before they are combined; they are
approximations, and nothing rests on them but power: the combination is ranked among permutations of
itself, and any fixed function of a labeling may be. All of them see the pooled units alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-300
_COMMON = 20.0  # expected ones on either side from which a normal tail will do
_PROBES = 12


@dataclass(frozen=True, slots=True)
class Quadratic:
    """Pearson's type III fit to a quadratic form of a labeling, by three moments.

    A form with eigenvalues λ is about Σ λ χ²₁, of mean Σλ, variance 2 Σλ² and third central moment
    8 Σλ³ (Imhof 1961). Under permutation the diagonal of the form adds hardly any variance, and the
    moments beyond the mean are those of the form without it: where there are as many columns as
    units, that is most of it.
    """

    mean: float
    deviation: float
    shape: float

    @classmethod
    def of(cls, first: float, second: float, third: float) -> Quadratic:
        """From Σλ, Σλ² and Σλ³."""
        deviation = float(np.sqrt(2 * max(second, _TINY)))
        skew = 8 * max(third, 0.0) / deviation**3
        return cls(first, deviation, 4 / min(max(skew, 0.05), 2.83) ** 2)

    @classmethod
    def of_matrix(cls, centred: NDArray[np.float32], scale: float) -> Quadratic:
        """Of scale · c'Hc for a doubly centred (U, U) H, c the labeling's centred coefficients."""
        diagonal = np.diagonal(centred)
        mean = float(diagonal.sum(dtype=np.float64))
        second = float(np.vdot(centred, centred)) - float(np.vdot(diagonal, diagonal))
        probes: NDArray[np.float32] = _signs(len(centred))
        drawn, rest = probes[:, :_PROBES], probes[:, _PROBES:]

        def times(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            return centred @ vectors - diagonal[:, None] * vectors

        # tr H³ by Hutch++ (Meyer et al. 2021): exact where H reaches far, sampled in the rest
        far: NDArray[np.float32] = np.linalg.qr(times(drawn))[0]
        rest = rest - far @ (far.T @ rest)
        once = times(np.concatenate([far, rest / np.float32(_PROBES**0.5)], axis=1))
        third = float(np.vdot(once, times(once)))
        return cls.of(scale * mean, scale**2 * second, scale**3 * third)

    @classmethod
    def of_features(cls, features: NDArray[np.float32]) -> Quadratic:
        """Of the sum of squared mean differences of (U, k) centred features.

        In units where a feature of variance v over units counts v for its squared z.
        """
        count = len(features)
        wide = features.shape[1] > count
        cross = (features @ features.T if wide else features.T @ features).astype(np.float64)
        cross /= count
        twice = cross @ cross
        if wide:
            diagonal, of_square = np.diagonal(cross), np.diagonal(twice)
        else:  # of the units' Gram matrix and of its square, without making either
            diagonal = np.einsum("ij,ij->i", features, features, dtype=np.float64) / count
            along = features @ cross.astype(np.float32)
            of_square = np.einsum("ij,ij->i", along, features, dtype=np.float64) / count
        second = float(np.trace(twice)) - float((diagonal**2).sum())
        third = float((twice * cross).sum())
        third += float((2 * diagonal**3 - 3 * of_square * diagonal).sum())
        return cls.of(float(np.trace(cross)), second, third)

    def tail(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(form >= value)."""
        from scipy.special import gammaincc

        along = self.shape + np.sqrt(self.shape) * (values - self.mean) / self.deviation
        return np.asarray(np.maximum(gammaincc(self.shape, np.maximum(along, 0.0)), _TINY))


@lru_cache(maxsize=64)
def _signs(count: int) -> NDArray[np.float32]:
    """(count, 2 _PROBES) of -1 and 1."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (count, 2 * _PROBES)).astype(np.float32)
    signs.flags.writeable = False
    return signs


def normal(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """log P(|Z| >= |z|) of a standard normal Z."""
    from scipy.special import log_ndtr

    return np.asarray(np.log(2) + log_ndtr(-np.abs(z.astype(np.float64))))


def largest(log_p: NDArray[np.float64], count: float) -> NDArray[np.float64]:
    """P that the smallest of `count` independent p-values is as small as exp(log_p) (Šidák)."""
    p = np.minimum(np.exp(np.minimum(log_p, 0.0)), 1 - 1e-12)
    return np.asarray(np.maximum(-np.expm1(count * np.log1p(-p)), _TINY))


def effective(correlations: NDArray[np.float64]) -> float:
    """How many independent features correlated ones amount to: (Σλ)² / Σλ²."""
    total = float(np.trace(correlations))
    return float(max(total**2 / max(float((correlations**2).sum()), _TINY), 1.0))


class Counts:
    """Exact tails of how many ones of a rare 0/1 feature fall on the smaller side.

    Hypergeometric, two-sided as twice the smaller tail: a normal tail would call it impossible that
    three rare rows all fall on a small side, which happens. Zeros are counted where they are rare.
    """

    def __init__(
        self, ones: NDArray[np.int64], smaller: int, total: int, indicator: NDArray[np.bool_]
    ) -> None:
        """`ones` (k,) of `total` rows, `smaller` of which lie on the smaller side; `indicator` (k,)
        says which features are 0 or 1, and `rare` will list those of them that are counted."""
        scarce = np.minimum(ones, total - ones)
        expected = scarce * min(smaller, total - smaller) / max(total, 1)
        self.rare = np.flatnonzero(indicator & (expected < _COMMON))
        self.zeros = ones[self.rare] > total // 2
        marked, self._row = np.unique(scarce[self.rare], return_inverse=True)
        self._table = _hypergeometric(marked, smaller, total)

    def log_p(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, rare) log tails of (B, rare) counts, of zeros where `zeros` says so."""
        if not len(self.rare):
            return np.zeros((len(counts), 0))
        whole = np.clip(np.rint(counts).astype(np.int64), 0, self._table.shape[1] - 1)
        return np.asarray(self._table[self._row, whole])


def _hypergeometric(marked: NDArray[np.int64], drawn: int, total: int) -> NDArray[np.float64]:
    """(len(marked), most + 1) log of twice the smaller tail of 0, 1, ... marked among `drawn`."""
    from scipy.special import gammaln

    most = int(min(marked.max(initial=0), drawn))
    counts, of = np.arange(most + 1), marked[:, None]
    possible = (counts <= of) & (drawn - counts <= total - of)

    def choose(n: Any, k: Any) -> Any:
        k = np.where(possible, k, 0)
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

    every = gammaln(total + 1.0) - gammaln(drawn + 1.0) - gammaln(total - drawn + 1.0)
    log = choose(of, counts) + choose(total - of, drawn - counts) - every
    mass = np.where(possible, np.exp(log), 0.0)
    below = np.cumsum(mass, axis=1)
    above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.log(np.clip(2 * np.minimum(below, above), _TINY, 1.0)))
