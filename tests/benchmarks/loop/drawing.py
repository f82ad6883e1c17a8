"""Loss over time of every entry, smoothed over five blocks, with a mark for each retrain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.benchmarks.loop.entries import Log
from tests.benchmarks.loop.score import block_losses
from tests.benchmarks.loop.streams import Stream

SMOOTH = 5  # blocks
COLOURS = ("#8a8a8a", "#1f6fb4", "#86b5dc", "#c77d0a", "#1a7f37", "#a23b88")


def draw(stream: Stream, logs: Mapping[str, Log], path: Path) -> Path:
    """Write a PNG: the losses above, below one line of marks per entry (hollow: refused)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11, 6.4), sharex=True, height_ratios=(3.2, 1), layout="constrained"
    )
    blocks = np.arange(1, stream.blocks + 1)
    names = list(logs)
    for row, (name, log) in enumerate(logs.items()):
        colour = COLOURS[row % len(COLOURS)]
        wide = 2.2 if name.startswith("everfit") else 1.4
        upper.plot(
            blocks, smoothed(block_losses(stream, log)), color=colour, label=name, linewidth=wide
        )
        for passed, face in ((True, colour), (False, "none")):
            at = [a.block + 1.5 for a in log.attempts if a.passed is passed]
            lower.scatter(
                at, [row] * len(at), s=26, marker="o", facecolors=face, edgecolors=colour, zorder=3
            )
    for shift in stream.shifts:
        for axes in (upper, lower):
            axes.axvline(shift + 0.5, color="#555555", linestyle=":", linewidth=1)
    upper.set_ylabel(f"log loss, mean of {SMOOTH} blocks")
    upper.set_title(f"{stream.name}: predicted block by block, before its labels came", loc="left")
    upper.legend(frameon=False, ncols=3, fontsize=9)
    lower.set_yticks(range(len(names)), names, fontsize=9)
    lower.margins(y=0.15)
    lower.invert_yaxis()
    lower.set_xlabel(
        f"blocks of {stream.block:,} rows; a dot is a retrain, a hollow one was refused"
    )
    for axes in (upper, lower):
        axes.grid(axis="x", color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def smoothed(values: np.ndarray, width: int = SMOOTH) -> np.ndarray:
    """Centred moving mean, shorter at the ends."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    n, half = len(values), width // 2
    low = np.maximum(np.arange(n) - half, 0)
    high = np.minimum(np.arange(n) + half + 1, n)
    return np.asarray((sums[high] - sums[low]) / (high - low))
