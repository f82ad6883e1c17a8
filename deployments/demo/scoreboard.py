"""Who was how wrong: the answers of the three, and honest intervals of their differences.

Only rows whose label came are scored, and all three are scored on the same ones. Rows of one day
share its weather or its news, so rows within a day are not independent: the bootstrap draws whole
days (a block bootstrap, Künsch 1989), and the three always keep the same draw (paired).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FROZEN, WEEKLY, EVERFIT = "frozen", "weekly", "everfit"
NAMES = (FROZEN, WEEKLY, EVERFIT)
METRICS = ("log_loss", "roc_auc", "error")  # smaller, larger, smaller is better
_CLIP = 1e-7


@dataclass(frozen=True, slots=True)
class Week:
    """Mean log loss of each over the scored rows of one replayed week (1 is the first)."""

    week: int
    rows: int
    positive: float  # share of the positive class
    loss: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """`value` = metric of `a` minus metric of `b`, with the interval of the day-block bootstrap."""

    metric: str
    a: str
    b: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """A ratio with its bootstrap interval; None where it has no meaning (`reason` says why)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The result over all replayed weeks."""

    rows: int
    days: int
    positive: float  # share of the positive class
    metrics: Mapping[str, Mapping[str, float]]  # metrics[name][metric]
    differences: tuple[Difference, ...]
    gain_share: Share  # share of weekly's log-loss gain over frozen that everfit has
    confidence: float
    resamples: int

    def difference(self, metric: str, a: str, b: str) -> Difference:
        return next(d for d in self.differences if (d.metric, d.a, d.b) == (metric, a, b))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def row_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row, (n,), from 0/1 labels and the probability of 1."""
    p = np.clip(np.asarray(p, dtype=float), _CLIP, 1 - _CLIP)
    return -np.where(np.asarray(y) > 0.5, np.log(p), np.log1p(-p))


def concordance(y: np.ndarray, p: np.ndarray, block: np.ndarray, blocks: int) -> np.ndarray:
    """U[a, b]: pairs of a positive row of block a and a negative row of block b, ranked rightly.

    Ties count one half. For block weights w the ROC AUC is w'Uw / (w'positives * w'negatives)
    (the Mann-Whitney form), so that a resample of blocks costs one small product and no sort.
    """
    positive, negative = y > 0.5, y <= 0.5
    order = np.argsort(p[positive])  # sorted queries make the searches below ten times faster
    mine = block[positive][order]
    scores = p[positive][order]
    U = np.zeros((blocks, blocks))
    for b in range(blocks):
        other = np.sort(p[negative & (block == b)])
        if not len(other) or not len(scores):
            continue
        below = np.searchsorted(other, scores, side="left")
        upto = np.searchsorted(other, scores, side="right")
        U[:, b] = np.bincount(mine, weights=(below + upto) / 2, minlength=blocks)
    return U


