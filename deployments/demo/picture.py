"""The picture of a replay as a PNG, drawn with matplotlib's object interface."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from deployments.demo import axes
from deployments.demo.story import Retrain, Story

_INK, _FAINT, _ALARM = "#1f2328", "#d8dce0", "#a33b00"
_PIXELS_PER_INCH = 150
_LIST_INCHES = 0.2  # height of one line of the list of retrains


def draw(story: Story, path: Path) -> Path:
    """Write the picture, 1800 pixels wide, and return its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [line for retrain in story.retrains for line in _described(retrain)]
    foot = 0.55 + _LIST_INCHES * (len(lines) + 1)
    ratios = [3.1, 0.6, 1, 1, 1] if story.texts else [3.1, 0.6, 1, 1]
    height = 2.0 + sum(ratios) + foot
    figure = Figure(figsize=(12, height), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(ratios), 1, height_ratios=ratios, hspace=0.4, left=0.055, right=0.875,
        top=1 - 1.3 / height, bottom=foot / height,
    )  # fmt: skip
    panels = [figure.add_subplot(grid[i]) for i in range(len(ratios))]
    for panel, title in zip(panels, axes.titles(story), strict=True):
        _plain(panel, story, title)
    loss, positive, mmd, share = panels[:4]
    _losses(loss, story)
    _line(positive, axes.positives(story))
    _dots(mmd, axes.mmd(story))
    mmd.text(1.01, 0.5, axes.mmd_alarm(story), transform=mmd.transAxes, color=_ALARM, fontsize=9)
    _dots(share, axes.shares(story))
    share.set_ylim(0, 1)
    share.axhline(story.share_limit, color=_ALARM, linewidth=0.9, dashes=(4, 3))
    share.text(
        1.01, story.share_limit, f"alarm: {story.share_limit:.0%}", transform=share.transAxes,
        color=_ALARM, fontsize=9, va="center",
    )  # fmt: skip
    share.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    if story.texts:
        _unseen(panels[-1], story)
    for retrain in story.retrains:
        _mark(loss, panels[1:], retrain)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    _words(figure, story, lines, height, foot)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")
    return path


def _plain(panel: Any, story: Story, title: str) -> None:
    pad = 20 if title == axes.LOSS_TITLE else 7  # room for the numbers of the retrains
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=_INK, pad=pad)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color("#9aa0a6")
    panel.set_xlim(0, story.days)
    marks = axes.dates(story)
    panel.set_xticks([x for x, _ in marks], [word for _, word in marks])
    panel.grid(axis="y", color=_FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(length=0, labelsize=9, colors=_INK)
    panel.tick_params(axis="x", pad=7)


def _losses(panel: Any, story: Story) -> None:
    series = axes.losses(story)
    values = [v for s in series.values() for v in s.y]
    room = 0.06 * (max(values) - min(values) or 1.0)
    panel.set_ylim(max(min(values) - room, 0.0), max(values) + 2.2 * room)
    low, high = panel.get_ylim()
    for name, line in series.items():
        panel.plot(
            line.x, line.y, color=axes.COLOUR[name], linewidth=axes.WIDTH[name], marker="o",
            markersize=3.2, dashes=axes.DASHES[name] or (), zorder=3 if name == "everfit" else 4,
        )  # fmt: skip
    ends = axes.spread([s.y[-1] for s in series.values()], 0.062 * (high - low))
    panel.annotate(
        "all weeks:",
        (1.01, (max(ends) - low) / (high - low) + 0.06),
        xycoords="axes fraction",
        color="#6e7278",
        fontsize=8.5,
        va="center",
    )
    for name, y in zip(series, ends, strict=True):
        panel.annotate(
            f"{axes.WORD[name]}  {story.table.metrics[name]['log_loss']:.3f}",
            (1.01, (y - low) / (high - low)),
            xycoords="axes fraction",
            color=axes.COLOUR[name],
            fontsize=10.5,
            fontweight="bold" if name == "everfit" else "normal",
            va="center",
        )


def _unseen(panel: Any, story: Story) -> None:
    from matplotlib.ticker import PercentFormatter

    _dots(panel, axes.unseen(story))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.text(1.01, 0.5, "filled: alarm", transform=panel.transAxes, color=_ALARM, fontsize=9)


def _line(panel: Any, series: axes.Series) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    panel.plot(series.x, series.y, color="#5b626b", linewidth=1.4, marker="o", markersize=3)
    panel.set_ylim(0, max([*series.y, 1e-3]) * 1.15)
    panel.yaxis.set_major_locator(MaxNLocator(2))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _dots(panel: Any, series: axes.Series) -> None:
    panel.set_ylim(0, max([*series.y, 1e-3]) * 1.15)
    panel.locator_params(axis="y", nbins=4)
    panel.vlines(series.x, 0, series.y, color="#a3a9b1", linewidth=0.8)
    fill = [_ALARM if alarmed else "white" for alarmed in series.alarmed]
    edge = [_ALARM if alarmed else "#5b626b" for alarmed in series.alarmed]
    panel.scatter(series.x, series.y, s=11, color=fill, edgecolor=edge, linewidth=0.8, zorder=3)


def _mark(top: Any, below: list[Any], retrain: Retrain) -> None:
    colour = axes.COLOUR["everfit"]
    x = retrain.day + 1.0
    for panel in (top, *below):
        panel.axvline(
            x, color=colour, linewidth=0.9, alpha=0.55, dashes=() if retrain.passed else (2, 2)
        )
    place = {"transform": top.get_xaxis_transform(), "clip_on": False}
    top.scatter(
        [x], [1.03], s=150, edgecolor=colour, facecolor=colour if retrain.passed else "white",
        zorder=6, **place,
    )  # fmt: skip
    top.text(
        x, 1.028, str(retrain.number), ha="center", va="center", fontsize=8, fontweight="bold",
        color="white" if retrain.passed else colour, zorder=7, **place,
    )  # fmt: skip


def _words(figure: Any, story: Story, lines: list[str], height: float, foot: float) -> None:
    figure.text(
        0.055, 1 - 0.38 / height, story.words.question,
        fontsize=15, fontweight="bold", color=_INK,
    )  # fmt: skip
    figure.text(0.055, 1 - 0.66 / height, " ".join(story.headline[:2]), fontsize=10, color=_INK)
    y = foot - 0.52
    head = "Retrains of everfit" if lines else "everfit never retrained on these weeks."
    note = "  (filled: passed the gate and serves; hollow: refused)" if lines else ""
    figure.text(0.055, y / height, head + note, fontsize=9.5, fontweight="bold", color=_INK)
    for line in lines:
        y -= _LIST_INCHES
        figure.text(0.055, y / height, line, fontsize=9, color=_INK)


def _described(retrain: Retrain) -> list[str]:
    """One or two lines: when, why and how it ended."""
    end = f"v{retrain.version} serves" if retrain.passed else "refused"
    why = "; ".join(retrain.reasons) or retrain.rule
    text = f"{retrain.number}   {axes.short_date(retrain.time)}, {end}. {retrain.rule}: {why}"
    return textwrap.wrap(
        text, 165, subsequent_indent="      ", max_lines=2, placeholder=" …", break_long_words=False
    )
