"""`mlp` made small: its parameter `compress` and what each choice of it does."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.compress import distil, grid, packed
from models.compress.distil import both, filled
from models.compress.pruner import Group, Pruner, slices, weights
from models.compress.units import compacted
from models.encoding import Encoded
from models.families import network
from models.families.base import TrainingData, Watch
from models.families.network import Net
from models.records import Params

COPIES = 4  # made-up rows for each real one, that a student learns from
TIMES = 4  # steps of a student, of one step of its teacher
LONGER = 1.5  # epochs of a training in which weights go, of one in which all stay


class Compressed:
    """A network and the steps of the matrices whose weights lie on a grid, by name."""

    def __init__(self, net: Net, steps: dict[str, NDArray[np.float32]]) -> None:
        self.net, self.steps = net, steps


def fit(
    data: TrainingData,
    params: Params,
    *,
    seed: int,
    seconds: float | None = None,
    watch: Watch | None = None,
) -> Compressed:
    """A small network by `params`: compress (sparse, units or student) and what depends on it."""
    kind = str(params["compress"])
    if kind == "student":
        net = _student(data, params, seed, seconds, watch)
    else:
        net = pruned(data, params, kind, seed=seed, seconds=seconds, watch=watch)
    return on_grid(net) if params.get("precision") == "int8" else Compressed(net, {})


def pruned(
    data: TrainingData,
    params: Params,
    kind: str,
    *,
    seed: int,
    seconds: float | None = None,
    watch: Watch | None = None,
) -> Net:
    """Trained while weights go, one by one ('sparse') or with their units ('units')."""
    share = float(params["sparsity"])
    # what is left of a network needs little of what keeps a whole one from learning by heart
    longer = {
        **params,
        "epochs": math.ceil(LONGER * int(params["epochs"])),
        "dropout": (1 - share) * float(params["dropout"]),
    }
    groups = _single if kind == "sparse" else _units

    def hook(net: Net, steps: int) -> Pruner:
        return Pruner(groups(net), target=share, steps=steps)

    net = network.train(data, longer, seed=seed, seconds=seconds, watch=watch, hook=hook)
    return compacted(net)


def _single(net: Net) -> list[Group]:
    return [weights(matrix) for matrix in (*net.weights, *net.embeddings)]


def _units(net: Net) -> list[Group]:
    """Hidden units with all that leads to and from them; of embeddings single weights."""
    layers = list(net.weights)
    hidden = [
        slices((before, 0), (after, 1), floor=max(2, len(before) // 16))
        for before, after in pairwise(layers)
    ]
    return [*hidden, *(weights(table) for table in net.embeddings)]


def _student(
    data: TrainingData, params: Params, seed: int, seconds: float | None, watch: Watch | None
) -> Net:
    """A network of `student` units a layer that learns from one of `width`.

    The teacher is asked about made-up rows as well, so that there is more to learn from. One that
    was adapted to a target is asked about the target's rows, too; importance weights count in what
    the student learns as they did for the teacher.
    """
    began = time.monotonic()
    teacher = network.train(data, params, seed=seed, seconds=seconds)
    real = data.encoded if data.target is None else both(data.encoded, data.target)
    weights = None if data.weights is None else filled(data.weights, len(real))
    rng = np.random.default_rng([seed, 3])
    rows = both(real, distil.mingled(real, COPIES * len(data), rng, weights))
    scores = _scores(teacher, rows)
    labels = torch.from_numpy(filled(data.y, len(rows), distil.NO_LABEL))
    shown = torch.where(labels < 0, scores.argmax(1), labels).numpy()
    every = TrainingData(rows, shown, data.k, data.cardinality)
    epochs = max(3, math.ceil(int(params["epochs"]) * TIMES / (1 + COPIES)))
    small = {**params, "width": params["student"], "dropout": 0.0, "epochs": epochs}
    rule = distil.loss(
        scores,
        labels,
        float(params["temperature"]),
        weights=None if weights is None else torch.from_numpy(filled(weights, len(rows))).float(),
    )
    net = network.train(
        every, small, seed=seed, seconds=distil.left_of(seconds, began), watch=watch, loss=rule
    )
    return compacted(net)


@torch.no_grad()
def _scores(net: Net, rows: Encoded) -> Tensor:
    return net.logits(torch.from_numpy(rows.numbers), torch.from_numpy(rows.codes), 0.0, None)


def on_grid(net: Net) -> Compressed:
    """The network with its matrices rounded to eight bits a weight."""
    steps: dict[str, NDArray[np.float32]] = {}
    for name, matrix in _matrices(net).items():
        array = matrix.detach().numpy()
        steps[name] = grid.steps(array)
        matrix.data.copy_(torch.from_numpy(grid.rounded(array, steps[name])))
    return Compressed(net, steps)


def _matrices(net: Net) -> dict[str, Tensor]:
    named = {f"weights.{i}": weight for i, weight in enumerate(net.weights)}
    return {**named, **{f"embeddings.{i}": table for i, table in enumerate(net.embeddings)}}


def save(found: Compressed, path: Path) -> None:
    """Write the network, each matrix in its smallest form."""
    net = found.net
    matrices = {
        name: packed.pack(matrix.detach().numpy(), found.steps.get(name))
        for name, matrix in _matrices(net).items()
    }
    plain = {f"biases.{i}": bias.detach().numpy() for i, bias in enumerate(net.biases)}
    for name in ("mean", "scale", "cards"):
        plain[name] = getattr(net, name).numpy()
    packed.write(path, matrices, plain)


def load(path: Path) -> Compressed:
    """Read what `save` wrote. Raises BundleFault for a file that is damaged."""
    matrices, plain = packed.read(path)
    layers = sum(name.startswith("weights.") for name in matrices)
    tables = sum(name.startswith("embeddings.") for name in matrices)
    net = Net.restored(
        torch.from_numpy(plain["mean"]),
        torch.from_numpy(plain["scale"]),
        torch.from_numpy(plain["cards"]),
        [torch.from_numpy(matrices[f"embeddings.{i}"].unpacked()) for i in range(tables)],
        [torch.from_numpy(matrices[f"weights.{i}"].unpacked()) for i in range(layers)],
        [torch.from_numpy(plain[f"biases.{i}"]) for i in range(layers)],
    )
    steps = {name: m.step for name, m in matrices.items() if m.step is not None}
    return Compressed(net, steps)
