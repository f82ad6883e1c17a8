"""The statistics of a shift test, for many labelings at once, and their combination."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring import tails
from monitoring.samples import Pooled

# Shares of the evidence. Chosen on the table of `everfit bench drift power` so that no kind of
# change in it loses much to the best single statistic; they do not bear on the level.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "location, all": 0.42,
        "location, largest": 0.06,
        "rare values, largest": 0.20,
        "spread, all": 0.03,
        "spread, largest": 0.05,
        "pairs, all": 0.04,
        "pairs, largest": 0.28,
        "mmd": 0.12,
    }
)
_STRIP = 128  # units of a kernel that are multiplied at once
_MANY = 96  # labelings from which it pays to cut the kernel into strips
_FEW = 4  # coordinates up to which their sum of squares says what the largest would
_POWER = 0.75  # of the mean: 1 is the harmonic mean, 0 the product of Fisher's method


class Evidence:
    """Combined evidence of labelings: call with (B, U) labelings for (B,) values.

    `observed` (U,) is the labeling that was seen: 1 for the smaller side.
    """

    def __init__(self, pooled: Pooled, *, first_is_smaller: bool) -> None:
        import torch

        self.pooled, self.units = pooled, pooled.units
        units = self.units
        ones = int(units.first.sum())
        swap = ones > units.count - ones or (ones == units.count - ones and not first_is_smaller)
        self.observed = 1 - units.first if swap else units.first
        self.small = int(self.observed.sum())
        self.count = units.count
        self.flipped = swap
        self.location, self.squares, self.radius, self.products = pooled.features.parts
        self.empty = pooled.points.shape[1] == 0
        if self.empty:
            self.bytes_each = self.count
            return
        features, self.per_z = _standardised(pooled.means, self.small)
        centred = pooled.points - pooled.points.mean(axis=0)
        device = pooled.kernel.device
        self._features = torch.as_tensor(features, device=device)
        self._points = torch.as_tensor(centred, device=device)
        kernel = pooled.kernel
        self._kernel = kernel
        self._strips: list[tuple[int, int, Any]] | None = None
        self.bytes_each = 4 * (2 * self.count + 3 * features.shape[1] + 2 * centred.shape[1]) + 64
        scale = self.count / (self.small * (self.count - self.small))
        per = scale / (self.count - 1)
        self._forms = {
            "location, all": tails.Quadratic.of_features(centred),
            "mmd": tails.Quadratic.of_matrix(kernel.cpu().numpy(), per),
        }
        if len(pooled.features.pairs) > 1:
            self._forms["pairs, all"] = tails.Quadratic.of_features(
                features[:, self.products] * np.float32(self.per_z)
            )
        self._scale = scale * self.count / (self.count - 1)
        size = units.size
        counted = pooled.coordinates.indicator & bool(size)  # blocks have no count of rows to rank
        self._counts = tails.Counts(pooled.ones, self.small * size, self.count * size, counted)
        others = np.setdiff1d(np.arange(self.location.stop), self._counts.rare)
        few = len(others) < _FEW and self.location.stop > 1
        self._others = others[:0] if few else others
        squares = np.arange(self.squares.start, self.squares.stop)
        self._squares = squares if len(squares) >= _FEW or len(squares) < 2 else squares[:0]
        self._effective = {
            name: tails.effective(_correlations(features[:, part]))
            for name, part in (
                ("location", self._others),
                ("rare", self._counts.rare),
                ("squares", self._squares),
            )
            if len(part)
        }
        if len(pooled.features.pairs):
            self._effective["pairs"] = tails.effective(_correlations(features[:, self.products]))

    def __call__(self, labelings: NDArray[np.int8]) -> NDArray[np.float64]:
        """-log10 of the tails' weighted mean, rounded so that equal labelings are equal."""
        if self.empty:
            return np.zeros(len(labelings))
        p_values = self.parts(labelings)
        total = sum(WEIGHTS[name] for name in p_values)
        evidence = sum(WEIGHTS[name] * p**-_POWER for name, p in p_values.items())
        return np.asarray(np.round(np.log10(evidence / total) / _POWER, 5))

    def parts(self, labelings: NDArray[np.int8]) -> dict[str, NDArray[np.float64]]:
        """Each statistic's closed-form tail, (B,) each."""
        coefficients = self._coefficients(labelings)
        return self._parts(labelings, coefficients, self.z(coefficients))

    def _parts(
        self, labelings: NDArray[np.int8], coefficients: Any, z: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float64]]:
        found: dict[str, NDArray[np.float64]] = {}
        if "location" in self._effective:
            furthest = np.abs(z[:, self._others]).max(axis=1)
            found["location, largest"] = tails.largest(
                tails.normal(furthest), self._effective["location"]
            )
        if "rare" in self._effective:
            found["rare values, largest"] = tails.largest(
                self._rare_tails(labelings).min(axis=1), self._effective["rare"]
            )
        moved = (coefficients @ self._points) / self._scale**0.5
        if self._points.shape[1] > 1:
            form = (moved * moved).sum(1).cpu().numpy().astype(np.float64)
            found["location, all"] = self._forms["location, all"].tail(form)
        quadratic = self._quadratic(coefficients)
        found["mmd"] = self._forms["mmd"].tail(quadratic.cpu().numpy().astype(np.float64))
        if "squares" in self._effective:
            spread = np.abs(z[:, self._squares]).max(axis=1)
            found["spread, largest"] = tails.largest(
                tails.normal(spread), self._effective["squares"]
            )
        if self.radius.stop > self.radius.start:
            found["spread, all"] = np.maximum(np.exp(tails.normal(z[:, self.radius.start])), 1e-300)
        if "pairs" in self._effective:
            products = z[:, self.products]
            largest = np.abs(products).max(axis=1)
            found["pairs, largest"] = tails.largest(tails.normal(largest), self._effective["pairs"])
            if "pairs, all" in self._forms:
                form = (products.astype(np.float64) ** 2).sum(axis=1)
                found["pairs, all"] = self._forms["pairs, all"].tail(form)
        return found

    def _quadratic(self, coefficients: Any) -> Any:
        """(B,) the kernel's form of (B, U) coefficients."""
        if len(coefficients) < _MANY:
            return ((coefficients @ self._kernel) * coefficients).sum(1)
        if self._strips is None:
            self._strips = _strips(self._kernel)
        return sum(
            ((coefficients[:, start:stop] @ strip) * coefficients[:, start:]).sum(1)
            for start, stop, strip in self._strips
        )

    def _coefficients(self, labelings: NDArray[np.int8]) -> Any:
        """(B, U): 1 / units of its own group, negative for the larger: sums are differences."""
        import torch

        chosen = torch.as_tensor(labelings, device=self._features.device).to(torch.float32)
        large = self.count - self.small
        return chosen * (1 / self.small + 1 / large) - 1 / large

    def z(self, coefficients: Any) -> NDArray[np.float32]:
        """(B, K) differences of mean features in their own deviations under permutation."""
        return np.asarray((coefficients @ self._features).cpu().numpy())

    def location_tails(
        self, z: NDArray[np.float32], labelings: NDArray[np.int8]
    ) -> NDArray[np.float64]:
        """(B, k) log tail of each coordinate's difference, exact counts for rare indicators."""
        log_p = tails.normal(z[:, self.location])
        if len(self._counts.rare):
            log_p[:, self._counts.rare] = self._rare_tails(labelings)
        return log_p

    def _rare_tails(self, labelings: NDArray[np.int8]) -> NDArray[np.float64]:
        rare = self._counts.rare
        held = self.pooled.means[:, rare] * self.pooled.features.deviation[rare]
        held = np.rint((held + self.pooled.features.centre[rare]) * self.units.size)
        held = np.where(self._counts.zeros, self.units.size - held, held)
        return self._counts.log_p(labelings.astype(np.float32) @ held.astype(np.float32))

    def explained(
        self, labelings: NDArray[np.int8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """z of all features, the coordinates' log tails, and the parts, for these labelings."""
        coefficients = self._coefficients(labelings)
        z = self.z(coefficients)
        parts = self._parts(labelings, coefficients, z)
        return z, self.location_tails(z, labelings), parts


def _standardised(means: NDArray[np.float32], small: int) -> tuple[NDArray[np.float32], float]:
    """(U, K) features such that coefficients times them are z-values under permutation."""
    count = len(means)
    centred = means - means.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    deviation = np.where(deviation > 1e-7, deviation, np.inf)
    per = np.sqrt(count * count / (small * (count - small) * (count - 1.0)))
    return (centred / (deviation * per)).astype(np.float32), per


def _correlations(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlations over units, (K, K), or the units' own Gram matrix where K is larger."""
    length = np.sqrt((features.astype(np.float64) ** 2).sum(axis=0))
    standard = features / np.where(length > 0, length, 1.0)
    wide = features.shape[1] > len(features)
    return np.asarray(standard @ standard.T if wide else standard.T @ standard)


def _strips(kernel: Any) -> list[tuple[int, int, Any]]:
    """(start, stop, rows) of a symmetric kernel: what lies left of a strip stands doubled above.

    A quadratic form then takes little more than half of the products.
    """
    import torch

    count = len(kernel)
    edges = np.linspace(0, count, max(round(count / _STRIP), 1) + 1).round().astype(int)
    strips = []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        within, right = kernel[start:stop, start:stop], 2 * kernel[start:stop, stop:]
        strips.append((start, stop, torch.cat([within, right], dim=1)))
    return strips
