"""The picture of a search: how it went, where it looked, what mattered, and the front.

Above are the trials in the order in which they ended, with the best so far; beside them, when the
goal has several metrics, the front of those that no other trial beats in everything. Below is each
parameter's range: where the policy looked before the search and after it, and what was tried.
"""

from __future__ import annotations

import logging
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.search.objectives import BEHIND, METRICS, value_of
from models.search.pareto import front, points
from models.search.reward import learnt_from, loss_of

if TYPE_CHECKING:
    from models.records import Trial
    from models.search.objectives import Metric, Objective
    from models.space import Space

PICTURE = "tuning.png"
log = logging.getLogger(__name__)

# Okabe and Ito's colours, apart for every common kind of colour blindness; marks tell them too.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#D55E00", "#009E73", "#CC3311"
INK, QUIET, FAINT = "#1f2328", "#6e7278", "#d8dce0"
_PIXELS_PER_INCH = 150
_WIDTH, _TOP, _BAND, _ROW = 12.0, 1.3, 3.0, 0.5  # inches: all, heading, upper band, a parameter
_MARGIN = 0.55
_ROOM = 1.15  # of the spread below the cut, drawn above the median


@dataclass(frozen=True, slots=True)
class Shown:
    """What is drawn. trials: in the order of their ends; before, after: `distribution` of the
    searcher, or empty; importance: shares per parameter, or empty."""

    space: Space
    trials: tuple[Trial, ...]
    goal: Objective
    chosen: Trial | None
    before: Mapping[str, Mapping[str, Any]]
    after: Mapping[str, Mapping[str, Any]]
    importance: Mapping[str, float]
    title: str
    subtitle: str = ""


def drawn(shown: Shown, path: Path) -> Path | None:
    """Write the PNG, 1,800 pixels wide; a fault in drawing stops nothing, and the log says it."""
    try:
        canvas = compose(shown)
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # a name in letters that the font lacks is drawn as boxes
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            canvas.savefig(path, facecolor="white")
    except Exception:
        log.exception("the picture of the search was not drawn")
        return None
    return path


