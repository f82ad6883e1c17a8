"""A digest as inline SVG: the loss with its intervals, the drift, the predictions with labels.

Nothing is referred to outside of it; colours come from the page's CSS, shapes tell the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from monitoring.digest.facts import ESTIMATED, Digest
from monitoring.records import Signal

WIDTH, LEFT, RIGHT = 1120, 60, 150
_TOPS = (64.0, 330.0, 480.0)  # of the panels
_HEIGHTS = (200.0, 90.0, 110.0)
_LOWEST = -6.0  # of log10 p: smaller p-values are drawn there

Points = Sequence[tuple[datetime, Signal]]
Scale = Callable[[datetime], float]


@dataclass(frozen=True, slots=True)
class Panel:
    """A strip of the picture; `low`..`high` are the values at its bottom and its top."""

    top: float
    height: float
    low: float
    high: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def y(self, value: float) -> float:
        """Clamped to the panel."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - min(max(share, 0.0), 1.0) * self.height


def draw(digest: Digest) -> str:
    """One `<svg>` element; a panel for which there is nothing says so."""
    span = (digest.until - digest.since).total_seconds()

    def x(moment: datetime) -> float:
        return LEFT + (moment - digest.since).total_seconds() / span * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} 640" role="img" aria-labelledby="digest-title">',
        f'<title id="digest-title">{escape(digest.model)}: loss, drift, labels, retrains</title>',
        *_retrains(digest, x),
        *_loss(digest, x),
        *_drift(digest, x),
        *_rows(digest, x),
        *_dates(digest, x),
        "</svg>",
    ]
    return "\n".join(parts)


def _loss(digest: Digest, x: Scale) -> Iterator[str]:
    name = digest.metric
    realised, estimated = digest.series(name), digest.series(ESTIMATED + name)
    said = name.replace("_", " ")
    yield _title(0, f"{said.capitalize()} of each check, with its interval")
    values = [
        v
        for _, s in (*realised, *estimated)
        for v in (s.value, s.low, s.high)
        if v is not None and math.isfinite(v)
    ]
    if not values:
        yield _nothing(0, "no check could say: too few labels, and no estimate")
        return
    low, high = min(values), max(values)
    room = 0.06 * (high - low or abs(high) or 1.0)
    panel = Panel(_TOPS[0], _HEIGHTS[0], low - room, high + room)
    yield from _grid(panel, ticks(panel.low, panel.high), "{:.3g}")
    for points, kind in ((estimated, "estimated"), (realised, "realised")):
        yield from _line(points, x, panel, kind, said)
    words = [(realised, "realised", "from labels"), (estimated, "estimated", "without labels")]
    drawn = [(p, kind, word) for p, kind, word in words if p]
    ends = apart([panel.y(p[-1][1].value or 0.0) for p, _, _ in drawn], 19)
    for y, (_, kind, word) in zip(ends, drawn, strict=True):
        yield f'<text class="end {kind}" x="{WIDTH - RIGHT + 12}" y="{y + 5:.1f}">{word}</text>'


def _line(points: Points, x: Scale, panel: Panel, kind: str, said: str) -> Iterator[str]:
    places = [(x(when), panel.y(s.value or 0.0), when, s) for when, s in points]
    if len(places) > 1:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _, _ in places)
        yield f'<polyline class="{kind}" points="{path}"/>'
    for px, py, when, signal in places:
        interval = ""
        if signal.low is not None and signal.high is not None:
            top, bottom = panel.y(signal.high), panel.y(signal.low)
            yield (
                f'<line class="{kind} interval" x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" '
                f'y2="{bottom:.1f}"/>'
            )
            interval = f" ({signal.low:.4g} to {signal.high:.4g})"
        breached = " breached" if signal.breached else ""
        yield (
            f'<circle class="{kind}{breached}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
            f"<title>{when:%a %d %b %H:%M}, {said} {kind}: {signal.value:.4g}{interval}, "
            f"{signal.rows:,} rows</title></circle>"
        )


def _drift(digest: Digest, x: Scale) -> Iterator[str]:
    yield _title(1, "Whether the inputs differ from the training data: -log10 p of the shift test")
    found = [(when, s) for when, s in digest.series("mmd") if s.p_value is not None]
    if not found:
        yield _nothing(1, "no check could say: too few rows")
        return
    heights = [-max(math.log10(max(s.p_value or 0.0, 1e-300)), _LOWEST) for _, s in found]
    panel = Panel(_TOPS[1], _HEIGHTS[1], 0.0, max(*heights, 1.0) * 1.1)
    yield from _grid(panel, ticks(0.0, panel.high, 3), "{:g}")
    for (when, signal), height in zip(found, heights, strict=True):
        px, py = x(when), panel.y(height)
        kind = "alarmed" if signal.breached else "calm"
        yield (
            f'<g class="{kind}"><line x1="{px:.1f}" x2="{px:.1f}" y1="{panel.bottom:.1f}" '
            f'y2="{py:.1f}"/><circle cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>'
            f"<title>{when:%a %d %b %H:%M}: p = {signal.p_value:.3g}, alarm at "
            f"{escape(signal.threshold)}</title></g>"
        )
    middle = panel.top + panel.height / 2
    yield f'<text class="end" x="{WIDTH - RIGHT + 12}" y="{middle:.0f}">filled: alarm</text>'


