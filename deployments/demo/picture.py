"""The picture of a replay as a PNG, drawn with matplotlib's object interface."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from deployments.demo import axes
from deployments.demo.story import Retrain, Story

_INK, _FAINT = "#1f2328", "#d8dce0"
_PIXELS_PER_INCH = 150
_LIST_INCHES = 0.2  # height of one line of the list of retrains


def draw(story: Story, path: Path) -> Path:
    """Write the picture, 1800 pixels wide, and return its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [line for retrain in story.retrains for line in _described(retrain)]
    foot = 0.55 + _LIST_INCHES * (len(lines) + 1)
    height = 6.9 + foot
    figure = Figure(figsize=(12, height), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        3, 1, height_ratios=[3.1, 1, 1], hspace=0.34, left=0.055, right=0.9,
        top=1 - 1.3 / height, bottom=foot / height,
    )  # fmt: skip
    loss, mmd, share = (figure.add_subplot(grid[i]) for i in range(3))
    for panel, title in ((loss, axes.LOSS_TITLE), (mmd, axes.MMD_TITLE), (share, axes.SHARE_TITLE)):
        _plain(panel, story, title)
    _losses(loss, story)
    _dots(mmd, axes.mmd(story), -math.log10(story.p_value_limit), f"p = {story.p_value_limit:g}")
    _dots(share, axes.shares(story), story.share_limit, f"{story.share_limit:.0%}")
    share.set_ylim(0, 1)
    share.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    for retrain in story.retrains:
        _mark(loss, [mmd, share], retrain)
    for panel in (loss, mmd):
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
    panel.set_ylim(min(values) - room, max(values) + 2.2 * room)
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


def _dots(panel: Any, series: axes.Series, limit: float, word: str) -> None:
    top = max([*series.y, limit]) * 1.15
    panel.set_ylim(0, top)
    panel.axhline(limit, color="#a33b00", linewidth=0.9, dashes=(4, 3))
    panel.annotate(
        f"alarm: {word}",
        (1.01, limit / top if word[0] == "p" else limit),
        xycoords="axes fraction",
        color="#a33b00",
        fontsize=9,
        va="center",
    )
    panel.vlines(series.x, 0, series.y, color="#8a9099", linewidth=0.9)
    alarmed = ["#a33b00" if y >= limit else "#5b626b" for y in series.y]
    panel.scatter(series.x, series.y, s=9, color=alarmed, zorder=3)


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
        0.055, 1 - 0.38 / height, "New York flights 2013: will it arrive late?",
        fontsize=15, fontweight="bold", color=_INK,
    )  # fmt: skip
    figure.text(0.055, 1 - 0.66 / height, story.headline[0], fontsize=10.5, color=_INK)
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
    text = f"{retrain.number}   {axes.short_date(retrain.time)}, {end}: {why}"
    return textwrap.wrap(
        text, 165, subsequent_indent="      ", max_lines=2, placeholder=" …", break_long_words=False
    )
