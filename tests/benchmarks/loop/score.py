"""The table: who was how wrong at what cost, with intervals from whole blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.errors import DataFault
from models.metrics import per_row_error, per_row_log_loss, roc_auc
from tests.benchmarks.loop.entries import Log
from tests.benchmarks.loop.streams import Stream

AIM_GAIN, AIM_RETRAINS = 0.95, 0.40


def block_losses(stream: Stream, log: Log) -> np.ndarray:
    """Mean log loss of each block, (blocks,)."""
    start = int(stream.edges[0])
    loss = per_row_log_loss(stream.y[start:], log.proba[start:])
    cuts = stream.edges[:-1] - start
    return np.add.reduceat(loss, cuts) / np.diff(stream.edges)


def table(
    stream: Stream,
    logs: Mapping[str, Log],
    *,
    frozen: str,
    schedule: str,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per entry, with its share of the gain: (frozen - entry) / (frozen - schedule).

    The losses are log losses. The share's interval draws whole blocks with replacement, the same
    for all entries (a paired block bootstrap, Künsch 1989); None where the schedule's own gain may
    be nothing.
    """
    start = int(stream.edges[0])
    y, sizes = stream.y[start:], np.diff(stream.edges).astype(float)
    losses = {name: block_losses(stream, log) for name, log in logs.items()}
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sizes), size=(resamples, len(sizes)))
    draws = np.vstack([np.ones_like(sizes), _counts(drawn, len(sizes))])

    def sums(name: str) -> np.ndarray:
        return np.asarray(draws @ (losses[name] * sizes) / (draws @ sizes))

    whole = sums(frozen) - sums(schedule)
    rows = []
    for name, log in logs.items():
        proba = log.proba[start:]
        mine = sums(frozen) - sums(name)
        share, low, high = _share(mine, whole, confidence)
        if name in (frozen, schedule):  # 0 and 1 by definition
            low = high = None
        rows.append(
            {
                "entry": name,
                "log_loss": float(per_row_log_loss(y, proba).mean()),
                "error": float(per_row_error(y, proba).mean()),
                "roc_auc": _auc(y, proba),
                "retrains": log.retrains,
                "refused": sum(not a.passed for a in log.attempts),
                "training_seconds": log.seconds,
                "watching_seconds": log.watching,
                "gain_share": share,
                "gain_low": low,
                "gain_high": high,
                "retrain_share": log.retrains / logs[schedule].retrains
                if logs[schedule].retrains
                else None,
            }
        )
    return rows


def _as_known(row: Mapping[str, Any], stream: Stream) -> str:
    """The count of retrains against the count that is right where nothing does harm."""
    count, shifts = row["retrains"], len(stream.shifts)
    said = f"{row['entry']}: {count} retrain{'s' * (count != 1)}"
    if stream.truth == "still":
        return (
            f"{said}; nothing moves here, so none is right. What a schedule gains here, it gains "
            "from more rows alone"
        )
    right = 0 if "performance-first" in row["entry"] else shifts
    return f"{said}; {shifts} shifts that do no harm, so at most {right} are right"


def _counts(drawn: np.ndarray, n: int) -> np.ndarray:
    """How often each block is in each resample, (b, n)."""
    flat = drawn + n * np.arange(len(drawn))[:, None]
    return np.bincount(flat.ravel(), minlength=len(drawn) * n).reshape(len(drawn), n).astype(float)


def _share(
    mine: np.ndarray, whole: np.ndarray, confidence: float
) -> tuple[float | None, float | None, float | None]:
    if whole[0] <= 0:
        return None, None, None
    value = float(mine[0] / whole[0])
    if (whole[1:] <= 0).any():  # a ratio whose denominator may be 0 has no honest interval
        return value, None, None
    tail = (1 - confidence) / 2
    low, high = np.quantile(mine[1:] / whole[1:], [tail, 1 - tail])
    return value, float(low), float(high)


def _auc(y: np.ndarray, proba: np.ndarray) -> float | None:
    try:
        return roc_auc(y, proba)
    except DataFault:
        return None


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as people read them."""
    lines = [
        f"{'':<27}{'log loss':>9}{'error':>8}{'AUC':>8}{'retrains':>10}{'refused':>9}"
        f"{'training s':>12}{'watching s':>12}  {'share of gain':<22}{'of retrains':>11}"
    ]
    for row in rows:
        share = "" if row["gain_share"] is None else f"{row['gain_share']:.1%}"
        if row["gain_low"] is not None:
            share += f" ({row['gain_low']:.1%} to {row['gain_high']:.1%})"
        auc = "" if row["roc_auc"] is None else f"{row['roc_auc']:.4f}"
        of = "" if row["retrain_share"] is None else f"{row['retrain_share']:.0%}"
        lines.append(
            f"{row['entry']:<27}{row['log_loss']:>9.4f}{row['error']:>8.4f}{auc:>8}"
            f"{row['retrains']:>10}{row['refused']:>9}{row['training_seconds']:>12.1f}"
            f"{row['watching_seconds']:>12.1f}  {share:<22}{of:>11}"
        )
    return "\n".join(lines)


def verdicts(rows: Sequence[Mapping[str, Any]], schedule: str, stream: Stream) -> list[str]:
    """Whether each of everfit's entries reaches the aim, in plain words."""
    lines = []
    for row in rows:
        if not row["entry"].startswith("everfit"):
            continue
        if stream.truth in ("still", "harmless"):
            lines.append(_as_known(row, stream))
            continue
        if row["gain_share"] is None:
            lines.append(
                f"{row['entry']}: '{schedule}' gained nothing over the frozen model here, so there "
                f"is no share of it; {row['retrains']} retrains."
            )
            continue
        parts = []
        if row["gain_share"] < AIM_GAIN:
            parts.append(
                f"short of {AIM_GAIN:.0%} of the gain by {AIM_GAIN - row['gain_share']:.1%}"
            )
        if (row["retrain_share"] or 0) > AIM_RETRAINS:
            parts.append(f"over {AIM_RETRAINS:.0%} of the retrains")
        said = "; ".join(parts) if parts else "reaches the aim"
        lines.append(
            f"{row['entry']}: {said} ({row['gain_share']:.1%} of the gain, "
            f"{row['retrain_share'] or 0:.0%} of the retrains; the aim is {AIM_GAIN:.0%} with at "
            f"most {AIM_RETRAINS:.0%})."
        )
    return lines
