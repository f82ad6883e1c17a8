"""`textnet` made small: its parameter `compress` and what each choice of it does.

What weighs in a text network are its tables: a weight for each word and phrase, and an embedding
for each token. 'sparse' takes single weights out of them, 'units' whole dimensions of the
embeddings, which makes answers faster, and single words and phrases; a 'student' has a bag of
narrow embeddings, whatever its teacher has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.compress import distil, grid, packed
from models.compress.pruner import Group, Pruner, slices, weights
from models.families import text_training
from models.families.base import TrainingData, Watch
from models.families.text_network import TextNet
from models.records import Params
from models.text.tokenizer import Tokenizer

LONGER = 1.5  # epochs of a training in which weights go, of one in which all stay
_LEAST = 1e-30  # probability of a teacher
_TALL = ("wide", "table")  # many rows of few columns
_MATRICES = (*_TALL, "mix", "filters", "query", "out", "up", "down")

Array = NDArray[Any]
Steps = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Told:
    """What a training is given beside its parameters."""

    data: TrainingData
    tokenizer: Tokenizer
    ids: list[list[int]]
    seed: int
    seconds: float | None = None
    watch: Watch | None = None
    valid: list[list[int]] | None = None
    served: list[list[int]] | None = None

    def train(self, params: Params, **more: Any) -> TextNet:
        return text_training.train(
            self.data,
            self.tokenizer,
            self.ids,
            params,
            seed=self.seed,
            seconds=self.seconds,
            watch=self.watch,
            valid=self.valid,
            served=self.served,
            **more,
        )


def fit(told: Told, params: Params) -> tuple[TextNet, Steps]:
    """A small network by `params`, and the steps of its matrices on a grid, by name."""
    kind = str(params["compress"])
    net = _student(told, params) if kind == "student" else pruned(told, params, kind)
    return on_grid(net) if params.get("precision") == "int8" else (net, {})


def pruned(told: Told, params: Params, kind: str) -> TextNet:
    """Trained while weights go, one by one ('sparse') or dimensions of embeddings too ('units')."""
    share = float(params["sparsity"])
    longer = {
        **params,
        "epochs": math.ceil(LONGER * int(params["epochs"])),
        "dropout": (1 - share) * float(params["dropout"]),
    }

    def hook(net: TextNet, steps: int) -> Pruner:
        return Pruner(_groups(net, kind), target=share, steps=steps)

    return compacted(told.train(longer, hook=hook))


def matrices(net: TextNet) -> dict[str, nn.Parameter]:
    """The weights that count, by name; the last layer is as small as the answer."""
    found = {name: getattr(net, name, None) for name in _MATRICES}
    return {name: matrix for name, matrix in found.items() if matrix is not None}


def _groups(net: TextNet, kind: str) -> list[Group]:
    every = matrices(net)
    groups = []
    if kind == "units" and net.shape.deep in ("bag", "conv"):
        members = [(every.pop("table"), 1)]
        if net.shape.deep == "conv":
            members.append((every.pop("filters"), 1))
        elif every["mix"].shape[1] == net.shape.width:
            members.append((every.pop("mix"), 1))
        groups.append(slices(*members))
    return [*groups, *map(weights, every.values())]


def compacted(net: TextNet) -> TextNet:
    """The network without dimensions of the embeddings that are 0 in every token: the same answers.

    One stays at least. A layer of attention mixes dimensions, and is left as it is.
    """
    if net.shape.deep not in ("bag", "conv"):
        return net
    arrays = net.arrays()
    kept = (arrays["table"] != 0).any(0)
    kept[0] |= not kept.any()
    if kept.all():
        return net
    arrays["table"] = arrays["table"][:, kept]
    if net.shape.deep == "conv":
        arrays["filters"] = arrays["filters"][:, kept]
    else:
        beside = arrays["mix"].shape[1] - len(kept)
        arrays["mix"] = arrays["mix"][:, np.append(kept, np.ones(beside, dtype=bool))]
    return TextNet.restored(net.shape, arrays)


def _student(told: Told, params: Params) -> TextNet:
    """A bag of `student` dimensions that learns from the network of the parameters.

    A teacher that was adapted to a target is asked about the target's texts, too; importance
    weights count in what the student learns as they did for the teacher.
    """
    from models.families.textnet import FittedTextNetwork

    began, data, ids = time.monotonic(), told.data, told.ids
    teacher = replace(told, watch=None, valid=None).train(params)
    rows = data.encoded
    if data.target is not None and told.served is not None:
        rows, ids = distil.both(rows, data.target), [*ids, *told.served]
    proba = FittedTextNetwork(teacher, told.tokenizer).predict_proba(rows)
    scores = torch.from_numpy(np.log(np.maximum(proba, _LEAST))).float()
    labels = torch.from_numpy(distil.filled(data.y, len(rows), distil.NO_LABEL))
    shown = torch.where(labels < 0, scores.argmax(1), labels).numpy()
    weights = None
    if data.weights is not None:
        weights = torch.from_numpy(distil.filled(data.weights, len(rows))).float()
    rule = distil.loss(
        scores, labels, float(params["temperature"]), distil.LABELS_OF_TEXTS, weights
    )
    learnt = replace(
        told,
        data=TrainingData(rows, shown, data.k, data.cardinality),
        ids=ids,
        seconds=distil.left_of(told.seconds, began),
        served=None,
    )
    small = {**params, "deep": "bag", "width": params["student"]}
    return compacted(learnt.train(small, loss=rule))


def on_grid(net: TextNet) -> tuple[TextNet, Steps]:
    """The network with its matrices rounded to eight bits a weight."""
    arrays = net.arrays()
    steps: dict[str, NDArray[np.float32]] = {}
    for name in matrices(net):
        steps[name] = grid.steps(arrays[name], columns=name in _TALL)
        arrays[name] = grid.rounded(arrays[name], steps[name])
    return TextNet.restored(net.shape, arrays), steps


def left(net: TextNet) -> int:
    """Weights that are not zero, of the matrices that count."""
    return sum(int((matrix != 0).sum()) for matrix in matrices(net).values())


def save(arrays: Mapping[str, Array], steps: Steps, path: Path) -> None:
    """Write a network's arrays, each matrix in its smallest form."""
    matrices = {
        name: packed.pack(array, steps.get(name))
        for name, array in arrays.items()
        if name in _MATRICES
    }
    plain = {name: array for name, array in arrays.items() if name not in matrices}
    packed.write(path, matrices, plain)


def load(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], Steps]:
    """A network's arrays and steps of what `save` wrote. Raises ValueError or KeyError."""
    matrices, plain = packed.taken_apart(arrays)
    steps = {name: matrix.step for name, matrix in matrices.items() if matrix.step is not None}
    return {**plain, **{name: matrix.unpacked() for name, matrix in matrices.items()}}, steps
