"""A torch multi-layer perceptron with embeddings for categories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.compress.choices import AS_IS, SHRINKING, SMALL, shrinks
from models.encoding import Encoded
from models.families.base import TrainingData, Watch
from models.records import Params
from models.space import Float, Int, Ordinal, Space
from models.threads import one_thread


class MLP:
    """ReLU layers trained with AdamW under a falling learning rate."""

    name = "mlp"
    reads: ClassVar[frozenset[str]] = frozenset({"number", "category"})
    adapts: ClassVar[frozenset[str]] = frozenset({"weights", "coral", "mmd", "self"})
    space = Space(
        (
            Ordinal("width", (16, 32, 64, 128, 256)),
            Int("depth", 1, 3),
            Float("dropout", 0.0, 0.5),
            Float("learning_rate", 3e-4, 3e-2, log=True),
            Float("weight_decay", 1e-6, 1e-1, log=True),
            Int("epochs", 3, 40, log=True),
            Ordinal("batch", (64, 128, 256, 512, 1024)),
            *SHRINKING,
        )
    )
    default: ClassVar[Params] = {
        "width": 32,
        "depth": 2,
        "dropout": 0.2,
        "learning_rate": 3e-3,
        "weight_decay": 1e-2,
        "epochs": 8,
        "batch": 256,
        **AS_IS,
    }

    def fit(
        self,
        data: TrainingData,
        params: Params,
        *,
        seed: int,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> FittedMLP:
        from models.families import network

        with one_thread():
            if shrinks(params):
                from models.compress import perceptron

                small = perceptron.fit(data, params, seed=seed, seconds=seconds, watch=watch)
                return FittedMLP(small.net, small.steps)
            net = network.train(data, params, seed=seed, seconds=seconds, watch=watch)
        return FittedMLP(net)

    def load(self, folder: Path) -> FittedMLP:
        from models.families import network

        if (folder / SMALL).exists():
            from models.compress import perceptron

            small = perceptron.load(folder / SMALL)
            return FittedMLP(small.net, small.steps)
        return FittedMLP(network.load(folder / "model.pt2"))


class FittedMLP:
    """A module that maps numbers (n, d_num) and codes (n, d_cat) to probabilities (n, k).

    `steps` of a small model are those of the matrices on a grid (`models.compress.grid`), by name;
    None for a model that was left as it is.
    """

    def __init__(self, module: Any, steps: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self.module = module
        self.steps = steps

    def predict_proba(self, encoded: Encoded) -> NDArray[np.float64]:
        import torch

        with torch.no_grad():
            proba = self.module(torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.codes))
        result: NDArray[np.float64] = proba.numpy()
        return result

    def save(self, folder: Path) -> None:
        from models.families import network

        if self.steps is not None:
            from models.compress import perceptron

            small = perceptron.Compressed(self.module, dict(self.steps))
            perceptron.save(small, folder / SMALL)
        else:
            network.save(self.module, folder / "model.pt2")
