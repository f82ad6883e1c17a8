"""The front of one search as inline SVG: the first metric over each other one, joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from monitoring.digest.drawing import Panel, ticks
from monitoring.digest.facts import Front

_WIDTH, _HEIGHT, _GAP, _LEFT, _TOP = 340.0, 190.0, 90.0, 70.0, 34.0
_MOST = 3  # panels beside each other
_LOGARITHMIC = 8.0  # figures that span so many times their smallest are drawn by their logarithm


def draw(front: Front) -> str:
    """One `<svg>` element, a panel for each further metric."""
    others = list(range(1, len(front.metrics)))[:_MOST]
    width = _LEFT + len(others) * (_WIDTH + _GAP)
    height = _TOP + _HEIGHT + 52
    parts = [
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" style="max-width:{width:.0f}px">',
        f"<title>The front: {escape(front.metrics[0])} over "
        f"{escape(', '.join(front.metrics[1:]))}</title>",
    ]
    for place, other in enumerate(others):
        parts += _panel(front, other, _LEFT + place * (_WIDTH + _GAP))
    return "\n".join([*parts, "</svg>"])


def _panel(front: Front, other: int, left: float) -> Iterator[str]:
    ys, xs = [row[0] for row in front.rows], [row[other] for row in front.rows]
    log = min(xs) > 0 and max(xs) > _LOGARITHMIC * min(xs)
    across = [math.log10(x) for x in xs] if log else xs
    panel, flat = Panel(_TOP, _HEIGHT, *_room(ys)), _room(across)

    def x(value: float) -> float:
        return left + (value - flat[0]) / (flat[1] - flat[0]) * _WIDTH

    name, first = escape(front.metrics[other]), escape(front.metrics[0])
    yield f'<text class="panel" x="{left:.0f}" y="{_TOP - 14:.0f}">{first} over {name}</text>'
    for tick in ticks(panel.low, panel.high):
        y = panel.y(tick)
        yield (
            f'<line class="grid" x1="{left:.0f}" x2="{left + _WIDTH:.0f}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/>'
        )
        yield (
            f'<text class="tick" text-anchor="end" x="{left - 8:.0f}" y="{y + 4:.1f}">'
            f"{tick:.4g}</text>"
        )
    for tick in ticks(*flat):
        said = f"{10**tick:.2g}" if log else f"{tick:.4g}"
        yield (
            f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" '
            f'y="{panel.bottom + 20:.0f}">{said}</text>'
        )
    yield (
        f'<text class="tick" text-anchor="middle" x="{left + _WIDTH / 2:.0f}" '
        f'y="{panel.bottom + 42:.0f}">{name}{" (logarithmic)" if log else ""}</text>'
    )
    spots = [(x(a), panel.y(b)) for a, b in zip(across, ys, strict=True)]
    if len(front.metrics) == 2 and len(spots) > 1:  # of more metrics it is a surface, not a line
        joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in sorted(spots))
        yield f'<polyline class="estimated" points="{joined}"/>'
    for i, (a, b) in enumerate(spots):
        told = ", ".join(f"{n} {v:.4g}" for n, v in zip(front.metrics, front.rows[i], strict=True))
        if i == front.chosen:
            yield f'<circle class="chosen" cx="{a:.1f}" cy="{b:.1f}" r="9"/>'
        yield (
            f'<circle class="ahead" cx="{a:.1f}" cy="{b:.1f}" r="4.5">'
            f"<title>{escape(told)}{', chosen' * (i == front.chosen)}</title></circle>"
        )


def _room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low or abs(high) or 1.0)
    return low - room, high + room
