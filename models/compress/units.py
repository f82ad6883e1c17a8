"""What is left of a pruned perceptron, as a smaller one that answers the same.

A hidden unit that nothing leads to any more is a constant, and goes into the next layer's bias; one
that leads nowhere goes. Nothing else changes, so this is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.families.network import Net


@torch.no_grad()
def compacted(net: Net) -> Net:
    """The network without its idle units; each hidden layer keeps one at least."""
    weights = [weight.detach().clone() for weight in net.weights]
    biases = [bias.detach().clone() for bias in net.biases]
    changed = True
    while changed:  # a unit that goes may leave one before or behind it idle
        changed = False
        for layer in range(len(weights) - 1):
            silent = (weights[layer] == 0).all(1)
            constant = torch.relu(biases[layer]) * silent
            biases[layer + 1] += weights[layer + 1] @ constant
            weights[layer + 1][:, silent] = 0.0
            kept = ~(silent | (weights[layer + 1] == 0).all(0))
            if not kept.any():
                kept[0] = True
            if not kept.all():
                weights[layer], biases[layer] = weights[layer][kept], biases[layer][kept]
                weights[layer + 1] = weights[layer + 1][:, kept]
                changed = True
    return Net.restored(net.mean, net.scale, net.cards, list(net.embeddings), weights, biases)


def widths(net: Net) -> tuple[int, ...]:
    """Units of each hidden layer."""
    return tuple(len(bias) for bias in list(net.biases)[:-1])


def left(net: Net) -> tuple[int, int]:
    """(weights that are not zero, all weights), of the layers and the embeddings."""
    matrices: list[Tensor] = [*net.weights, *net.embeddings]
    kept = sum(int((matrix != 0).sum()) for matrix in matrices)
    return kept, sum(matrix.numel() for matrix in matrices)
