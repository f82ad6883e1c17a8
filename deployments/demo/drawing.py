"""The same picture as inline SVG: it scales, its marks tell their day when pointed at, and the
numbers of the retrains lead to their lines in the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from html import escape

from deployments.demo import axes
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY
from deployments.demo.story import Story

WIDTH, LEFT, RIGHT = 1120, 52, 128
Scale = Callable[[float], float]


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
        return self.bottom - (value - self.low) / (self.high - self.low) * self.height


def draw(story: Story) -> str:
    """One `<svg>` element without outside references; colours come from the page's CSS too."""
    inner = WIDTH - LEFT - RIGHT

    def x(day: float) -> float:
        return LEFT + day / story.days * inner

    series = axes.losses(story)
    values = [v for s in series.values() for v in s.y]
    room = 0.06 * (max(values) - min(values) or 1.0)
    positive, mmd, share = axes.positives(story), axes.mmd(story), axes.shares(story)
    loss_panel = Panel(58, 300, max(min(values) - room, 0.0), max(values) + room)
    marks = axes.ticks(loss_panel.low, loss_panel.high)
    positive_panel = Panel(412, 56, 0.0, max([*positive.y, 1e-3]) * 1.15)
    mmd_panel = Panel(522, 92, 0.0, max([*mmd.y, 1e-3]) * 1.15)
    share_panel = Panel(668, 92, 0.0, 1.0)
    panels = (loss_panel, positive_panel, mmd_panel, share_panel)
    if story.texts:
        unseen = axes.unseen(story)
        panels = (*panels, Panel(814, 92, 0.0, max([*unseen.y, 1e-3]) * 1.15))
    lowest = panels[-1]
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {lowest.bottom + 40:.0f}" role="img" '
        'aria-labelledby="picture-title">',
        '<title id="picture-title">Loss by week of the three models, retrains, and drift</title>',
        *_titles(story, panels),
        *_grid(loss_panel, marks, axes.figures(marks)),
        *_grid(positive_panel, axes.ticks(0.0, positive_panel.high, 2), "{:.0%}"),
        *_grid(mmd_panel, axes.ticks(0.0, mmd_panel.high, 3), "{:g}"),
        *_grid(share_panel, [0.0, 0.5, 1.0], "{:.0%}"),
        *_dates(story, x, lowest.bottom),
        *_retrain_lines(story, x, loss_panel.top, lowest.bottom),
        *_line(positive, x, positive_panel),
        *_stems(story, mmd, x, mmd_panel, "-log10 p {:.1f}"),
        *_stems(story, share, x, share_panel, "{:.0%} of the inputs"),
        f'<text class="limit-word" x="{WIDTH - RIGHT + 12}" y="{mmd_panel.top + 50}">'
        f"{axes.mmd_alarm(story)}</text>",
        *_limit(share_panel, story.share_limit, f"alarm: {story.share_limit:.0%}"),
        *(_unseen(story, x, lowest) if story.texts else ()),
        *_lines(story, series, x, loss_panel),
        *_retrain_numbers(story, loss_panel.top - 12),
        "</svg>",
    ]
    return "\n".join(parts)


def _titles(story: Story, panels: tuple[Panel, ...]) -> Iterator[str]:
    words = axes.titles(story)
    for panel, word in zip(panels, words, strict=True):
        rise = 36 if word == axes.LOSS_TITLE else 14  # room for the numbers of the retrains
        yield f'<text class="panel" x="{LEFT}" y="{panel.top - rise:.0f}">{escape(word)}</text>'


def _grid(panel: Panel, ticks: list[float], shape: str) -> Iterator[str]:
    right = WIDTH - RIGHT
    for tick in ticks:
        if panel.low <= tick <= panel.high:
            y = panel.y(tick)
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield (
                f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{shape.format(tick)}</text>"
            )
    yield (
        f'<line class="floor" x1="{LEFT}" x2="{right}" y1="{panel.bottom:.1f}" '
        f'y2="{panel.bottom:.1f}"/>'
    )


def _dates(story: Story, x: Scale, bottom: float) -> Iterator[str]:
    for day, word in axes.dates(story):
        yield (
            f'<line class="floor" x1="{x(day):.1f}" x2="{x(day):.1f}" y1="{bottom:.1f}" '
            f'y2="{bottom + 5:.1f}"/>'
            f'<text class="tick" x="{x(day):.1f}" y="{bottom + 21:.1f}" text-anchor="middle">'
            f"{word}</text>"
        )


