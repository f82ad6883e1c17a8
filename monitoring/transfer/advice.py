"""What to do with a model in a domain that it has not learnt: serve it, adapt it, or get labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from monitoring.estimates import Interval
from monitoring.transfer.distances import Distances

Action = Literal["serve", "adapt", "collect labels"]
WORDS: Mapping[str, str] = {
    "serve": "serve the model as it is",
    "adapt": "adapt the model to the target before it serves",
    "collect labels": "collect labels of the target",
}
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Advice:
    """`labels`: how many labelled target rows would bound the accuracy to within the tolerance."""

    action: Action
    reasons: tuple[str, ...]
    labels: int
    way: str = ""  # the way to adapt, where that is what to do

    def __str__(self) -> str:
        detail = f" (by {self.way})" if self.way else ""
        if self.action == "collect labels":
            detail = f" (about {self.labels:,} of them)"
        return WORDS[self.action] + detail


def advise(
    apart: Distances,
    source: Interval,
    estimated: Interval,
    actual: Interval | None,
    gains: Mapping[str, Interval],
    *,
    own: Interval | None = None,
    tolerance: float = 0.02,
) -> Advice:
    """From accuracies on held-out source rows, and on the target, foretold and measured.

    `gains` are what each way to adapt adds to the source's model: on labelled target rows where
    there is an `actual` figure, else by reverse validation (`tasks.transfer`). `own` is the
    accuracy of a model of the target's labels. `tolerance` is what may be lost against the source.
    """
    measured = actual is not None
    now = estimated if actual is None else actual
    labels = _needed(now, tolerance)
    lost = source.value - now.value
    what = "measured" if measured else "estimated"
    reasons = [
        f"{what} accuracy on the target {said(now)}, on the source {source.value:.3f}: "
        f"{'a loss' if lost > 0 else 'a gain'} of {abs(lost):.3f}, where {tolerance:g} may be lost"
    ]

    def advice(action: Action, reason: str, way: str = "") -> Advice:
        return Advice(action, (*reasons, reason), labels, way)

    if not measured and min(apart.mmd_p, apart.domain_p) > _LEVEL:
        return advice(
            "serve",
            f"no test tells the domains apart (p {apart.mmd_p:.2g} and {apart.domain_p:.2g})",
        )
    worst = now.value if measured or now.low is None else now.low
    if source.value - worst <= tolerance:
        return advice("serve", "that is within it" + ("" if measured else ", interval included"))
    proven = {way: gain for way, gain in gains.items() if gain.low is not None and gain.low > 0}
    if not proven:
        where = "the target's labelled rows" if measured else "reverse validation"
        return advice("collect labels", f"no way to adapt is proven better by {where}")
    way = max(proven, key=lambda name: proven[name].value)
    gain = proven[way]
    by = "on labelled target rows" if measured else "in reverse validation"
    reasons.append(f"adapting by {way} gains {said(gain)} {by}")
    if own is not None and own.value - now.value - gain.value > max(tolerance, gain.value):
        return advice("collect labels", f"a model of the target's labels reaches {own.value:.3f}")
    proof = "" if measured else f"; about {labels:,} labelled target rows would prove it"
    return advice(
        "adapt", f"the model then stands at about {now.value + gain.value:.3f}{proof}", way
    )


def _needed(accuracy: Interval, tolerance: float) -> int:
    """Rows for a 95 % interval of half the tolerance's width on each side."""
    share = min(max(accuracy.value, 0.05), 0.95)
    return math.ceil((1.96 / max(tolerance, 1e-3)) ** 2 * share * (1 - share))


def said(found: Interval) -> str:
    """A figure with its interval.

    >>> said(Interval(0.8, 0.75, 0.85))
    '0.800 (0.750 to 0.850)'
    """
    bounds = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.value:.3f}{bounds}"