class Scoreboard:
    """Collects scored rows day by day; about 40 bytes a row."""

    def __init__(self, days: int) -> None:
        """`days` replayed days; a last week of fewer than four days is counted with the one before
        it, since so few rows say nothing about a week."""
        self.days = days
        whole, rest = divmod(days, 7)
        self.weeks = max(1, whole + (rest >= 4))
        self._day: list[np.ndarray] = []
        self._y: list[np.ndarray] = []
        self._p: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
        self._loss = dict.fromkeys(NAMES, 0.0)  # running sums
        self._rows = 0

    def week_of(self, day: int) -> int:
        """1 for the first seven days."""
        return min(day // 7 + 1, self.weeks)

    def add(self, day: int, y: np.ndarray, p: Mapping[str, np.ndarray]) -> None:
        """The answers to one replayed day: `y` (n,) 1, 0 or NaN (no label ever), `p[name]` (n,)."""
        known = ~np.isnan(y)
        self._day.append(np.full(int(known.sum()), day, dtype=np.int32))
        self._y.append(y[known].astype(np.float32))
        self._rows += int(known.sum())
        for name in NAMES:
            self._p[name].append(np.asarray(p[name], dtype=np.float64)[known])
            self._loss[name] += float(row_loss(self._y[-1], self._p[name][-1]).sum())

    def _all(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        if not self._day or not sum(map(len, self._day)):
            empty = np.zeros(0)
            return empty.astype(int), empty, dict.fromkeys(NAMES, empty)
        return (
            np.concatenate(self._day),
            np.concatenate(self._y),
            {name: np.concatenate(parts) for name, parts in self._p.items()},
        )

    def loss(self) -> dict[str, float]:
        """Mean log loss of each so far; empty before the first scored row."""
        return {n: total / self._rows for n, total in self._loss.items()} if self._rows else {}

    def by_week(self) -> list[Week]:
        day, y, p = self._all()
        week = np.minimum(day // 7 + 1, self.weeks)
        weeks = []
        for number in np.unique(week):
            here = week == number
            loss = {name: float(row_loss(y[here], p[name][here]).mean()) for name in NAMES}
            weeks.append(Week(int(number), int(here.sum()), float(y[here].mean()), loss))
        return weeks

    def table(self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Table:
        """The final comparison. Raises ValueError when no labelled row, or one class only, came."""
        day, y, p = self._all()
        if not len(y) or y.min() == y.max():
            raise ValueError(
                "the table needs labelled rows of both classes, got "
                f"{len(y)} rows: replay more days"
            )
        _, block = np.unique(day, return_inverse=True)
        blocks = int(block.max()) + 1
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
        weights = np.vstack([np.ones(blocks), draws]).astype(float)  # row 0: the rows as they are
        figures = {name: _resampled(y, p[name], block, weights) for name in NAMES}
        pairs = ((WEEKLY, FROZEN), (EVERFIT, FROZEN), (EVERFIT, WEEKLY))
        differences = [
            _difference(metric, a, b, figures[a][metric] - figures[b][metric], confidence)
            for metric in METRICS
            for a, b in pairs
        ]
        loss = {name: figures[name]["log_loss"] for name in NAMES}
        return Table(
            rows=len(y),
            days=blocks,
            positive=float(y.mean()),
            metrics={n: {m: float(figures[n][m][0]) for m in METRICS} for n in NAMES},
            differences=tuple(differences),
            gain_share=_share(loss, confidence),
            confidence=confidence,
            resamples=resamples,
        )


def _resampled(
    y: np.ndarray, p: np.ndarray, block: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Each metric under each row of block weights, (1 + resamples,)."""
    blocks = weights.shape[1]

    def total(values: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(block, weights=values, minlength=blocks)

    rows = total(np.ones(len(y)))
    positives = total((y > 0.5).astype(float))
    U = concordance(y, p, block, blocks)
    pairs = positives * (rows - positives)
    ranked = np.einsum("rb,rb->r", weights @ U, weights)
    # a resample without both classes (only in tiny replays) has no AUC and is left out below
    auc = np.divide(ranked, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)
    return {
        "log_loss": total(row_loss(y, p)) / rows,
        "error": total(((p >= 0.5) != (y > 0.5)).astype(float)) / rows,
        "roc_auc": auc,
    }


def _difference(metric: str, a: str, b: str, values: np.ndarray, confidence: float) -> Difference:
    low, high = _interval(values[1:], confidence)
    return Difference(metric, a, b, float(values[0]), low, high)


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _share(loss: Mapping[str, np.ndarray], confidence: float) -> Share:
    gain = loss[FROZEN] - loss[WEEKLY]
    mine = loss[FROZEN] - loss[EVERFIT]
    if gain[0] <= 0:
        return Share(None, reason="weekly retraining gained nothing over the frozen model")
    value = float(mine[0] / gain[0])
    if np.mean(gain[1:] <= 0) > 0:  # a ratio whose denominator may be 0 has no honest interval
        return Share(value, reason="weekly's gain is too small for an interval")
    return Share(value, *_interval(mine[1:] / gain[1:], confidence))


def headline(table: Table, everfit_retrains: int, weekly_retrains: int) -> Sequence[str]:
    """What the replay showed, in plain sentences, whichever way it went."""
    lines = []
    share = table.gain_share
    if share.value is None:
        lines.append(f"Retraining had nothing to win here: {share.reason}.")
    else:
        interval = (
            f" ({share.low:.0%} to {share.high:.0%})"
            if share.low is not None and share.high is not None
            else f" ({share.reason})"
        )
        lines.append(
            f"everfit has {share.value:.0%}{interval} of the log-loss gain that weekly retraining "
            "has over the frozen model."
        )
    if weekly_retrains:
        lines.append(
            f"It took {everfit_retrains} retrain{'s' * (everfit_retrains != 1)} for that, "
            f"{everfit_retrains / weekly_retrains:.0%} of weekly's {weekly_retrains}."
        )
    worse = table.difference("log_loss", EVERFIT, FROZEN)
    if worse.low > 0:
        lines.append("On these weeks everfit lost to leaving the model alone.")
    elif worse.high > 0:
        lines.append("On these weeks everfit and the frozen model cannot be told apart.")
    behind = table.difference("log_loss", EVERFIT, WEEKLY)
    if behind.low > 0:
        lines.append(
            f"In log loss it does not beat weekly retraining: it is {behind.value:.4f} behind "
            f"({behind.low:.4f} to {behind.high:.4f})."
        )
    elif behind.high < 0:
        lines.append(
            f"In log loss it beats weekly retraining by {-behind.value:.4f} "
            f"({-behind.high:.4f} to {-behind.low:.4f})."
        )
    else:
        lines.append("In log loss it and weekly retraining cannot be told apart.")
    return lines
