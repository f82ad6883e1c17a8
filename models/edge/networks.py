"""Networks as a converter wants them: plain torch, of one row, in float32 and of 32-bit codes.

The numbers are those of the model; only its last softmax, which is in float64, is in float32 here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoding import UNKNOWN
from models.families.network import _FAR, Net
from models.families.text_network import TextNet
from models.text.tokenizer import LENGTH, PAD


class OfTexts(nn.Module):
    """A text network of tokens and of rows of its wide table, beside numbers, codes, or neither."""

    def __init__(self, net: TextNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        tokens: Tensor,
        places: Tensor,
        numbers: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Probabilities (1, k) of one row: tokens (1, L), places (1, m), the others as ever."""
        net = self.net
        known = (places != PAD).float()
        found = functional.embedding(places, net.wide) * known.unsqueeze(2)
        wide = found.sum(1) / known.sum(1, keepdim=True).clamp(min=1).sqrt()
        parts = [] if net.shape.deep == "none" else [net.pooled(tokens)]
        if numbers is not None:
            parts += _scaled(net, numbers)
        if codes is not None:
            parts += _embedded(net, codes)
        if parts:
            x = functional.linear(torch.cat(parts, dim=1), net.mix, net.mix_bias)
        else:  # without inputs the layer is its bias
            x = net.mix_bias.unsqueeze(0)
        return torch.softmax(net.last(torch.cat([functional.relu(x), wide], dim=1)), dim=1)


class OfNumbers(nn.Module):
    """A perceptron of columns of numbers alone."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, numbers: Tensor) -> Tensor:
        """Probabilities (1, k) of one row (1, d_num)."""
        return _answer(self.net, _scaled(self.net, numbers))


class OfCodes(nn.Module):
    """A perceptron of categories alone."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, codes: Tensor) -> Tensor:
        """Probabilities (1, k) of one row (1, d_cat)."""
        return _answer(self.net, _embedded(self.net, codes))


class OfBoth(nn.Module):
    """A perceptron of both."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Probabilities (1, k) of one row (1, d_num) and (1, d_cat)."""
        return _answer(self.net, _scaled(self.net, numbers) + _embedded(self.net, codes))


def _scaled(net: Net | TextNet, numbers: Tensor) -> list[Tensor]:
    scaled = (numbers - net.mean) / net.scale
    missing = torch.isnan(scaled)
    return [torch.where(missing, 0.0, scaled).clamp(-_FAR, _FAR), missing.float()]


def _embedded(net: Net | TextNet, codes: Tensor) -> list[Tensor]:
    known = torch.where(codes < net.cards, codes, UNKNOWN)
    return [functional.embedding(known[:, j], e) for j, e in enumerate(net.embeddings)]


def _answer(net: Net, parts: list[Tensor]) -> Tensor:
    """As `Net` of its parts, of which the converter cannot take one of no columns."""
    x = torch.cat(parts, dim=1)
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        x = functional.relu(functional.linear(x, weight, bias))
    return torch.softmax(functional.linear(x, net.weights[-1], net.biases[-1]), dim=1)


def text(net: TextNet) -> tuple[nn.Module, dict[str, Tensor]]:
    """(what answers, an example of its inputs by name) of a text network."""
    places = sum(LENGTH - n for n in range(net.shape.phrases))
    given = {
        "tokens": torch.zeros((1, LENGTH), dtype=torch.int32),
        "places": torch.zeros((1, places), dtype=torch.int32),
        "numbers": torch.zeros((1, len(net.mean))),
        "codes": torch.zeros((1, len(net.cards)), dtype=torch.int32),
    }
    net.cards = net.cards.to(torch.int32)
    answers, given = OfTexts(net), {name: v for name, v in given.items() if v.shape[1]}
    for name, buffer in list(net.named_buffers()):
        if not buffer.numel():  # torch saves several empty tensors as one, with a warning
            net.register_buffer(name, None)
    return answers.eval(), given


def perceptron(module: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """(what answers, an example of its inputs by name) of a fitted or loaded perceptron."""
    net = _net(module)
    given = {
        "numbers": torch.zeros((1, len(net.mean))),
        "codes": torch.zeros((1, len(net.cards)), dtype=torch.int32),
    }
    given = {name: value for name, value in given.items() if value.shape[1]}
    kinds = {("numbers",): OfNumbers, ("codes",): OfCodes, ("numbers", "codes"): OfBoth}
    return kinds[tuple(given)](net).eval(), given


def _net(module: Any) -> Net:
    """The network itself, whether it was fitted here or came out of a file."""
    state = (
        module.state_dict() if hasattr(module, "state_dict") else dict(module.named_parameters())
    )
    state = {**dict(module.named_buffers()), **state}

    def listed(name: str) -> list[Tensor]:
        count = sum(key.startswith(f"{name}.") for key in state)
        return [state[f"{name}.{place}"] for place in range(count)]

    return Net.restored(
        state["mean"],
        state["scale"],
        state["cards"].to(torch.int32),
        listed("embeddings"),
        listed("weights"),
        listed("biases"),
    )


def write(module: nn.Module, given: dict[str, Tensor], path: Path) -> None:
    """The network as a program of torch.export, which the converter's own process reads."""
    with torch.no_grad():
        program = torch.export.export(module, (), kwargs=given, strict=False)
    torch.export.save(program, path)
