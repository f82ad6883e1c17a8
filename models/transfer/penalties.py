"""What is added to a network's loss so that both domains look alike in its last hidden layer.

Deep CORAL (Sun and Saenko 2016) compares second moments; deep adaptation (Long et al. 2015, DAN)
the MMD under Gaussian kernels of several bandwidths. Both are made free of the hidden layer's
scale, which a network could otherwise shrink to please them: each lies between 0 and about 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.encoding import Encoded
from models.errors import SpaceFault
from models.records import Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

PENALTIES = ("coral", "mmd")
_SCALES = (0.5, 1.0, 2.0)  # of the median distance
_HEAVIEST = 2.0  # times the penalty, at strength 1


class Alike:
    """The penalty in a training loop: each step, as many rows of the target as of the source."""

    def __init__(self, method: str, strength: float, rows: int, generator: Generator) -> None:
        import torch

        self.method, self.strength = method, strength
        self.order = torch.randperm(rows, generator=generator)
        self.at = 0

    @classmethod
    def of(cls, params: Params, target: Encoded | None, generator: Generator) -> Alike | None:
        """None where the parameters ask for no penalty, or where there is no target."""
        method = str(params.get("adapt", "none"))
        if method not in PENALTIES or target is None:
            return None
        return cls(method, float(params["adapt_strength"]), len(target), generator)

    def __call__(self, source: Tensor, hidden: Callable[[Tensor], Tensor]) -> Tensor:
        """Of hidden rows `source`, and of `hidden(rows)` of the next rows in a fixed random order,
        as many; 0 where either are fewer than two."""
        import torch

        rows = self.order[
            (torch.arange(min(len(source), len(self.order))) + self.at) % len(self.order)
        ]
        self.at = (self.at + len(rows)) % len(self.order)
        if min(len(source), len(rows)) < 2:
            return source.new_zeros(())
        return penalty(self.method, self.strength, source, hidden(rows))


def penalty(method: str, strength: float, source: Tensor, target: Tensor) -> Tensor:
    """The term to add, a scalar, of hidden rows `source` (n, h) and `target` (m, h), n, m >= 2.

    `strength` in [0, 1] is half of the factor. Raises SpaceFault for an unknown method.
    """
    if method not in PENALTIES:
        raise SpaceFault(f"a penalty is one of {PENALTIES}, got {method!r}: use one of them")
    measure = _coral if method == "coral" else _mmd
    return _HEAVIEST * strength * measure(source, target)


def _coral(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of means over the mean squared spread, and of covariances over theirs."""
    import torch

    means = source.mean(0), target.mean(0)
    first, second = (
        (side - mean).T @ (side - mean) / (len(side) - 1)
        for side, mean in zip((source, target), means, strict=True)
    )
    spread = (torch.trace(first) + torch.trace(second)).clamp_min(1e-9)
    size = ((first**2).sum() + (second**2).sum()).clamp_min(1e-12)
    return ((means[0] - means[1]) ** 2).sum() / spread + ((first - second) ** 2).sum() / size


def _mmd(source: Tensor, target: Tensor) -> Tensor:
    """Biased MMD² over three bandwidths, their mean; the median distance is no path for gradients,
    but for its scale, which is divided out."""
    import torch

    n, rows = len(source), torch.cat([source, target])
    squares = (rows**2).sum(1)
    apart = (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clamp_min(0.0)
    # lower of the two middle ones: deterministic, and never 0 unless most rows are equal
    median = apart[~torch.eye(len(rows), dtype=torch.bool)].median().clamp_min(1e-9)
    apart = apart / median
    total = apart.new_zeros(())
    for scale in _SCALES:
        kernel = torch.exp(-apart / (2 * scale**2))
        within = kernel[:n, :n].mean() + kernel[n:, n:].mean()
        total = total + within - 2 * kernel[:n, n:].mean()
    return total / len(_SCALES)
