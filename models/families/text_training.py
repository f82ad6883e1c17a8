"""Training of the text network: batches without padding or with little, and the loop itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.encoding import UNKNOWN, Encoded
from models.families.base import TrainingData, Watch, marks, stopwatch
from models.families.network import Hook, Loss
from models.families.text_batches import Texts, batches, steps_of
from models.families.text_network import Deep, Shape, TextNet, log_ratios, made
from models.records import Params
from models.text.tokenizer import PAD, Tokenizer
from models.transfer.penalties import Alike

_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the epochs, after which a watched fit reports
_UNSEEN = (
    0.02  # share of codes hidden in training, so that 'unknown' has an embedding that means it
)
BESIDE = 8  # units for the other columns where there is no deep part
_WARM = 0.1  # of the steps, in which the rate rises


@dataclass(frozen=True, slots=True)
class Terms:
    """The rows of the whole wide table that training keeps (r,), in rising order: those of `least`
    texts or more. The others stay at zero, so the network is trained on a table of r rows."""

    kept: Tensor
    place: Tensor  # of each row of the whole table among those kept, -1: not kept

    @classmethod
    def of(cls, runs: Texts, rows: int, least: int) -> Terms:
        once = torch.unique(runs.owner * rows + runs.ids) % rows
        kept = torch.nonzero(torch.bincount(once, minlength=rows) >= least)[:, 0]
        kept = kept[kept != PAD]
        place = torch.full((rows,), -1)
        place[kept] = torch.arange(len(kept))
        return cls(kept, place)

    def of_texts(self, runs: Texts) -> Texts:
        """The texts' kept rows, counted within the small table."""
        places = self.place[runs.ids]
        known = places >= 0
        lengths = torch.bincount(runs.owner[known], minlength=len(runs))
        return Texts(places[known], lengths.cumsum(0) - lengths, lengths)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a network is given of n rows: `texts` for its deep part, `wide` rows of the small table
    of terms, `counts` of runs of tokens, known or not."""

    texts: Texts
    wide: Texts
    counts: Tensor
    numbers: Tensor
    codes: Tensor

    @classmethod
    def of(cls, encoded: Encoded, texts: Texts, runs: Texts, terms: Terms) -> Rows:
        numbers, codes = torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.codes)
        return cls(texts, terms.of_texts(runs), runs.lengths, numbers, codes)

    def hidden(
        self, net: TextNet, rows: Tensor, dropout: float, generator: torch.Generator | None
    ) -> Tensor:
        """The last hidden layer (m, width + k). With a generator tokens, codes and units drop out:
        a token of the wide part by half of `dropout`."""
        flat, lengths = self.wide.flat(rows)
        counts = self.counts[rows]
        if generator is not None and dropout > 0:
            kept = torch.rand(len(flat), generator=generator) >= dropout / 2
            before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])
            ends = lengths.cumsum(0)
            lengths = before[ends] - before[ends - lengths]
            flat, counts = flat[kept], counts * (1 - dropout / 2)
        wide = net.bag_flat(flat, lengths, counts)
        parts: list[Tensor] = []
        if net.shape.deep == "attention":
            parts.append(net.pooled(self.texts.padded(rows)))
        elif net.shape.deep != "none":
            parts.append(net.pooled_flat(*self.texts.flat(rows)))
        codes = self.codes[rows]
        if generator is not None and codes.shape[1]:
            unseen = torch.rand(codes.shape, generator=generator) < _UNSEEN
            codes = torch.where(unseen, UNKNOWN, codes)
        parts += net.beside(self.numbers[rows], codes)
        if generator is not None and dropout > 0 and parts:
            joined = torch.cat(parts, dim=1)
            mask = torch.rand(joined.shape, generator=generator) >= dropout
            parts = [joined * mask / (1 - dropout)]
        return net.mixed(parts, wide)


def train(
    data: TrainingData,
    tokenizer: Tokenizer,
    ids: list[list[int]],
    params: Params,
    *,
    seed: int,
    seconds: float | None,
    watch: Watch | None = None,
    valid: list[list[int]] | None = None,
    loss: Loss | None = None,
    hook: Callable[[TextNet, int], Hook] | None = None,
    served: list[list[int]] | None = None,
) -> TextNet:
    """Minimise cross-entropy, or `loss`; the rates warm up and fall by a cosine.

    `ids` are the tokens of the rows, `valid` those of the rows that are watched, `served` those of
    the target. `hook` is given the network and the number of steps before the first one.
    """
    check = stopwatch(seconds)
    generator = torch.Generator().manual_seed(seed)
    deep: Deep = params["deep"]  # type: ignore[assignment]
    width = int(params.get("width", BESIDE))
    shape = Shape(len(tokenizer), int(params["phrases"]), deep, width, data.k)
    y = torch.from_numpy(data.y)
    texts = Texts.of(ids)
    runs = texts.runs(shape.phrases, shape.vocabulary)
    terms = Terms.of(runs, shape.rows, int(params["least"]))
    rows = Rows.of(data.encoded, texts, runs, terms)
    ratio = log_ratios(rows.wide.ids, rows.wide.owner, y, len(terms.kept), data.k)
    net = made(data, shape, ratio, generator)
    net.wide.data.mul_(float(params["start"]))
    weights = None if data.weights is None else torch.from_numpy(data.weights).float()
    epochs, dropout = int(params["epochs"]), float(params["dropout"])
    size = min(int(params["batch"]), max(16, len(y) // 16))  # a small table needs steps too
    bucketed = deep == "attention"  # the others need no padding
    steps, step = epochs * steps_of(len(y), size, bucketed=bucketed), 0
    optimisers = _optimisers(net, params)
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    peaks = [group["lr"] for group in groups]
    told = hook(net, steps) if hook is not None else None
    alike = _alike(net, data, params, served, terms, generator)
    stages = marks(epochs, _SHARES, 1)
    for epoch in range(1, epochs + 1):
        for part in batches(rows.texts.lengths, size, generator, bucketed=bucketed):
            check()
            rate = min((step + 1) / (_WARM * steps + 1), 1.0)
            rate *= (1 + math.cos(math.pi * step / steps)) / 2
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * rate
            hidden = rows.hidden(net, part, dropout, generator)
            scores = net.last(hidden)
            cost = loss(scores, part) if loss is not None else _loss(scores, y[part], weights, part)
            if alike is not None:
                cost = cost + alike(hidden)
            net.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
            if told is not None:
                told.step(float(norm))
            step += 1
        if watch is not None and epoch in stages:
            assert valid is not None
            watch.report(epoch / epochs, answers(net, _rows(watch.valid, valid, shape, terms)))
    if told is not None:
        told.finish()
    return net.whole(terms.kept)


def _alike(
    net: TextNet,
    data: TrainingData,
    params: Params,
    served: list[list[int]] | None,
    terms: Terms,
    generator: torch.Generator,
) -> Callable[[Tensor], Tensor] | None:
    """The penalty of a batch's hidden layer, where the parameters ask for one.

    Of the deep part's units: the wide weights descend at a rate at which any other aim than the
    labels undoes them.
    """
    found = Alike.of(params, data.target, generator)
    if found is None or data.target is None or served is None:
        return None
    target = _rows(data.target, served, net.shape, terms)
    dropout = float(params["dropout"])
    deep = slice(net.shape.width)
    return lambda hidden: found(
        hidden[:, deep], lambda rows: target.hidden(net, rows, dropout, generator)[:, deep]
    )


def _rows(encoded: Encoded, ids: list[list[int]], shape: Shape, terms: Terms) -> Rows:
    texts = Texts.of(ids)
    return Rows.of(encoded, texts, texts.runs(shape.phrases, shape.vocabulary), terms)


def answers(net: TextNet, rows: Rows, size: int = 256) -> NDArray[np.float64]:
    """Probabilities (n, k) of rows, texts of about the same length together."""
    result = torch.empty(len(rows.texts), net.shape.k, dtype=torch.float64)
    with torch.no_grad():
        for part in torch.split(torch.argsort(rows.texts.lengths, stable=True), size):
            scores = net.last(rows.hidden(net, part, 0.0, None))
            result[part] = torch.softmax(scores.double(), dim=1)
    return result.numpy()


def _optimisers(net: TextNet, params: Params) -> list[torch.optim.Optimizer]:
    """AdamW, and for the wide weights plain descent with momentum: AdamW would move a term of two
    texts as far as one of a thousand, and so undo what the ratio says of them."""
    rest = [parameter for parameter in net.parameters() if parameter is not net.wide]
    wide = torch.optim.SGD([net.wide], float(params["wide_rate"]), momentum=0.9, nesterov=True)
    rate, decay = float(params["learning_rate"]), float(params["weight_decay"])
    return [wide, torch.optim.AdamW(rest, rate, weight_decay=decay, fused=True)]


def _loss(scores: Tensor, y: Tensor, weights: Tensor | None, part: Tensor) -> Tensor:
    """Mean cross-entropy, each row counted as its weight says."""
    if weights is None:
        return functional.cross_entropy(scores, y)
    return (functional.cross_entropy(scores, y, reduction="none") * weights[part]).mean()
