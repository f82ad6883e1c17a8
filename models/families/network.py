"""The perceptron in torch: its network, training, and the pickle-free file.

It draws from a generator of its own, never torch's global one: parallel trials stay repeatable.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoding import UNKNOWN
from models.errors import BundleFault
from models.families.base import TrainingData, Watch, marks, stopwatch
from models.families.design import Design
from models.records import Params

_FAR = 10.0  # standard deviations at which a number is cut
_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the epochs, after which a watched fit reports
_UNSEEN = (
    0.02  # share of codes hidden in training, so that 'unknown' has an embedding that means it
)


class Net(nn.Module):
    """Standardised numbers with missing indicators, an embedding per category, ReLU layers."""

    mean: Tensor
    scale: Tensor
    cards: Tensor

    def __init__(
        self, data: TrainingData, *, width: int, depth: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        design = Design.fit(data, limit=1_000)
        self.register_buffer("mean", torch.from_numpy(design.mean).float())
        self.register_buffer("scale", torch.from_numpy(design.scale).float())
        self.register_buffer("cards", torch.tensor(design.cards, dtype=torch.int64))
        sizes = [min(24, math.ceil(1.6 * card**0.56)) for card in design.cards]  # fastai's rule
        self.embeddings = nn.ParameterList(
            0.1 * torch.randn(card, size, generator=generator)
            for card, size in zip(design.cards, sizes, strict=True)
        )
        dims = [2 * len(design.mean) + sum(sizes), *[width] * depth, data.k]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in pairwise(dims):
            bound = math.sqrt(6.0 / max(before, 1))  # He et al. 2015, uniform
            self.weights.append((torch.rand(after, before, generator=generator) * 2 - 1) * bound)
            self.biases.append(torch.zeros(after))
        self.weights[-1].data.mul_(0.1)  # start near the base rate
        base = np.bincount(data.y, minlength=data.k) + 1.0
        self.biases[-1].data.copy_(torch.from_numpy(np.log(base / base.sum())))

    def logits(
        self, numbers: Tensor, codes: Tensor, dropout: float, generator: torch.Generator | None
    ) -> Tensor:
        """Scores (n, k). With a generator, dropout is on."""
        scaled = (numbers - self.mean) / self.scale
        missing = torch.isnan(scaled)
        scaled = torch.where(missing, 0.0, scaled).clamp(-_FAR, _FAR)
        known = torch.where(codes < self.cards, codes, UNKNOWN)
        x = torch.cat(
            [scaled, missing.float()]
            + [functional.embedding(known[:, j], e) for j, e in enumerate(self.embeddings)],
            dim=1,
        )
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = functional.linear(x, weight, bias)
            if layer < last:
                x = functional.relu(x)
                if generator is not None and dropout > 0:
                    kept = torch.rand(x.shape, generator=generator) >= dropout
                    x = x * kept / (1 - dropout)
        return x

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Probabilities (n, k), float64 so that they sum to one closely."""
        return torch.softmax(self.logits(numbers, codes, 0.0, None).double(), dim=1)


def train(
    data: TrainingData,
    params: Params,
    *,
    seed: int,
    seconds: float | None,
    watch: Watch | None = None,
) -> Net:
    """Minimise cross-entropy with AdamW; the rate warms up over a tenth and falls by a cosine."""
    check = stopwatch(seconds)
    generator = torch.Generator().manual_seed(seed)
    net = Net(data, width=int(params["width"]), depth=int(params["depth"]), generator=generator)
    numbers = torch.from_numpy(data.encoded.numbers)
    codes = torch.from_numpy(data.encoded.codes)
    y = torch.from_numpy(data.y)
    epochs = int(params["epochs"])
    batch = min(int(params["batch"]), max(16, len(y) // 16))  # a small table needs steps too
    peak, dropout = float(params["learning_rate"]), float(params["dropout"])
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=peak, weight_decay=float(params["weight_decay"])
    )
    steps, step = epochs * math.ceil(len(y) / batch), 0
    stages = marks(epochs, _SHARES, 1)
    for epoch in range(1, epochs + 1):
        for rows in torch.split(torch.randperm(len(y), generator=generator), batch):
            check()
            rate = peak * min((step + 1) / (0.1 * steps + 1), 1.0)
            optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            hidden = torch.rand(codes[rows].shape, generator=generator) < _UNSEEN
            shown = torch.where(hidden, UNKNOWN, codes[rows])
            loss = functional.cross_entropy(
                net.logits(numbers[rows], shown, dropout, generator), y[rows]
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            step += 1
        if watch is not None and epoch in stages:
            with torch.no_grad():
                valid = watch.valid
                proba = net(torch.from_numpy(valid.numbers), torch.from_numpy(valid.codes))
            watch.report(epoch / epochs, proba.numpy())
    return net.requires_grad_(False).eval()


def save(module: Any, path: Path) -> None:
    """Write a module with torch.export; the number of rows stays free."""
    example = (
        torch.zeros((3, len(module.mean)), dtype=torch.float32),  # torch fixes sizes of 0 and 1
        torch.zeros((3, len(module.cards)), dtype=torch.int64),
    )
    rows = torch.export.Dim("rows")
    program = torch.export.export(
        module, example, dynamic_shapes={"numbers": {0: rows}, "codes": {0: rows}}, strict=False
    )
    torch.export.save(program, path)


def load(path: Path) -> Any:
    """Read what `save` wrote. Raises BundleFault for a damaged file or one with pickled objects."""
    try:
        _refuse_pickle(path)
        return torch.export.load(path).module()
    except BundleFault:
        raise
    except Exception as fault:  # a damaged archive fails in as many ways as zip, JSON and torch do
        raise BundleFault(f"{path} is not readable: {fault}: train the model anew") from fault


def _refuse_pickle(path: Path) -> None:
    """torch.export.load unpickles whatever a payload says is pickled; ours never is, so refuse it.

    Weights are raw bytes here. The sample inputs are a torch.save file, which must be readable with
    `weights_only`: torch would fall back to full unpickling if it were not.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            part = name.split("/", 1)[-1]
            if part.endswith("_config.json") and part.startswith("data/"):
                payloads = json.loads(archive.read(name))["config"]
                pickled = [key for key, value in payloads.items() if value.get("use_pickle")]
                foreign = [k for k, v in payloads.items() if "obj" in str(v.get("path_name"))]
                if pickled or foreign:
                    raise BundleFault(
                        f"{path.name} must hold no pickled object, got {pickled + foreign}: it was "
                        "not written here, train the model anew"
                    )
            elif part.startswith("data/sample_inputs/"):
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            elif part.endswith((".pt", ".pkl", ".so")):
                raise BundleFault(
                    f"{path.name} must hold no pickled object, got {name}: it was not written "
                    "here, train the model anew"
                )
