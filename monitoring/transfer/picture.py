"""The picture of two domains: their rows on a plane, and what models are worth on the target."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import WindowFault
from monitoring.estimates import Interval
from monitoring.picture import _flat as flat

Array = NDArray[np.float64]

# Okabe and Ito's colours; marks tell the domains apart too
SOURCE, TARGET = "#0072B2", "#D55E00"
INK, QUIET, FAINT = "#1f2328", "#6e7278", "#d8dce0"
_PIXELS_PER_INCH = 150
_WIDTH, _HEIGHT = 12.0, 6.6  # inches
_ROWS = 700  # of either side that are drawn


@dataclass(frozen=True, slots=True)
class Bar:
    """One accuracy: on whose rows, and whether it was measured or foretold."""

    name: str
    found: Interval
    target: bool = True
    measured: bool = True


def draw(
    source: Array,
    target: Array,
    names: tuple[str, str],
    bars: Sequence[Bar],
    words: Sequence[str],
    path: Path,
    *,
    title: str,
    rows: int = _ROWS,
    seed: int = 0,
) -> Path:
    """Write a PNG, 1,800 pixels wide: points (m, d) and (n, d) of both sides, by t-SNE (van der
    Maaten and Hinton 2008), the accuracies beside them, and `words` below those.

    At most `rows` of either side are drawn, chosen by `seed`. Raises WindowFault for fewer than 2.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if min(len(source), len(target)) < 2:
        raise WindowFault(
            f"a picture needs at least 2 rows on each side, got {len(source)} and {len(target)}: "
            "bring more"
        )
    rng = np.random.default_rng(seed)
    sides = [side[np.sort(rng.permutation(len(side))[:rows])] for side in (source, target)]
    late = np.repeat([False, True], [len(side) for side in sides])
    plane = flat(np.concatenate(sides), seed)
    canvas = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(canvas)
    grid = canvas.add_gridspec(
        1, 2, width_ratios=(1, 0.95), left=0.03, right=0.975, top=0.86, bottom=0.07, wspace=0.42
    )
    _cloud(canvas.add_subplot(grid[0]), plane, late, names, rng)
    right = grid[1].subgridspec(2, 1, height_ratios=(max(len(bars), 3), 2.2), hspace=0.3)
    _bars(canvas.add_subplot(right[0]), bars)
    _words(canvas.add_subplot(right[1]), words)
    canvas.text(0.03, 0.945, title, size=15, weight="bold", color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # a name in letters that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        canvas.savefig(path, facecolor="white")
    return path


def _cloud(
    axes: Any,
    plane: Array,
    late: NDArray[np.bool_],
    names: tuple[str, str],
    rng: np.random.Generator,
) -> None:
    for part in np.array_split(rng.permutation(len(plane)), 12):  # neither side hides the other
        for after, marker, colour in ((False, "o", SOURCE), (True, "^", TARGET)):
            mine = part[late[part] == after]
            axes.scatter(
                plane[mine, 0], plane[mine, 1], s=18, marker=marker, color=colour, linewidth=0.35,
                edgecolor="white", alpha=0.72,
            )  # fmt: skip
    for name, marker, colour, count in (
        (names[0], "o", SOURCE, int((~late).sum())), (names[1], "^", TARGET, int(late.sum()))
    ):  # fmt: skip
        axes.scatter([], [], s=40, marker=marker, color=colour, label=f"{name} ({count} rows)")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, fontsize=9.5, frameon=False,
        handletextpad=0.3, columnspacing=1.4, borderaxespad=0.2, labelcolor=INK,
    )  # fmt: skip
    axes.set_xlabel("t-SNE: near means alike; axes have no unit", size=8.5, color=QUIET, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.03)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _bars(axes: Any, bars: Sequence[Bar]) -> None:
    places = np.arange(len(bars))[::-1]
    low = min([b.found.low if b.found.low is not None else b.found.value for b in bars])
    start = max(0.0, np.floor((low - 0.03) * 20) / 20)
    for place, bar in zip(places, bars, strict=True):
        colour = TARGET if bar.target else SOURCE
        axes.barh(
            place, bar.found.value - start, left=start, height=0.62, zorder=2,
            facecolor=colour if bar.measured else "white", edgecolor=colour, linewidth=1.2,
            hatch=None if bar.measured else "////", alpha=0.85,
        )  # fmt: skip
        if bar.found.low is not None and bar.found.high is not None:
            axes.plot([bar.found.low, bar.found.high], [place, place], color=INK, lw=1.3, zorder=3)
        end = bar.found.high if bar.found.high is not None else bar.found.value
        axes.text(end + 0.004, place, f"{bar.found.value:.3f}", va="center", size=8.5, color=INK)
    high = max([b.found.high if b.found.high is not None else b.found.value for b in bars])
    axes.set_xlim(start, min(high + 0.12 * (high - start) + 0.01, 1.08))
    axes.set_yticks(places, [textwrap.shorten(b.name, 34, placeholder=" …") for b in bars], size=9)
    room = max(len(bars), 4) - len(bars)
    axes.set_ylim(-0.6 - room, len(bars) - 0.4)
    axes.set_title("Accuracy (hatched: foretold without labels)", loc="left", size=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(FAINT)


def _words(axes: Any, words: Sequence[str]) -> None:
    axes.set_axis_off()
    lines: list[str] = []
    for word in words:
        lines += textwrap.wrap(word, 78, subsequent_indent="   ") or [""]
    text = "\n".join(lines[:11])
    axes.text(
        -0.28, 1.0, text, va="top", size=9, color=INK, linespacing=1.45, parse_math=False,
        transform=axes.transAxes,
    )  # fmt: skip
