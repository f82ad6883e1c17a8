"""The parts of the benchmark of smaller models: what it holds against, and what it adds up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.benchmarks.compress.baselines import Gradual, Once
from tests.benchmarks.compress.results import half, lines


def matrices() -> list[nn.Parameter]:
    """The second layer's weights are a tenth as large."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(20, 30, generator=generator) / scale) for scale in (1, 10)]


@pytest.mark.parametrize(("kind", "each"), [(Once, [0.6, 0.6]), (Gradual, [0.22, 0.98])])
def test_magnitude_pruning_takes_its_share_of_each_layer_or_of_all(kind, each) -> None:
    layers = matrices()
    largest = [float(m.detach().abs().max()) for m in layers]
    pruner = kind(layers, 0.6, 300)
    shares = []
    for _ in range(300):
        pruner.step(1.0)
        shares.append(sum(float((m == 0).sum()) for m in layers) / 1_200)
        with torch.no_grad():
            for m in layers:
                m.add_(
                    1e-6 * (m == 0)
                )  # an optimiser's step would undo a mask that was not applied again
    pruner.step(1.0)
    pruner.finish()
    found = [float((m == 0).float().mean()) for m in layers]
    assert found == pytest.approx(each, abs=0.03)
    assert all(a <= b + 1e-9 for a, b in pairwise(shares))
    assert (shares[150] == 0) == (kind is Once)
    assert [float(m.detach().abs().max()) for m in layers] == pytest.approx(largest, abs=1e-3)


def test_lines_pair_the_seeds_and_add_up_over_the_data() -> None:
    def run(data: str, method: str, seed: int, accuracy: float, kb: float) -> dict[str, object]:
        rest = dict.fromkeys(("log_loss", "served_kb", "row_us", "left", "total"), 1.0)
        return {
            "data": data,
            "method": method,
            "seed": seed,
            "accuracy": accuracy,
            "bundle_kb": kb,
            "hundred_us": 3.0,
            **rest,
        }

    runs = []
    for data, base in (("a", 90.0), ("b", 80.0)):
        for seed in (0, 1, 2):
            runs.append(run(data, "full size", seed, base + seed, 100.0))
            runs.append(run(data, "small", seed, base + seed - 0.5 - 0.1 * seed, 25.0))
    found = {(line["data"], line["method"]): line for line in lines(runs)}
    small = found["a", "small"]
    assert (small["lost"], small["smaller"], small["faster"]) == (0.6, 4.0, 1.0)
    assert small["+-"] == round(half([0.5, 0.6, 0.7]), 2)  # seeds themselves differ by a point
    assert found["all 2", "small"]["lost"] == 0.6
    assert found["all 2", "small"]["accuracy"] == 85.4
    assert found["a", "full size"]["lost"] == 0.0
