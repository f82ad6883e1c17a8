"""How much of a network is to be gone by now: the calmer its training, the more.

Two figures tell calm: the norm of the gradient and the size of the update relative to the weights.
Both are large while the network finds out what matters and shrink as it settles; they grow again
when something was taken that was needed, and then the pace slows down by itself. The idea of
removing gradually is Zhu and Gupta's (*To prune, or not to prune*, 2017); theirs is a fixed cubic
in time, which is here the latest that the target may be reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_EAGER = 10.0  # at full calm the rest shrinks by e this often within the window
_DONE = 0.002  # so close to the target is the target


@dataclass
class _Fading:
    """A fading mean, and the highest that it has been."""

    keep: float = 0.8
    mean: float = 0.0
    peak: float = 0.0
    weight: float = 0.0

    def below(self, value: float) -> float:
        """The mean as a share of its peak, in [0, 1]; a figure that is not finite is the peak."""
        if not math.isfinite(value):
            return 1.0
        self.mean = self.keep * self.mean + (1 - self.keep) * value
        self.weight = self.keep * self.weight + (1 - self.keep)
        now = self.mean / self.weight
        self.peak = max(self.peak, now)
        return now / self.peak if self.peak > 0 else 1.0


@dataclass
class Pace:
    """The share of weights to be removed, never falling, from what `looks` looks show.

    target: share at the end; begin and end: the part of the looks in which it is reached. After
    `end` the share is the target, and what is left is tuned.
    """

    target: float
    looks: int
    begin: float = 0.1
    end: float = 0.65
    share: float = 0.0
    calm: float = 0.0
    _seen: int = 0
    _gradient: _Fading = field(default_factory=_Fading)
    _update: _Fading = field(default_factory=_Fading)

    def look(self, gradient: float, update: float) -> float:
        """The share to be removed now, given the gradient's norm and the update's relative size.

        The figures' own scale plays no part, only how far they lie below their peak:
        calm = 1 - sqrt(g / g_peak * u / u_peak).
        """
        self._seen += 1
        place = self._seen / max(self.looks, 1)
        ratio = self._gradient.below(gradient) * self._update.below(update)
        self.calm = 1.0 - math.sqrt(min(max(ratio, 0.0), 1.0))
        if place < self.begin:
            return self.share
        window = max((self.end - self.begin) * self.looks, 1.0)
        step = (self.target - self.share) * min(_EAGER * self.calm / window, 1.0)
        latest = (place - self.begin) / (self.end - self.begin)
        floor = self.target * min(latest, 1.0) ** 3
        self.share = max(self.share + step, floor)
        if self.target - self.share < _DONE:
            self.share = self.target
        return self.share

    @property
    def reached(self) -> bool:
        return self.share >= self.target
