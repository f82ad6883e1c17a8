"""The design matrix of linear models: standardised numbers and one-hot categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoded
from models.families.base import TrainingData

_FAR = 10.0  # standard deviations at which a number is cut, so that one outlier cannot rule a sum


class Design:
    """Numbers minus mean over deviation (missing: 0), an indicator for each number that was ever
    missing in training, and one column per category code below `limit`.

    Its `width` is D = d_num + indicators + codes.
    """

    def __init__(
        self,
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
        gaps: NDArray[np.int64],
        cards: tuple[int, ...],
    ) -> None:
        self.mean, self.scale, self.gaps, self.cards = mean, scale, gaps, cards
        self.dense_width = len(mean) + len(gaps)
        self.offsets = self.dense_width + np.cumsum([0, *cards])[:-1].astype(np.int64)
        self.width = self.dense_width + sum(cards)
        self._limits = np.asarray(cards, dtype=np.int64)

    @classmethod
    def fit(cls, data: TrainingData, *, limit: int) -> Design:
        numbers = data.encoded.numbers.astype(np.float64)
        known = ~np.isnan(numbers)
        count = np.maximum(known.sum(0), 1)
        filled = np.where(known, numbers, 0.0)
        mean = filled.sum(0) / count
        scale = np.sqrt((np.where(known, numbers - mean, 0.0) ** 2).sum(0) / count)
        scale[~(scale > 0)] = 1.0
        cards = tuple(min(card, limit) for card in data.cardinality)
        return cls(mean, scale, np.flatnonzero(~known.all(0)), cards)

    def parts(self, encoded: Encoded) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(n, d_num + indicators) floats and (n, d_cat) positions in the full matrix."""
        numbers = encoded.numbers
        dense = np.empty((len(numbers), self.dense_width))
        scaled = (numbers - self.mean) / self.scale
        missing = np.isnan(scaled)
        scaled[missing] = 0.0
        dense[:, : len(self.mean)] = np.clip(scaled, -_FAR, _FAR)
        dense[:, len(self.mean) :] = missing[:, self.gaps]
        codes = np.where(encoded.codes < self._limits, encoded.codes, 0)
        return dense, codes + self.offsets

    def sparse(self, encoded: Encoded) -> Any:
        """The full matrix (n, D) as scipy CSR."""
        from scipy.sparse import csr_array, hstack

        dense, places = self.parts(encoded)
        rows, columns = places.shape
        if not columns:
            return csr_array(dense)
        # positions count from the dense part's end here, since hstack puts it in front
        hot = csr_array(
            (
                np.ones(places.size),
                (places - self.dense_width).ravel(),
                np.arange(0, places.size + 1, columns),
            ),
            shape=(rows, self.width - self.dense_width),
        )
        return csr_array(hstack([csr_array(dense), hot], format="csr"))

    def dense(self, encoded: Encoded) -> NDArray[np.float64]:
        """The full matrix (n, D) as an array."""
        dense, places = self.parts(encoded)
        X = np.zeros((len(dense), self.width))
        X[:, : self.dense_width] = dense
        np.put_along_axis(X, places, 1.0, axis=1)
        return X

    def scores(
        self, encoded: Encoded, coef: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """X @ coef.T + intercept (n, r) for coef (r, D), without building X."""
        dense, places = self.parts(encoded)
        result: NDArray[np.float64] = dense @ coef[:, : self.dense_width].T + intercept
        if places.shape[1]:
            result += coef.T[places].sum(1)
        return result

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "gaps": self.gaps.tolist(),
            "cards": list(self.cards),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Design:
        return cls(
            np.asarray(state["mean"], dtype=np.float64),
            np.asarray(state["scale"], dtype=np.float64),
            np.asarray(state["gaps"], dtype=np.int64),
            tuple(state["cards"]),
        )
