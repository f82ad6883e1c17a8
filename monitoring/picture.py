"""The picture of a shift: where current rows lie among reference rows, and what moved.

On the left every row is a point, placed by t-SNE (van der Maaten and Hinton 2008) after a principal
component analysis, from all columns together, each with a like say: two colours that mix mean that
nothing moved, islands of one colour that something did. On the right are the most moved columns,
before and after, each under the sentence that says how.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.embedding import Embedding, numbers, texts
from monitoring.errors import WindowFault
from monitoring.movement import Movement
from monitoring.phrasing import figure, percent

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# Okabe and Ito's colours, apart for every common kind of colour blindness; marks and hatches tell
# the sides apart without colour too.
_BEFORE, _AFTER = "#0072B2", "#D55E00"
_INK, _QUIET, _FAINT = "#1f2328", "#6e7278", "#d8dce0"
_PIXELS_PER_INCH = 150
_DIMENSIONS = 30  # kept by the PCA
_PANELS = 6
_BARS = 5
_PANELS_FROM = 0.49  # of the width; names of values stand left of it
_LINE = 43  # characters of a title over half the width
_NAME = 20  # of a column's name in it


def draw_shift(
    reference: pd.DataFrame | None,
    current: pd.DataFrame | None,
    columns: Mapping[str, str],
    path: Path,
    *,
    moved: Sequence[Movement] = (),
    embeddings: tuple[Any, Any] | None = None,
    title: str = "Reference and current rows",
    rows: int = 600,
    seed: int = 0,
) -> Path:
    """Write a PNG, 1,800 pixels wide (1,200 without `moved`), and return its path.

    At most `rows` rows of each side become points, drawn without replacement by `seed`; equal seeds
    give equal pictures. `moved` are `monitoring.movement.movements` of the same rows, of which the
    first six are drawn. `embeddings`: points of both sides, (m, d) and (n, d), of texts or anything
    else that has no columns; then the frames may be None, and what they hold is drawn on the right
    only. Takes about 3 s. Raises WindowFault for fewer than 2 rows on a side.
    """
    canvas = compose(reference, current, columns, moved, embeddings, title, rows, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # a name in letters that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        canvas.savefig(path, facecolor="white")
    return path


def compose(
    reference: pd.DataFrame | None,
    current: pd.DataFrame | None,
    columns: Mapping[str, str],
    moved: Sequence[Movement],
    embeddings: tuple[Any, Any] | None,
    title: str,
    rows: int,
    seed: int,
) -> Any:
    """The matplotlib figure that `draw_shift` saves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, late, counts = _points(reference, current, columns, embeddings, rows, seed)
    panels = list(moved[:_PANELS])
    if panels and (reference is None or current is None):
        raise WindowFault("movements are drawn from the rows that moved: give both frames")
    # two columns of panels; without any, the points have the picture to themselves
    width, height = (12.0, 6.6) if panels else (8.0, 7.0)
    canvas = Figure(figsize=(width, height), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(canvas)
    left = canvas.add_gridspec(
        1, 1, left=0.03, right=0.405 if panels else 0.97, top=1 - 1.05 / height, bottom=0.05
    )
    _cloud(canvas.add_subplot(left[0]), points, late, rng=np.random.default_rng(seed))
    if panels:
        across = 1 if len(panels) <= 3 else 2
        deep = max(2, -(-len(panels) // across))
        right = canvas.add_gridspec(
            deep, across, left=_PANELS_FROM, right=0.985, top=1 - 1.35 / height, bottom=0.095,
            hspace=0.38 + 0.12 * deep, wspace=0.3,
        )  # fmt: skip
        for i, one in enumerate(panels):
            assert reference is not None
            assert current is not None
            line = _LINE * 2 if across == 1 else _LINE
            _panel(
                canvas.add_subplot(right[i // across, i % across]), one, reference, current, line
            )
    _words(canvas, title, counts, width, height, len(panels), len(moved))
    return canvas


def _points(
    reference: pd.DataFrame | None,
    current: pd.DataFrame | None,
    columns: Mapping[str, str],
    embeddings: tuple[Any, Any] | None,
    rows: int,
    seed: int,
) -> tuple[Floats, NDArray[np.bool_], tuple[int, int]]:
    """Places on the plane (N, 2), which of them are current, and how many rows there were."""
    rng = np.random.default_rng(seed)
    sides: tuple[Any, Any] = (reference, current) if embeddings is None else embeddings
    if sides[0] is None or sides[1] is None:
        raise WindowFault("a picture needs rows of both sides, or their embeddings: give them")
    counts = len(sides[0]), len(sides[1])
    if min(counts) < 2:
        raise WindowFault(f"a picture needs at least 2 rows on each side, got {counts}: wait")
    picked = [np.sort(rng.permutation(count)[:rows]) for count in counts]
    if embeddings is None:
        x, y = (side.iloc[rows] for side, rows in zip(sides, picked, strict=True))
        embedding = Embedding.fit(x, columns)
        parts: list[Any] = [embedding.transform(side) for side in (x, y)]
    else:
        parts = [np.asarray(s, dtype=np.float64)[p] for s, p in zip(sides, picked, strict=True)]
        if parts[0].ndim != 2 or parts[0].shape[1:] != parts[1].shape[1:]:
            raise WindowFault(
                "embeddings must be two arrays (rows, dimensions) of equally many dimensions, got "
                f"{np.shape(sides[0])} and {np.shape(sides[1])}: correct them"
            )
    late = np.repeat([False, True], [len(part) for part in parts])
    return _flat(np.nan_to_num(np.concatenate(parts)), seed), late, counts


def _flat(coordinates: Floats, seed: int) -> Floats:
    """PCA to at most 30 dimensions, then t-SNE to two, from the first two components."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):  # the same picture on any machine
        size = min(_DIMENSIONS, *coordinates.shape)
        if not np.ptp(coordinates, axis=0).any():
            return np.zeros((len(coordinates), 2))
        reduced = np.asarray(PCA(size, random_state=seed).fit_transform(coordinates))
        if size < 2 or len(reduced) < 8:
            return np.asarray(np.c_[reduced, np.zeros((len(reduced), 2))][:, :2])
        spread = float(reduced[:, 0].std())
        # equal rows would lie on one spot, where nobody can see how many they are
        noise = np.random.default_rng(seed).normal(size=reduced.shape)
        return np.asarray(
            TSNE(
                perplexity=min(30.0, (len(reduced) - 1) / 4), init="pca", random_state=seed,
                n_jobs=1, max_iter=750,
            ).fit_transform(reduced + 1e-3 * spread * noise),
            dtype=np.float64,
        )  # fmt: skip


def _cloud(axes: Any, points: Floats, late: NDArray[np.bool_], rng: np.random.Generator) -> None:
    for part in np.array_split(rng.permutation(len(points)), 12):  # neither side hides the other
        for after, marker, size in ((False, "o", 17), (True, "^", 19)):
            mine = part[late[part] == after]
            axes.scatter(
                points[mine, 0], points[mine, 1], s=size, marker=marker, linewidth=0.35,
                color=_AFTER if after else _BEFORE, edgecolor="white", alpha=0.72,
            )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.03)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)


def _panel(
    axes: Any, one: Movement, reference: pd.DataFrame, current: pd.DataFrame, line: int
) -> None:
    said = one.sentence.removeprefix(f"{one.column}: ").replace("->", "\u2192")
    said = f"{_short(one.column, _NAME)}: {said}"
    lines = textwrap.wrap(said, line, max_lines=2, placeholder=" …")
    axes.set_title("\n".join(lines), loc="left", fontsize=8, color=_INK, pad=5, parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#9aa0a6")
    axes.tick_params(length=0, labelsize=7.5, colors=_INK)
    before, after = reference[one.column], current[one.column]
    if one.kind == "number":
        x, y = numbers(before), numbers(after)
        x, y = x[np.isfinite(x)], y[np.isfinite(y)]
        values = np.unique(np.r_[x, y])
        if len(values) > 2:
            _histogram(axes, x, y, values)
        else:
            shares = [{figure(v): float((s == v).mean()) for v in values} for s in (x, y)]
            _bars(axes, *shares)
    elif isinstance(one.before, Mapping) and isinstance(one.after, Mapping):
        _bars(axes, one.before, one.after)
    elif one.kind == "missing":
        _bars(axes, {"missing": one.before}, {"missing": one.after})  # type: ignore[dict-item]
    else:
        known, fresh = texts(before).dropna().unique(), texts(after).dropna()
        counts = fresh[~fresh.isin(known)].value_counts() / len(after)
        now = {str(value): float(share) for value, share in counts.items()}
        _bars(axes, dict.fromkeys(now, 0.0), now)


def _histogram(axes: Any, x: Floats, y: Floats, values: Floats) -> None:
    """Shares of known values in common bins; the ends take what lies beyond."""
    few = len(values) <= 12  # counts and codes: a bin for each
    low, high = np.quantile(np.r_[x, y], [0.005, 0.995])
    if few or not high > low:
        values = values[:12]
        gap = float(np.diff(values).min())
        edges = np.r_[values[0] - gap / 2, (values[1:] + values[:-1]) / 2, values[-1] + gap / 2]
    else:
        edges = np.linspace(low, high, 25)
    for side, colour, filled in ((x, _BEFORE, True), (y, _AFTER, False)):
        share = np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / max(len(side), 1)
        if filled:
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.32, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=0.9 if filled else 1.6)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.yaxis.set_visible(False)
    if few and len(values) <= 6:
        axes.set_xticks(values, [figure(v) for v in values])
    else:
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: figure(value))


def _bars(axes: Any, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """The values whose shares moved most, the most frequent on top, each bar with its share."""
    names = sorted(before, key=lambda v: (-abs(after[v] - before[v]), v))[:_BARS]
    names.sort(key=lambda v: (-(before[v] + after[v]), v))
    places = np.arange(len(names))[::-1]
    top = max([*before.values(), *after.values(), 1e-9])
    for shares, colour, shift in ((before, _BEFORE, 0.2), (after, _AFTER, -0.2)):
        values = [shares[v] for v in names]
        filled = colour == _BEFORE  # as in the histograms: reference filled, current a line
        axes.barh(
            places + shift, values, height=0.36, facecolor=colour, alpha=0.4 if filled else 1.0
        )
        for y, value in zip(places + shift, values, strict=True):
            axes.text(value + 0.015 * top, y, percent(value), va="center", fontsize=6.8, color=_INK)
    axes.set_yticks(places, [_short(v, 12) for v in names], parse_math=False)
    middle, room = (len(names) - 1) / 2, max(len(names), 3) / 2 + 0.1
    axes.set_ylim(middle - room, middle + room)
    axes.set_xlim(0, 1.12 * top)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color("#9aa0a6")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _words(
    canvas: Any,
    title: str,
    counts: tuple[int, int],
    width: float,
    height: float,
    panels: int,
    moved: int,
) -> None:
    canvas.text(
        0.03, 1 - 0.42 / height, title, fontsize=14, fontweight="bold", color=_INK, parse_math=False
    )
    line = 1 - 0.76 / height
    axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0), frameon=False, zorder=-1)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    x = 0.03 + 0.08 / width
    for word, colour, marker, count in (
        ("reference", _BEFORE, "o", counts[0]), ("current", _AFTER, "^", counts[1])
    ):  # fmt: skip
        text = f"{word}, {count:,} rows"
        axes.scatter([x], [line + 0.055 / height], s=44, marker=marker, color=colour)
        canvas.text(x + 0.13 / width, line, text, fontsize=10, color=colour, fontweight="bold")
        x += (0.4 + 0.095 * len(text)) / width
    note = "t-SNE: near means alike in all columns together; directions and axes have no unit"
    canvas.text(0.03, 0.05 - 0.2 / height, note, fontsize=8, color=_QUIET)
    if panels:
        rest = f", the first {panels} of {moved}" if moved > panels else ""
        canvas.text(
            _PANELS_FROM, line, f"What moved most{rest}", fontsize=10, fontweight="bold", color=_INK
        )
        note = "Shares of rows with a value; filled: reference, line or full bar: current"
        canvas.text(_PANELS_FROM, 0.05 - 0.2 / height, note, fontsize=8, color=_QUIET)