def compose(shown: Shown) -> Any:
    """The matplotlib figure that `drawn` saves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from tasks.tuning_rows import chosen_rows, draw_rows

    rows, left_out = chosen_rows(shown)
    lower = len(rows) * _ROW + 1.0 if rows else 0.0
    height = _TOP + _BAND + _MARGIN + lower
    canvas = Figure(figsize=(_WIDTH, height), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(canvas)
    several = len(shown.goal.named) > 1
    band = canvas.add_gridspec(
        1, 2 if several else 1, width_ratios=(3, 2) if several else None, wspace=0.2,
        left=0.075, right=0.97, top=1 - _TOP / height, bottom=(lower + _MARGIN) / height,
    )  # fmt: skip
    _course(canvas.add_subplot(band[0, 0]), shown)
    if several:
        _front(canvas.add_subplot(band[0, 1]), shown)
    if rows:
        draw_rows(canvas, shown, rows, left_out, bottom=0.4 / height, top=(lower - 0.62) / height)
    canvas.text(0.02, 1 - 0.3 / height, shown.title, size=14, weight="bold", color=INK, va="center")
    said = textwrap.shorten(shown.subtitle, 150, placeholder=" \u2026")
    canvas.text(0.02, 1 - 0.56 / height, said, size=9.5, color=QUIET, va="center")
    return canvas


def _course(axes: Any, shown: Shown) -> None:
    """Loss over trials, the best so far, and those that failed or broke a limit, at the top.

    A trial that was stopped early stands where it was predicted to end, hollow.
    """
    losses = [loss_of(trial) for trial in shown.trials]
    early = [t.status == "stopped" for t in shown.trials]
    ends = [(i + 1, x) for i, t in enumerate(shown.trials)
            if early[i] and (x := learnt_from(t)) is not None]  # fmt: skip
    beyond = [x is not None and bool(shown.goal.limits) and x >= BEHIND for x in losses]
    within = [(i + 1, x) for i, x in enumerate(losses) if x is not None and not beyond[i]]
    low, high = span([x for _, x in within])
    top = high + 0.06 * (high - low)
    axes.set_ylim(low - 0.07 * (high - low), high + 0.13 * (high - low))
    axes.set_xlim(0.3, max(len(losses), 2) + 0.7)
    inside = [(i, x) for i, x in within if x <= high]
    if inside:
        axes.scatter(*zip(*inside, strict=True), s=26, color=BLUE, alpha=0.75, linewidth=0,
                     label="trial", zorder=3)  # fmt: skip
    if ends:
        shows = [(i, x if x <= high else top) for i, x in ends]
        axes.scatter(*zip(*shows, strict=True), s=26, facecolor="white", edgecolor=BLUE,
                     linewidth=1.1, label=f"stopped early ({len(ends)})", zorder=3)  # fmt: skip
    for marks, marker, colour, label in (
        ([i for i, x in within if x > high], "^", BLUE, "worse than shown"),
        ([i + 1 for i, b in enumerate(beyond) if b], "v", GREEN, "beyond a limit"),
        ([i + 1 for i, x in enumerate(losses) if x is None and not early[i]], "x", RED, "failed"),
    ):
        if marks:
            axes.scatter(marks, [top] * len(marks), s=30, marker=marker, color=colour,
                         label=f"{label} ({len(marks)})", zorder=3)  # fmt: skip
    if within:
        best: list[float] = []
        at: list[int] = []
        for i, x in within:
            best.append(min(x, best[-1]) if best else x)
            at.append(i)
        axes.step([*at, len(losses)], [*best, best[-1]], where="post", color=ORANGE, linewidth=2,
                  label="best so far", zorder=2)  # fmt: skip
    ring(axes, shown, losses, high)
    metric = METRICS[shown.goal.metric]
    plain = f"1 - {metric.name}" if metric.larger_is_better else metric.name
    what = plain if shown.goal.plain else "weighed loss"
    axes.set_title(
        f"Trials in the order of their ends: {what} (lower is better)",
        loc="left", size=10, color=INK, pad=22,
    )  # fmt: skip
    axes.set_xlabel("trial", size=9, color=QUIET)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=6, fontsize=8.5, frameon=False,
            handletextpad=0.4, columnspacing=1.2, borderaxespad=0.2, labelcolor=INK,
        )  # fmt: skip
    _whole_numbers(axes)
    quiet(axes)


def ring(axes: Any, shown: Shown, losses: Sequence[float | None], high: float) -> None:
    """Around the chosen trial."""
    for i, (trial, loss) in enumerate(zip(shown.trials, losses, strict=True)):
        chosen = shown.chosen is not None and trial.number == shown.chosen.number
        if chosen and loss is not None:
            axes.scatter([i + 1], [min(loss, high)], s=120, facecolor="none", edgecolor=ORANGE,
                         linewidth=1.8, zorder=4, label="chosen")  # fmt: skip


def _front(axes: Any, shown: Shown) -> None:
    """The main metric against another, the one with a limit first; the front is joined."""
    first, second = pair(shown.goal)
    known = [t for t in shown.trials if math.isfinite(points([t], (first, second)).sum())]
    ahead = front(known, (first, second))
    numbers = {t.number for t in ahead}
    rest = [t for t in known if t.number not in numbers]
    x, y = METRICS[second], METRICS[first]
    beaten = [(t.metrics[second], value_of(first, t.metrics)) for t in rest]
    if beaten:
        axes.scatter(*zip(*beaten, strict=True), s=22, color=QUIET, alpha=0.5, linewidth=0)
    joined = sorted((t.metrics[second], value_of(first, t.metrics)) for t in ahead)
    if joined:
        axes.plot(*zip(*joined, strict=True), "o-", color=BLUE, markersize=6, linewidth=1.3,
                  label="front")  # fmt: skip
    if shown.chosen is not None and second in shown.chosen.metrics:
        axes.scatter([shown.chosen.metrics[second]], [value_of(first, shown.chosen.metrics)], s=130,
                     facecolor="none", edgecolor=ORANGE, linewidth=1.8, zorder=4,
                     label="chosen")  # fmt: skip
    values = [t.metrics[second] for t in known]
    if x.ratio and values and min(values) > 0 and max(values) > 8 * min(values):
        axes.set_xscale("log")
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks(_plain_power)
    for limit in shown.goal.limits:
        if limit.metric in (first, second):
            line = axes.axvline if limit.metric == second else axes.axhline
            line(limit.value, color=RED, linewidth=1.2, linestyle=(0, (4, 3)), label=str(limit))
    lost = _heights(axes, y, points(known, (first,))[:, 0], points(ahead, (first,))[:, 0])
    axes.set_title(f"The front{lost}", loc="left", size=10, color=INK, pad=22)
    axes.set_xlabel(_named(second, x.unit, x.larger_is_better), size=9, color=QUIET)
    axes.set_ylabel(_named(first, y.unit, y.larger_is_better), size=9, color=QUIET)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=3, fontsize=8, frameon=False,
            handletextpad=0.5, columnspacing=1.0, borderaxespad=0.2, labelcolor=INK,
        )  # fmt: skip
    axes.margins(x=0.08)
    quiet(axes)


def _heights(axes: Any, metric: Metric, losses: Any, ahead: Any) -> str:
    """Limit the picture to where most trials are, and to the front; what is cut off, in words."""
    low, high = span(list(losses))
    high = max([high, *(x for x in ahead if x < low + 4 * (high - low))])
    room = 0.08 * (high - low)
    axes.set_ylim(*sorted(metric.turned(x) for x in (low - room, high + room)))
    outside = int((losses > high).sum())
    return f" ({outside} worse than shown)" if outside else ""


def _plain_power(value: float, _place: int) -> str:
    """Labels at 1, 2 and 5 of every decade, as plain numbers."""
    digit = round(value / 10 ** math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:g}" if digit in (1, 2, 5) else ""


def pair(goal: Objective) -> tuple[str, str]:
    """The two metrics of the front that is drawn."""
    limited = [limit.metric for limit in goal.limits if limit.metric != goal.metric]
    return goal.metric, (limited or [n for n in goal.named if n != goal.metric])[0]


def span(losses: Sequence[float]) -> tuple[float, float]:
    """What of the losses is drawn: from the best up to a little past most of them.

    One trial that went wrong would otherwise squeeze all others into a line.

    >>> span([0.40, 0.41, 0.42, 0.43, 9.0])
    (0.4, 0.464)
    """
    if not losses:
        return 0.0, 1.0
    ranked = sorted(losses)
    low, most = ranked[0], ranked[min(max(int(0.8 * (len(ranked) - 1)), 1), len(ranked) - 1)]
    high = min(ranked[-1], most + max(_ROOM * (most - low), 0.005 * abs(low)))
    if high <= low:
        high = low + max(abs(low) * 0.01, 1e-6)
    return low, round(high, 3) if high - low > 0.02 else high


def _named(name: str, unit: str, larger_is_better: bool) -> str:
    better = "higher" if larger_is_better else "lower"
    return f"{name}{f' ({unit})' if unit and not name.endswith('_ms') else ''}, {better} is better"


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))


def quiet(axes: Any) -> None:
    """Little ink for what is not data."""
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.tick_params(labelsize=8.5, colors=QUIET, length=3, which="both")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