def _lines(story: Story, series: dict[str, axes.Series], x: Scale, panel: Panel) -> Iterator[str]:
    for name in (FROZEN, EVERFIT, WEEKLY):  # weekly's thin line stays visible on everfit's
        line = series[name]
        points = [(x(day), panel.y(v)) for day, v in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        dashes = axes.DASHES[name]
        dashed = f' stroke-dasharray="{dashes[0]} {dashes[1]}"' if dashes else ""
        yield (
            f'<polyline points="{path}" fill="none" stroke="{axes.COLOUR[name]}" '
            f'stroke-width="{axes.WIDTH[name]}" stroke-linejoin="round"{dashed}/>'
        )
        for week, (px, py) in zip(story.weeks, points, strict=True):
            yield (
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{1.4 + axes.WIDTH[name] / 2:.1f}" '
                f'fill="{axes.COLOUR[name]}"><title>week {week.week}, {axes.WORD[name]}: '
                f"{week.loss[name]:.4f} on {week.rows:,} {escape(story.words.rows)}, "
                f"{week.positive:.0%} {escape(story.words.positive)}</title>"
                "</circle>"
            )
    ends = axes.spread([panel.y(series[n].y[-1]) for n in axes.COLOUR], 19)
    place = WIDTH - RIGHT + 12
    yield f'<text class="tick" x="{place}" y="{min(ends) - 14:.1f}">all weeks:</text>'
    for name, y in zip(axes.COLOUR, ends, strict=True):
        weight = ' font-weight="700"' if name == EVERFIT else ""
        yield (
            f'<text class="end" x="{place}" y="{y + 5:.1f}" fill="{axes.COLOUR[name]}"{weight}>'
            f"{axes.WORD[name]} {story.table.metrics[name]['log_loss']:.3f}</text>"
        )


def _unseen(story: Story, x: Scale, panel: Panel) -> Iterator[str]:
    yield from _grid(panel, axes.ticks(0.0, panel.high, 3), "{:.0%}")
    yield from _stems(story, axes.unseen(story), x, panel, "{:.1%} of the words")
    yield (
        f'<text class="limit-word" x="{WIDTH - RIGHT + 12}" y="{panel.top + 50}">'
        "filled: alarm</text>"
    )


def _line(series: axes.Series, x: Scale, panel: Panel) -> Iterator[str]:
    path = " ".join(
        f"{x(day):.1f},{panel.y(v):.1f}" for day, v in zip(series.x, series.y, strict=True)
    )
    yield f'<polyline class="plain" points="{path}"/>'
    for day, v in zip(series.x, series.y, strict=True):
        yield (
            f'<circle class="point" cx="{x(day):.1f}" cy="{panel.y(v):.1f}" r="2.3">'
            f"<title>{v:.0%}</title></circle>"
        )


def _stems(story: Story, series: axes.Series, x: Scale, panel: Panel, shape: str) -> Iterator[str]:
    for day, value, alarmed in zip(series.x, series.y, series.alarmed, strict=True):
        px, py = x(day), panel.y(value)
        kind = "alarmed" if alarmed else "calm"
        date = axes.short_date(story.start + timedelta(days=day))
        yield (
            f'<g class="{kind}"><line x1="{px:.1f}" x2="{px:.1f}" y1="{panel.bottom:.1f}" '
            f'y2="{py:.1f}"/><circle cx="{px:.1f}" cy="{py:.1f}" r="2.3"/>'
            f"<title>{date}: {shape.format(value)}</title></g>"
        )


def _limit(panel: Panel, limit: float, word: str) -> Iterator[str]:
    y = panel.y(limit)
    right = WIDTH - RIGHT
    yield f'<line class="limit" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    yield f'<text class="limit-word" x="{right + 12}" y="{y + 4:.1f}">{escape(word)}</text>'


def _retrain_lines(story: Story, x: Scale, top: float, bottom: float) -> Iterator[str]:
    for retrain in story.retrains:
        px = x(retrain.day + 1)
        kind = "passed" if retrain.passed else "refused"
        yield (
            f'<line class="retrain {kind}" x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" '
            f'y2="{bottom:.1f}"/>'
        )


def _retrain_numbers(story: Story, y: float) -> Iterator[str]:
    inner = WIDTH - LEFT - RIGHT
    places = axes.spread([LEFT + (r.day + 1) / story.days * inner for r in story.retrains], gap=19)
    for retrain, px in zip(story.retrains, places, strict=True):
        kind = "passed" if retrain.passed else "refused"
        why = escape("; ".join(retrain.reasons) or retrain.rule)
        yield (
            f'<a href="#retrain-{retrain.number}" class="number {kind}">'
            f'<circle cx="{px:.1f}" cy="{y:.1f}" r="9"/>'
            f'<text x="{px:.1f}" y="{y + 4:.1f}" text-anchor="middle">{retrain.number}</text>'
            f"<title>{axes.short_date(retrain.time)}, {kind}: {why}</title></a>"
        )
