"""The perceptron in torch: its network, training, and the pickle-free file.

It draws from a generator of its own, never torch's global one: parallel trials stay repeatable.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoding import UNKNOWN
from models.errors import BundleFault
from models.families.base import TrainingData, Watch, marks, stopwatch
from models.families.design import Design
from models.records import Params
from models.transfer.penalties import Alike

_FAR = 10.0  # standard deviations at which a number is cut
_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the epochs, after which a watched fit reports
_UNSEEN = (
    0.02  # share of codes hidden in training, so that 'unknown' has an embedding that means it
)

Loss = Callable[[Tensor, Tensor], Tensor]  # of scores (m, k) of the rows (m,) of a batch


class Hook(Protocol):
    """Who is told of each step of a training, and may change the weights."""

    def step(self, norm: float) -> None:
        """After the optimiser's step; `norm` is the gradient's, before it was clipped."""
        ...

    def finish(self) -> object:
        """After the last step."""
        ...


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

    @classmethod
    def restored(
        cls,
        mean: Tensor,
        scale: Tensor,
        cards: Tensor,
        embeddings: Sequence[Tensor],
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
    ) -> Net:
        """A network of given parts, whose layers may be of different widths."""
        net = cls.__new__(cls)
        nn.Module.__init__(net)
        for name, buffer in (("mean", mean), ("scale", scale), ("cards", cards)):
            net.register_buffer(name, buffer)
        for name, parts in (("embeddings", embeddings), ("weights", weights), ("biases", biases)):
            setattr(net, name, nn.ParameterList(part.detach().clone() for part in parts))
        return net.requires_grad_(False).eval()

    def logits(
        self, numbers: Tensor, codes: Tensor, dropout: float, generator: torch.Generator | None
    ) -> Tensor:
        """Scores (n, k). With a generator, dropout is on."""
        return self.head(self.hidden(numbers, codes, dropout, generator))

    def head(self, hidden: Tensor) -> Tensor:
        """Scores (n, k) of the last hidden layer."""
        return functional.linear(hidden, self.weights[-1], self.biases[-1])

    def hidden(
        self, numbers: Tensor, codes: Tensor, dropout: float, generator: torch.Generator | None
    ) -> Tensor:
        """The last hidden layer (n, h). With a generator, dropout is on."""
        scaled = (numbers - self.mean) / self.scale
        missing = torch.isnan(scaled)
        scaled = torch.where(missing, 0.0, scaled).clamp(-_FAR, _FAR)
        known = torch.where(codes < self.cards, codes, UNKNOWN)
        x = torch.cat(
            [scaled, missing.float()]
            + [functional.embedding(known[:, j], e) for j, e in enumerate(self.embeddings)],
            dim=1,
        )
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = functional.relu(functional.linear(x, weight, bias))
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
    loss: Loss | None = None,
    hook: Callable[[Net, int], Hook] | None = None,
) -> Net:
    """Minimise cross-entropy, or `loss`, with AdamW; the rate warms up over a tenth and falls by a
    cosine. `hook` is given the network and the number of steps before the first one.
    """
    check = stopwatch(seconds)
    generator = torch.Generator().manual_seed(seed)
    net = Net(data, width=int(params["width"]), depth=int(params["depth"]), generator=generator)
    numbers = torch.from_numpy(data.encoded.numbers)
    codes = torch.from_numpy(data.encoded.codes)
    y = torch.from_numpy(data.y)
    weights = None if data.weights is None else torch.from_numpy(data.weights).float()
    alike = Alike.of(params, data.target, generator)

    def served(rows: Tensor) -> Tensor:
        """The hidden layer of some rows of the target."""
        assert data.target is not None
        seen = data.target.take(rows.numpy())
        tensors = torch.from_numpy(seen.numbers), torch.from_numpy(seen.codes)
        return net.hidden(*tensors, dropout, generator)

    epochs = int(params["epochs"])
    batch = min(int(params["batch"]), max(16, len(y) // 16))  # a small table needs steps too
    peak, dropout = float(params["learning_rate"]), float(params["dropout"])
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=peak, weight_decay=float(params["weight_decay"])
    )
    steps, step = epochs * math.ceil(len(y) / batch), 0
    told = hook(net, steps) if hook is not None else None
    stages = marks(epochs, _SHARES, 1)
    for epoch in range(1, epochs + 1):
        for rows in torch.split(torch.randperm(len(y), generator=generator), batch):
            check()
            rate = peak * min((step + 1) / (0.1 * steps + 1), 1.0)
            optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            unseen = torch.rand(codes[rows].shape, generator=generator) < _UNSEEN
            shown = torch.where(unseen, UNKNOWN, codes[rows])
            hidden = net.hidden(numbers[rows], shown, dropout, generator)
            scores = net.head(hidden)
            if loss is None:
                cost = _loss(scores, y[rows], None if weights is None else weights[rows])
            else:
                cost = loss(scores, rows)
            if alike is not None:
                cost = cost + alike(hidden, served)
            optimiser.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            if told is not None:
                told.step(float(norm))
            step += 1
        if watch is not None and epoch in stages:
            with torch.no_grad():
                valid = watch.valid
                proba = net(torch.from_numpy(valid.numbers), torch.from_numpy(valid.codes))
            watch.report(epoch / epochs, proba.numpy())
    if told is not None:
        told.finish()
    return net.requires_grad_(False).eval()


def _loss(scores: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy, each row counted as its weight says."""
    if weights is None:
        return functional.cross_entropy(scores, y)
    return (functional.cross_entropy(scores, y, reduction="none") * weights).mean()


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
