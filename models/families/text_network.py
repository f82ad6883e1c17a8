"""The text network in torch: scores of words and phrases, and a part that learns meanings.

Two parts are added up, as in Cheng et al. 2016 ("Wide & Deep"):

- wide: a weight per class for each token and each run of two or three tokens, the runs hashed into
  a table. A weight is the product of one that is learnt and of the log-count ratio of Wang and
  Manning 2012, which is fixed: so training begins at a naive Bayes model, and what it learns of a
  term is measured against how much that term tells.
- deep: an embedding per token, pooled (`bag`), convolved (`conv`, Kim 2014) or attended to
  (`attention`, one encoder layer of Vaswani et al. 2017), then a ReLU layer, beside the columns of
  numbers and categories.

It draws from a generator of its own, never torch's global one: parallel trials stay repeatable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoding import UNKNOWN
from models.families.base import TrainingData
from models.families.design import Design
from models.families.text_batches import BUCKETS, PRIME
from models.text.tokenizer import PAD

Deep = Literal["none", "bag", "conv", "attention"]
DEEP: tuple[Deep, ...] = ("none", "bag", "conv", "attention")

Array = np.ndarray[Any, Any]

FAR = 10.0  # standard deviations at which a number is cut
CODES = 1_000  # codes per category column that have an embedding of their own
HEADS, WINDOW = 2, 3


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network is made of; `vocabulary` tokens, `phrases` tokens of the longest run."""

    vocabulary: int
    phrases: int
    deep: Deep
    width: int
    k: int

    @property
    def rows(self) -> int:
        """Of the whole wide table."""
        return self.vocabulary + (BUCKETS if self.phrases > 1 else 0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def runs(tokens: Tensor, phrases: int, vocabulary: int) -> Tensor:
    """Rows of the wide table (n, sum of lengths) of padded tokens (n, L): each token, then each run
    of 2 up to `phrases` tokens, PAD where a run reaches beyond the text.

    A run's row is `vocabulary` + its hash, h(a, b) = (a * prime + b) mod BUCKETS, in 64 bits.
    """
    parts, hashed = [tokens], tokens
    for n in range(2, phrases + 1):
        if tokens.shape[1] < n:
            break
        last = tokens[:, n - 1 :]
        hashed = (hashed[:, : last.shape[1]] * PRIME + last) % BUCKETS
        parts.append(torch.where(last == PAD, PAD, hashed + vocabulary))
    return torch.cat(parts, dim=1)


class TextNet(nn.Module):
    """Scores (n, k) of tokens int64 (n, L), numbers (n, d_num) and codes (n, d_cat).

    Parameters: `wide` (rows, k), `table` (vocabulary, width), of the deep part `filters` or the
    layer of attention, `embeddings` per category, `mix` (width, inputs), `head` (k, width + k).
    """

    mean: Tensor
    scale: Tensor
    cards: Tensor
    ratio: Tensor
    query: Tensor
    query_bias: Tensor
    out: Tensor
    out_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    def __init__(
        self, shape: Shape, design: Design, ratio: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = shape
        width, k = shape.width, shape.k
        self.register_buffer("mean", torch.from_numpy(design.mean).float())
        self.register_buffer("scale", torch.from_numpy(design.scale).float())
        self.register_buffer("cards", torch.tensor(design.cards, dtype=torch.int64))
        self.register_buffer("ratio", ratio)
        self.wide = nn.Parameter(torch.ones_like(ratio))
        sizes = [min(24, math.ceil(1.6 * card**0.56)) for card in design.cards]  # fastai's rule
        self.embeddings = nn.ParameterList(
            0.1 * torch.randn(card, size, generator=generator)
            for card, size in zip(design.cards, sizes, strict=True)
        )

        def uniform(*dims: int) -> nn.Parameter:  # He et al. 2015
            bound = math.sqrt(6.0 / max(math.prod(dims[1:]), 1))
            return nn.Parameter((torch.rand(*dims, generator=generator) * 2 - 1) * bound)

        pooled = 0
        if shape.deep != "none":
            pooled = width
            self.table = nn.Parameter(
                0.1 * torch.randn(shape.vocabulary, width, generator=generator)
            )
        if shape.deep == "conv":
            self.filters = uniform(width, width, WINDOW)
            self.filters_bias = nn.Parameter(torch.zeros(width))
        elif shape.deep == "attention":
            for name, dims in (
                ("query", (3 * width, width)),
                ("out", (width, width)),
                ("up", (2 * width, width)),
                ("down", (width, 2 * width)),
            ):
                weight = uniform(*dims)
                setattr(self, name, weight)
                setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(dims[0])))
        inputs = pooled + 2 * len(design.mean) + sum(sizes)
        self.mix = uniform(width, inputs)
        self.mix_bias = nn.Parameter(torch.zeros(width))
        start = torch.cat([0.1 * uniform(k, width).data, torch.eye(k)], dim=1)
        self.head, self.bias = nn.Parameter(start), nn.Parameter(torch.zeros(k))

    # ---- the parts

    def bag(self, places: Tensor) -> Tensor:
        """Wide scores (n, k) of rows of the table (n, m), PAD being none: sum over root count."""
        known = (places != PAD).unsqueeze(2)
        found = functional.embedding(places, self.wide * self.ratio) * known
        return found.sum(1) / known.sum(1).clamp(min=1).sqrt()

    def bag_flat(self, places: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
        """The same of flat rows of the table, `lengths` of each text, which has `counts` runs."""
        # a segment's sum takes a ninth of the time of embedding_bag, whose backward pass sorts
        found = (self.wide * self.ratio).index_select(0, places)
        return segments(found, "sum", lengths) / counts.clamp(min=1).sqrt()[:, None]

    def pooled(self, tokens: Tensor) -> Tensor:
        """What the deep part makes of padded tokens: (n, width)."""
        known = tokens != PAD
        x = functional.embedding(tokens, self.table)
        if self.shape.deep == "conv":
            x = functional.pad((x * known.unsqueeze(2)).transpose(1, 2), (WINDOW // 2, WINDOW // 2))
            x = functional.relu(functional.conv1d(x, self.filters, self.filters_bias))
            return (x * known.unsqueeze(1)).amax(2)  # not below 0, so padding never wins
        if self.shape.deep == "attention":
            x = self._attended(x + positions(tokens.shape[1], self.shape.width), known)
        share = known / known.sum(1, keepdim=True).clamp(min=1)
        return (x * share.unsqueeze(2)).sum(1)

    def pooled_flat(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """`pooled` of flat ids, `lengths` of each text: without padding. Not for attention."""
        x = self.table.index_select(0, ids)
        if self.shape.deep == "bag":
            return segments(x, "sum", lengths) / lengths.clamp(min=1)[:, None]
        ends = lengths[lengths > 0].cumsum(0)
        last = torch.zeros(len(ids), 1)
        last[ends - 1] = 1.0
        first = torch.roll(last, 1, 0)
        before, here, after = (x @ self.filters[:, :, tap].T for tap in range(WINDOW))
        x = here + torch.roll(before, 1, 0) * (1 - first) + torch.roll(after, -1, 0) * (1 - last)
        return segments(functional.relu(x + self.filters_bias), "max", lengths)

    def _attended(self, x: Tensor, known: Tensor) -> Tensor:
        """One layer: attention of `HEADS` heads, then two linear maps, each added to its input
        after its input was normed (without learnt scales)."""
        n, length, width = x.shape
        normed = functional.layer_norm(x, (width,))
        joint = functional.linear(normed, self.query, self.query_bias)
        q, key, v = joint.view(n, length, 3 * HEADS, width // HEADS).transpose(1, 2).chunk(3, dim=1)
        mask = torch.where(known, 0.0, -1e9)[:, None, None, :]
        scores = q @ key.transpose(2, 3) / math.sqrt(width // HEADS) + mask
        seen = (torch.softmax(scores, dim=3) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + functional.linear(seen, self.out, self.out_bias)
        inner = functional.linear(functional.layer_norm(x, (width,)), self.up, self.up_bias)
        return x + functional.linear(functional.relu(inner), self.down, self.down_bias)

    def beside(self, numbers: Tensor, codes: Tensor) -> list[Tensor]:
        """The other columns: standardised, which are missing, and an embedding per category."""
        if not numbers.shape[1] and not codes.shape[1]:
            return []
        scaled = (numbers - self.mean) / self.scale
        missing = torch.isnan(scaled)
        scaled = torch.where(missing, 0.0, scaled).clamp(-FAR, FAR)
        known = torch.where(codes < self.cards, codes, UNKNOWN)
        found = [functional.embedding(known[:, j], e) for j, e in enumerate(self.embeddings)]
        return [scaled, missing.float(), *found]

    def mixed(self, parts: list[Tensor], wide: Tensor) -> Tensor:
        """The last hidden layer (n, width + k): a ReLU layer of the parts, and the wide scores."""
        x = torch.cat(parts, dim=1) if parts else wide[:, :0]
        return torch.cat([functional.relu(functional.linear(x, self.mix, self.mix_bias)), wide], 1)

    def last(self, hidden: Tensor) -> Tensor:
        """Scores (n, k) of the last hidden layer."""
        return functional.linear(hidden, self.head, self.bias)

    # ---- the whole, of padded tokens

    def features(self, tokens: Tensor, numbers: Tensor, codes: Tensor) -> Tensor:
        """The last hidden layer (n, width + k)."""
        parts = [self.pooled(tokens)] if self.shape.deep != "none" else []
        wide = self.bag(runs(tokens, self.shape.phrases, self.shape.vocabulary))
        return self.mixed(parts + self.beside(numbers, codes), wide)

    def forward(self, tokens: Tensor, numbers: Tensor, codes: Tensor) -> Tensor:
        """Probabilities (n, k), float64 so that they sum to one closely."""
        return torch.softmax(self.last(self.features(tokens, numbers, codes)).double(), dim=1)

    # ---- the file

    def whole(self, kept: Tensor) -> TextNet:
        """The trained network with its whole wide table, of which it learnt the rows `kept`."""
        state = self.arrays()
        wide = np.zeros((self.shape.rows, self.shape.k), dtype=np.float32)
        wide[kept.numpy()] = state["wide"]
        return TextNet.restored(self.shape, {**state, "wide": wide})

    def arrays(self) -> dict[str, Array]:
        """Parameters and buffers by name; the wide weights are multiplied out."""
        state = {name: tensor.detach().numpy() for name, tensor in self.state_dict().items()}
        state["wide"] = state["wide"] * state.pop("ratio")
        return state

    @classmethod
    def restored(cls, shape: Shape, arrays: Mapping[str, Array]) -> TextNet:
        """A network of given arrays, which may be smaller than those it was made with."""
        net = cls.__new__(cls)
        nn.Module.__init__(net)
        net.shape = shape
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        for name in ("mean", "scale", "cards"):
            net.register_buffer(name, tensors.pop(name))
        net.register_buffer("ratio", torch.ones(1, 1))
        tables = sorted(name for name in tensors if name.startswith("embeddings."))
        net.embeddings = nn.ParameterList(
            tensors.pop(f"embeddings.{place}") for place in range(len(tables))
        )
        for name, tensor in tensors.items():
            setattr(net, name, nn.Parameter(tensor))
        return net.requires_grad_(False).eval()


def segments(values: Tensor, reduction: str, lengths: Tensor) -> Tensor:
    """Sum or maximum (m, w) of consecutive rows of values (total, w), none of them negative for
    the maximum; 0 where a segment has no rows."""
    return torch.segment_reduce(values, reduction, lengths=lengths, unsafe=True, initial=0)


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines (length, width) of Vaswani et al. 2017, as small as the embeddings are."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return 0.1 * torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2).flatten(1)


def log_ratios(
    flat: Tensor, owner: Tensor, y: Tensor, rows: int, k: int, smoothing: float = 1.0
) -> Tensor:
    """Log-count ratio of each row of the wide table for each class (rows, k): flat int64 (total,)
    rows with the text `owner` of each, labels y (n,). Texts count a row once; where no text has a
    row, it says nothing."""
    once = torch.unique(owner * rows + flat)
    joint = once % rows * k + y[once // rows]
    counts = torch.bincount(joint, minlength=rows * k).view(rows, k).double()
    total = counts.sum(1, keepdim=True)
    inside, outside = counts + smoothing, total - counts + smoothing
    ratio = torch.log(inside / inside.sum(0)) - torch.log(outside / outside.sum(0))
    return torch.where(total > 0, ratio, 0.0).float()


def made(data: TrainingData, shape: Shape, ratio: Tensor, generator: torch.Generator) -> TextNet:
    """A network for that data, its last bias at the base rates."""
    net = TextNet(shape, Design.fit(data, limit=CODES), ratio, generator)
    base = np.bincount(data.y, minlength=data.k) + 1.0
    net.bias.data.copy_(torch.from_numpy(np.log(base / base.sum())))
    return net