def _rows(digest: Digest, x: Scale) -> Iterator[str]:
    yield _title(2, "Predictions a day; filled: those whose label has come")
    most = max((day.rows for day in digest.days), default=0)
    if not most:
        yield _nothing(2, "nothing was asked")
        return
    panel = Panel(_TOPS[2], _HEIGHTS[2], 0.0, most * 1.08)
    yield from _grid(panel, ticks(0.0, panel.high, 3), "{:,.0f}")
    for day in digest.days:
        left = x(day.start) + 3
        right = x(min(day.start + timedelta(days=1), digest.until)) - 3
        share = f"{day.labelled / day.rows:.0%}" if day.rows else "none"
        yield f'<g class="day"><title>{day.start:%a %d %b}: {day.rows:,} predictions, ' + (
            f"{share} labelled</title>"
        )
        for kind, rows in (("asked", day.rows), ("labelled", day.labelled)):
            top = panel.y(rows)
            yield (
                f'<rect class="{kind}" x="{left:.1f}" width="{max(right - left, 1):.1f}" '
                f'y="{top:.1f}" height="{panel.bottom - top:.1f}"/>'
            )
        yield "</g>"
    if digest.coverage is not None:
        yield (
            f'<text class="end" x="{WIDTH - RIGHT + 12}" y="{panel.top + 40:.0f}">'
            f"{digest.coverage:.0%} labelled</text>"
        )


def _retrains(digest: Digest, x: Scale) -> Iterator[str]:
    bottom = _TOPS[2] + _HEIGHTS[2]
    for made in digest.made:
        px = x(made.time)
        kind = "passed" if made.alive else "refused"
        yield (
            f'<line class="retrain {kind}" x1="{px:.1f}" x2="{px:.1f}" y1="{_TOPS[0]:.0f}" '
            f'y2="{bottom:.0f}"/>'
        )
    places = apart([x(made.time) for made in digest.made], 24)
    for px, made in zip(places, digest.made, strict=True):
        kind, version = "passed" if made.alive else "refused", escape(made.version)
        yield (
            f'<a href="#version-{version}" class="number {kind}"><circle cx="{px:.1f}" '
            f'cy="50" r="10"/><text x="{px:.1f}" y="54" text-anchor="middle">{version}</text>'
            f"<title>version {version}, {made.fate}: {escape(made.verdict)}</title></a>"
        )


def _dates(digest: Digest, x: Scale) -> Iterator[str]:
    bottom = _TOPS[2] + _HEIGHTS[2]
    days = digest.days
    step = max(1, math.ceil(len(days) / 8))
    for day in days[::step]:
        px = x(day.start)
        yield (
            f'<line class="floor" x1="{px:.1f}" x2="{px:.1f}" y1="{bottom:.1f}" '
            f'y2="{bottom + 5:.1f}"/><text class="tick" x="{px + 3:.1f}" y="{bottom + 21:.1f}">'
            f"{day.start:%a} {day.start.day} {day.start:%b}</text>"
        )


def _title(panel: int, words: str) -> str:
    rise = 36 if panel == 0 else 14
    return f'<text class="panel" x="{LEFT}" y="{_TOPS[panel] - rise:.0f}">{escape(words)}</text>'


def _nothing(panel: int, why: str) -> str:
    y = _TOPS[panel] + _HEIGHTS[panel] / 2
    return f'<text class="tick" x="{LEFT}" y="{y:.0f}">{escape(why)}</text>'


def _grid(panel: Panel, values: list[float], shape: str) -> Iterator[str]:
    right = WIDTH - RIGHT
    for value in values:
        y = panel.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{shape.format(value)}</text>"
        )
    yield (
        f'<line class="floor" x1="{LEFT}" x2="{right}" y1="{panel.bottom:.1f}" '
        f'y2="{panel.bottom:.1f}"/>'
    )


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most `most` + 1 round numbers from `low` to `high`.

    >>> ticks(0.43, 0.61)
    [0.45, 0.5, 0.55, 0.6]
    """
    raw = max(high - low, 1e-12) / most
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(s * base for s in (1, 2, 2.5, 5, 10) if s * base >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places in the order of the wanted ones, near them and at least `gap` apart.

    >>> apart([10.0, 11.0, 40.0], gap=6.0)
    [7.5, 13.5, 40.0]
    """
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        groups.append([i])
        centres.append(wanted[i])
        while len(groups) > 1 and centres[-1] - centres[-2] < gap * (
            (len(groups[-1]) + len(groups[-2])) / 2
        ):  # two groups touch: one group around the mean of what its members wanted
            groups[-2:] = [groups[-2] + groups[-1]]
            centres[-2:] = [sum(wanted[j] for j in groups[-1]) / len(groups[-1])]
    places = [0.0] * len(wanted)
    for group, centre in zip(groups, centres, strict=True):
        for rank, i in enumerate(group):
            places[i] = centre + (rank - (len(group) - 1) / 2) * gap
    return places
