"""Pictures of results: mean regret over trials, all problems together and each by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.tuner.results import Row
from tests.benchmarks.tuner.tables import Cell, by_problem, curves

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
FLOOR = 1e-3  # a regret of nought has its place on a log scale


def draw(rows: Iterable[Row], problems: Sequence[str], path: Path, *, by: str = "best") -> None:
    """Write a PNG. The first panel shows tuners that ran on all problems, with 95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    found = curves(rows, problems)
    ordered = sorted(found, key=lambda name: (not name.startswith("controller"), name))
    across = 4
    down = math.ceil(len(problems) / across)
    figure = Figure(figsize=(13, 4.2 + 2.3 * down), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(down + 1, across, height_ratios=[1.8, *[1.0] * down])
    top = figure.add_subplot(grid[0, :])
    panels = [figure.add_subplot(grid[1 + k // across, k % across]) for k in range(len(problems))]
    for number, name in enumerate(ordered):
        colour = COLOURS[number % len(COLOURS)]
        style = {"color": colour, "lw": 2.0 if name.startswith("controller") else 1.2}
        _whole(top, name, found[name], problems, by, style)
        for panel, problem in zip(panels, problems, strict=True):
            one = {
                t: {c: row for c, row in cells.items() if c[0] == problem}
                for t, cells in found[name].items()
            }
            _line(panel, {t: c for t, c in one.items() if c}, by, style)
    for panel, problem in zip(panels, problems, strict=True):
        panel.set_title(problem, fontsize=9)
        panel.tick_params(labelsize=7)
    for panel in (top, *panels):
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(NullFormatter())  # beside its neighbour there is no room
        panel.grid(alpha=0.25)
    _below_first_trials(top)
    top.set_xlabel("trials")
    top.set_ylabel("normalised regret")
    top.set_title(f"mean of {len(problems)} problems")
    top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def _whole(
    panel: Any,
    name: str,
    trials: dict[int, dict[Cell, Row]],
    problems: Sequence[str],
    by: str,
    style: dict[str, Any],
) -> None:
    full = {t: c for t, c in trials.items() if {p for p, _ in c} >= set(problems)}
    xs, mean, half = _line(panel, full, by, {**style, "label": name})
    if not xs:
        ran = len({p for cells in trials.values() for p, _ in cells})
        panel.plot([], [], **style, label=f"{name} ({ran} of {len(problems)})")
    else:
        low = np.maximum(np.array(mean) - half, FLOOR)
        panel.fill_between(xs, low, np.array(mean) + half, color=style["color"], alpha=0.12, lw=0)


def _line(
    panel: Any, trials: dict[int, dict[Cell, Row]], by: str, style: dict[str, Any]
) -> tuple[list[int], list[float], list[float]]:
    xs = sorted(trials)
    mean, half = [], []
    for x in xs:
        values = list(by_problem(trials[x], by).values())
        mean.append(max(float(np.mean([np.mean(v) for v in values])), FLOOR))
        error = sum(np.var(v, ddof=1) / len(v) if len(v) > 1 else 0.0 for v in values)
        half.append(1.96 * float(np.sqrt(error)) / len(values))
    if xs:
        panel.plot(xs, mean, **style)
    return xs, mean, half


def _below_first_trials(panel: Any) -> None:
    """The axis from the fifth trial on: the first few are far off, and chance."""
    late = [y for line in panel.lines for x, y in line.get_xydata() if x >= 5]
    if late:
        panel.set_ylim(0.7 * min(late), 1.3 * max(late))
