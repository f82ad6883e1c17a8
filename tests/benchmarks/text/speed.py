"""Seconds of an epoch of the text network, beside a plain PyTorch loop of the same network.

The plain loop is what a tutorial shows: a Dataset of token lists, a DataLoader that shuffles and
pads each batch to its longest text, `nn.functional.embedding` over padded batches, torch's own
number of threads. It has the same parameters, batches and optimisers, and no dropout.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from models import families
from models.families import TrainingData
from models.families.text_batches import Texts
from models.families.text_network import Shape, TextNet, log_ratios, made
from models.families.text_training import Terms, _optimisers, train
from models.families.textnet import tokenised
from models.records import Params
from models.threads import one_thread
from models.training import prepare
from tests.benchmarks.text.corpora import Corpus

EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Epoch:
    """Seconds an epoch of one corpus and network, one figure per seed."""

    corpus: str
    deep: str
    ours: tuple[float, ...]
    plain: tuple[float, ...]
    ours_cpu: tuple[float, ...]  # of all threads: what a busy machine leaves comparable
    plain_cpu: tuple[float, ...]


class _Clock:
    """A hook that tells how long training took, in seconds an epoch: (of the clock, of CPU)."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()
        self.taken = (0.0, 0.0)

    def step(self, norm: float) -> None: ...

    def finish(self) -> None:
        wall, cpu = self._began
        self.taken = (
            (time.perf_counter() - wall) / EPOCHS,
            (time.process_time() - cpu) / EPOCHS,
        )


class _Lists(Dataset[Any]):
    """Tokens, places of the wide table and label of each text."""

    def __init__(self, ids: Sequence[Sequence[int]], wide: Texts, y: torch.Tensor) -> None:
        self.ids = [torch.tensor(row, dtype=torch.int64) for row in ids]
        flat = wide.ids + 1  # 0 is padding
        self.wide = list(torch.split(flat, wide.lengths.tolist()))
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.ids[row], self.wide[row], self.y[row]


def _padded(rows: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, wide, y = zip(*rows, strict=True)
    return (
        pad_sequence(list(ids), batch_first=True),
        pad_sequence(list(wide), batch_first=True),
        torch.stack(y),
    )


def plain(
    data: TrainingData, ids: list[list[int]], vocabulary: int, params: Params
) -> tuple[float, float]:
    """Seconds an epoch of the plain loop: (of the clock, of CPU)."""
    shape = Shape(vocabulary, int(params["phrases"]), params["deep"], int(params["width"]), data.k)  # type: ignore[arg-type]
    runs = Texts.of(ids).runs(shape.phrases, shape.vocabulary)
    terms = Terms.of(runs, shape.rows, int(params["least"]))
    wide, y = terms.of_texts(runs), torch.from_numpy(data.y)
    ratio = log_ratios(wide.ids, wide.owner, y, len(terms.kept), data.k)
    ratio = torch.cat([torch.zeros(1, data.k), ratio])
    net: TextNet = made(data, shape, ratio, torch.Generator().manual_seed(0))
    optimisers = _optimisers(net, params)
    loader = DataLoader(
        _Lists(ids, wide, y), batch_size=int(params["batch"]), shuffle=True, collate_fn=_padded
    )
    clock = _Clock()
    for _ in range(EPOCHS):
        for tokens, places, labels in loader:
            scores = net.last(net.mixed([net.pooled(tokens)], net.bag(places)))
            cost = torch.nn.functional.cross_entropy(scores, labels)
            net.zero_grad()
            cost.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
    clock.finish()
    return clock.taken


def ours(
    data: TrainingData, tokenizer: Any, ids: list[list[int]], params: Params
) -> tuple[float, float]:
    """Seconds an epoch of the family's own loop: (of the clock, of CPU)."""
    clocks: list[_Clock] = []

    def hook(net: TextNet, steps: int) -> _Clock:
        clocks.append(_Clock())
        return clocks[-1]

    with one_thread():
        train(data, tokenizer, ids, params, seed=0, seconds=None, hook=hook)
    return clocks[0].taken


def run(corpus: Corpus, seeds: int, networks: Sequence[str]) -> list[Epoch]:
    """Both loops in turns on the same rows, one pair per seed."""
    found = []
    default = {**(families.get("textnet").default or {}), "epochs": EPOCHS}
    threads = torch.get_num_threads()
    for deep in networks:
        params = {**default, "deep": deep}
        pairs = []
        for seed in range(seeds):
            train_rows, rest = corpus.parts(seed, 0.75)
            frame = corpus.frame.iloc
            split = prepare(frame[train_rows], frame[rest], corpus.schema)
            tokenizer, ids = tokenised(split.train.encoded, params)
            mine = ours(split.train, tokenizer, ids, params)
            torch.set_num_threads(threads)
            pairs.append((mine, plain(split.train, ids, len(tokenizer), params)))
        figures = [tuple(pair[who][what] for pair in pairs) for what in (0, 1) for who in (0, 1)]
        found.append(Epoch(corpus.name, deep, *figures))
    return found


def table(found: Sequence[Epoch]) -> list[dict[str, object]]:
    """One row per corpus and network; the ratio with its interval over seeds."""
    from tests.benchmarks.text.accuracy import interval

    rows: list[dict[str, object]] = []
    for each in found:
        mean, half = interval([b / a for a, b in zip(each.ours, each.plain, strict=True)])
        cpu = interval([b / a for a, b in zip(each.ours_cpu, each.plain_cpu, strict=True)])
        rows.append(
            {
                "corpus": each.corpus,
                "network": each.deep,
                "seconds an epoch": f"{interval(each.ours)[0]:.3f}",
                "plain loop": f"{interval(each.plain)[0]:.3f}",
                "times faster": f"{mean:.2f} ± {half:.2f}",
                "CPU seconds": f"{interval(each.ours_cpu)[0]:.3f}",
                "plain, CPU": f"{interval(each.plain_cpu)[0]:.3f}",
                "times less CPU": f"{cpu[0]:.2f} ± {cpu[1]:.2f}",
            }
        )
    return rows
